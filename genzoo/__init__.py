"""A model zoo of image generators: checkpoint, ONNX, TensorRT, Triton, and a measured point for each."""
