"""What the files in the folders of a checkpoint, a bundle and an engine are called, for all who write or read them."""

from __future__ import annotations

import re

CONFIG = "config.json"  # of a checkpoint: what builds it, and where it came from
WEIGHTS = "model.safetensors"  # of a checkpoint and of a bundle
RECEIPTS = "receipts.jsonl"  # of a checkpoint: who vouches for what was measured of it
BUNDLE_FORMAT = "genzoo-bundle/2"
# The first has no columns for what is known of an image, and its guidance is the same at every row.
FIRST_BUNDLE_FORMAT = "genzoo-bundle/1"
BUNDLE_MANIFEST = "manifest.json"  # what a bundle is, with the digest of every other file
VERDICT = "gate.json"  # of the gate, on a bundle
RECORD = ".json"  # after the name of a plan: what it was built from
ASSET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.(?:json|safetensors)")  # of a checkpoint and of its bundles
ADMISSION = ".gate.json"  # after the name of a plan: on which GPUs the gate admitted it


def is_asset(name: object) -> bool:
    """Whether a file of this name can be an asset: one of a folder's own, and none of those above."""
    taken = (CONFIG, WEIGHTS, BUNDLE_MANIFEST, VERDICT)
    return isinstance(name, str) and ASSET.fullmatch(name) is not None and name not in taken
