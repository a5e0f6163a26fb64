"""What the files in the folders of a checkpoint, a bundle and an engine are called, for all who write or read them."""

from __future__ import annotations

CONFIG = "config.json"  # of a checkpoint: what builds it, and where it came from
WEIGHTS = "model.safetensors"  # of a checkpoint and of a bundle
BUNDLE_MANIFEST = "manifest.json"  # what a bundle is, with the digest of every other file
VERDICT = "gate.json"  # of the gate, on a bundle
RECORD = ".json"  # after the name of a plan: what it was built from
ADMISSION = ".gate.json"  # after the name of a plan: on which GPUs the gate admitted it
