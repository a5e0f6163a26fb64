"""The feature nets that judge, run by ONNX Runtime, and what they saw in real pictures.

    benchmarks/quality/judges/<dataset>/<name>/
        model.onnx              uint8 NHWC -> `features` (`logits`, where it tells a condition; `maps_0`, ... of its
                                depths, where it has some); its weights are
        model.safetensors       float16
        reference.safetensors   features (and logits) of all test pictures, moments of all training pictures
        reference-<dataset>.safetensors     the same of each other data set that the net judges
        config.json, README.md  digests, recipe, measurements; the card

With the references at hand, quality is measured on machines that do not have the data set.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from benchmarks.quality import judges
from benchmarks.quality.distances import Moments
from zoo import files
from zoo.errors import GenzooError

BATCH = 250


class FeatureNetError(GenzooError):
    """A feature net or its reference is missing or altered."""


@dataclass(frozen=True)
class View:
    """What one net sees in a sample: `features` (N, D) float32, and where it tells a condition, `logits` (N, K)."""

    features: np.ndarray
    predicted: np.ndarray | None = None  # (N,) int64
    logits: np.ndarray | None = None


@dataclass(frozen=True)
class Reference:
    """What one net sees in real pictures; the test pictures come in the data set's order, with what it would tell."""

    train: Moments
    test: View
    truth: np.ndarray | None  # (N,) of the test pictures; None where the data set has no labels
    digest: str


@dataclass(frozen=True)
class Added:
    """A net that is no file of the zoo: what it sees, what it saw in real pictures, and its digests as `config`."""

    net: Callable[[np.ndarray], View]
    reference: Reference
    config: dict[str, Any]


_added: dict[str, dict[str, Added]] = {}  # by its name, by the data set that it saw


def add(name: str, dataset: str, net: Added) -> None:
    """From here on a net can be asked for by that name, of that data set, in this process."""
    _added.setdefault(name, {})[dataset] = net
    reference.cache_clear()


def config(name: str) -> dict[str, Any]:
    """The `config.json` of a judge, once the files that it names have their digests. Raises FeatureNetError."""
    folder = judges.folder(name)
    try:
        found: dict[str, Any] = json.loads((folder / "config.json").read_text())
        seen = {file: files.sha256(folder / file) for file in found["files"]}
    except (OSError, ValueError) as error:
        raise FeatureNetError(
            f"feature net {name}: {folder} is not readable ({error}); `genzoo train-features {name}` makes it"
        ) from error
    for file, expected in found["files"].items():
        if seen[file] != expected:
            raise FeatureNetError(
                f"feature net {name}: {folder / file} has sha256 {seen[file][:12]}, expected {expected[:12]}; "
                "it was altered, restore it from the repository"
            )
    return found


def digests(name: str, dataset: str) -> dict[str, str]:
    """The files of a judge, as far as they decide what it says of a data set's pictures. Raises FeatureNetError."""
    if name in _added:
        return dict(_added[name][dataset].config["files"])
    own, found = reference_file(name, dataset), config(name)["files"]
    return {file: digest for file, digest in found.items() if not file.startswith("reference") or file == own}


def reference_file(name: str, dataset: str) -> str:
    """Where what a net saw in a data set lies in its folder."""
    return "reference.safetensors" if dataset == judges.dataset_of(name) else f"reference-{dataset}.safetensors"


class FeatureNet:
    """`net(images)`: uint8 (N, H, W, C) -> View."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        outputs = [output.name for output in self.session.get_outputs()]
        self.depths = [name for name in outputs if name.startswith("maps_")]
        self.seen = [name for name in outputs if name not in self.depths]

    def maps(self, images: np.ndarray) -> list[np.ndarray]:
        """float32 (N, C, H, W) of each depth; all at once, so give few images. Empty for a net that shows none."""
        return list(self.session.run(self.depths, {"images": images})) if self.depths else []

    def __call__(self, images: np.ndarray) -> View:
        parts = [self.session.run(self.seen, {"images": images[i : i + BATCH]}) for i in range(0, len(images), BATCH)]
        features, *logits = (np.concatenate(column) for column in zip(*parts, strict=True))
        return View(features, logits[0].argmax(1), logits[0]) if logits else View(features)


@lru_cache
def load(name: str) -> FeatureNet:
    """A verified net. Raises FeatureNetError."""
    config(name)
    return FeatureNet(judges.folder(name) / "model.onnx")


@lru_cache
def reference(name: str, dataset: str = "") -> Reference:
    """What a net saw in a data set, that whose folder it is in where none is named. Raises FeatureNetError."""
    if name in _added:
        return _added[name][dataset].reference
    file = reference_file(name, dataset or judges.dataset_of(name))
    digest = config(name)["files"].get(file)
    if digest is None:
        raise FeatureNetError(
            f"feature net {name} has not seen {dataset}: `genzoo train-features {name} --reference {dataset}` shows it"
        )
    tensors = load_file(judges.folder(name) / file)
    logits = tensors["test_logits"].astype(np.float32) if "test_logits" in tensors else None
    test = View(tensors["test_features"].astype(np.float32), tensors.get("test_predicted"), logits)
    train = Moments(tensors["train_mean"], tensors["train_covariance"])
    return Reference(train, test, tensors.get("class_ids"), digest)


def enlarged(images: np.ndarray, size: int) -> np.ndarray:
    """Smaller images, (N, H, W, C), at about that height, by nearest neighbours."""
    factor = max(1, size // images.shape[1])
    return images.repeat(factor, axis=1).repeat(factor, axis=2)


def look(images: np.ndarray, nets: Iterable[str]) -> dict[str, View]:
    """What each net sees in uint8 (N, H, W, C) images."""
    return {name: _net(name)(images) for name in nets}


def _net(name: str) -> Callable[[np.ndarray], View]:
    return next(iter(_added[name].values())).net if name in _added else load(name)
