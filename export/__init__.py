"""Checkpoint -> ONNX graphs -> bundle -> engine, the runners that run them, and the gate that admits them."""
