"""The two feature nets, run by ONNX Runtime, and what they saw in real pictures.

    benchmarks/quality/feature_nets/<name>/
        model.onnx              uint8 NHWC -> `features` (and the classifier's `logits`); its weights are
        model.safetensors       float16
        reference.safetensors   features of the 10,000 test pictures, moments of the 60,000 training pictures
        config.json, README.md  digests, recipe, measurements; the card

With the references at hand, quality is measured on machines that do not have the data set.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from benchmarks.statistics import Moments
from zoo import files
from zoo.errors import GenzooError

FOLDER = Path(__file__).parent / "feature_nets"
NETS = ("classifier", "critic")
JUDGE = "classifier"  # whose logits decide conditional accuracy
BATCH = 250
IMAGE_SHAPE = (32, 32, 1)  # what the nets were trained on; other images have no measured quality


class FeatureNetError(GenzooError):
    """A feature net or its reference is missing or altered."""


@dataclass(frozen=True)
class View:
    """What one net sees in a sample: `features` (N, D) float32; `predicted` (N,) int64 where it knows classes."""

    features: np.ndarray
    predicted: np.ndarray | None = None


@dataclass(frozen=True)
class Reference:
    """What one net sees in real pictures; the test pictures come in the data set's order, with their classes."""

    train: Moments
    test: View
    class_ids: np.ndarray
    digest: str


def config(name: str) -> dict[str, Any]:
    """The `config.json` of a feature net, once the files that it names have their digests. Raises FeatureNetError."""
    folder = FOLDER / name
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


class FeatureNet:
    """`net(images)`: uint8 (N, 32, 32, 1) -> View."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def __call__(self, images: np.ndarray) -> View:
        parts = [self.session.run(None, {"images": images[i : i + BATCH]}) for i in range(0, len(images), BATCH)]
        features, *logits = (np.concatenate(column) for column in zip(*parts, strict=True))
        return View(features, logits[0].argmax(1) if logits else None)


def knows(image_shape: tuple[int, ...]) -> bool:
    """Whether the nets can judge images of that shape, HWC."""
    return image_shape == IMAGE_SHAPE


@lru_cache
def load(name: str) -> FeatureNet:
    """A verified net. Raises FeatureNetError."""
    config(name)
    return FeatureNet(FOLDER / name / "model.onnx")


@lru_cache
def reference(name: str) -> Reference:
    """What a net saw in the data set. Raises FeatureNetError."""
    digest = config(name)["files"]["reference.safetensors"]
    tensors = load_file(FOLDER / name / "reference.safetensors")
    test = View(tensors["test_features"].astype(np.float32), tensors.get("test_predicted"))
    return Reference(Moments(tensors["train_mean"], tensors["train_covariance"]), test, tensors["class_ids"], digest)


def enlarged(images: np.ndarray) -> np.ndarray:
    """Smaller images, (N, H, W, C), at the size that the nets know, by nearest neighbours."""
    factor = max(1, IMAGE_SHAPE[0] // images.shape[1])
    return images.repeat(factor, axis=1).repeat(factor, axis=2)


def look(images: np.ndarray) -> dict[str, View]:
    """What every net sees in uint8 (N, 32, 32, 1) images."""
    return {name: load(name)(images) for name in NETS}
