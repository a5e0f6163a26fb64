"""Artifacts by digest: how files are named, kept, verified, fetched and signed. Knows nothing of generators."""
