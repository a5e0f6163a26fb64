"""The parts of pipelines that others trained, as graphs take them, around networks of diffusers and transformers."""
