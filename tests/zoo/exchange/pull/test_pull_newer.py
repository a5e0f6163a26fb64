"""What a newer genzoo made is refused while it is pulled, by the name of what is not known here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.zoo.pulling import Artifact, refusal
from zoo.contract.layout import BUNDLE_FORMAT, BUNDLE_MANIFEST, CONFIG
from zoo.exchange.contents import ContentError, check_bundle
from zoo.store.artifact import Kind, Manifest, describe
from zoo.store.remotes import Remote

SPEC = {"family": "vae", "noise": [{"name": "noise", "shape": [4]}], "image_shape": [8, 8, 1]}


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"conditions": [{"name": "smell", "kind": "odour", "options": {}}]}, "condition smell is of kind 'odour'"),
        ({"conditions": [{"name": "prompt", "kind": "text", "options": {"length": 9, "accent": 1}}]}, "has 'accent'"),
        ({"axes": [{"name": "depth", "minimum": 9, "default": 8, "maximum": 8}]}, "the axis depth has no size"),
        ({"sampling": {"samplers": ["dreams"]}}, "its sampling is unknown here"),
    ],
)
def test_a_generator_that_says_what_is_not_known_here(
    toy: Artifact, remote: Remote, spec: dict[str, object], sentence: str
) -> None:
    path = toy.folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | SPEC | spec))
    toy.push(remote)
    refused = refusal([remote])
    assert sentence in refused
    assert "toy is described by what is not known here" in refused


@pytest.mark.parametrize("found", ["genzoo-bundle/3", None, 7])
def test_a_bundle_of_another_format(tmp_path: Path, found: object) -> None:
    (tmp_path / BUNDLE_MANIFEST).write_text(json.dumps({"format": found, "spec": {"name": "toy"}}))
    manifest = Manifest(
        "toy.bundle.fp32", Kind.BUNDLE, 1, "mit", (describe(tmp_path / BUNDLE_MANIFEST, BUNDLE_MANIFEST),)
    )
    with pytest.raises(ContentError, match=f"{BUNDLE_FORMAT!r} is the newest that is read here"):
        check_bundle(manifest, tmp_path, "toy")
