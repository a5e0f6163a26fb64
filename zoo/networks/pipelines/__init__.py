"""The parts of pipelines that others trained, as graphs take them: around networks that diffusers and transformers build."""
