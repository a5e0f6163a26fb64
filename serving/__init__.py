"""Bundle -> Triton model repository -> server -> client; the command line for them; deployment files."""
