"""Feature nets that a user has as files: an Inception, DINOv2 or CLIP image encoder in ONNX, never downloaded.

Beside `encoder.onnx` lies `encoder.json`, which says how the net wants to be given a picture:

    {
        "name": "dinov2",                       the word that metrics end in: fd_2k_dinov2
        "sha256": "...",                        of encoder.onnx
        "size": 224,                            height and width that pictures are resized to, bicubic with antialiasing
        "layout": "NCHW",                       or "NHWC"
        "mean": [0.485, 0.456, 0.406],          subtracted from values in [0, 1]; as many as the net has channels
        "std": [0.229, 0.224, 0.225],           divided by
        "output": "last_hidden_state",          of the graph; left out: the first
        "pool": "first"                         of (N, T, D) the first token or the "mean"; of (N, C, H, W) the "mean"
    }

What the net sees in a data set's real pictures is calculated once and kept in home()/nets by the digest of both.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from benchmarks.quality import features, judges
from benchmarks.quality.distances import Moments
from benchmarks.quality.features import Reference, View
from benchmarks.quality.judges import Judges, Net
from zoo import files
from zoo.datasets import dataset
from zoo.errors import GenzooError
from zoo.files import home

BATCH = 50
CHUNK = 1_000  # real pictures between two saved states
LAYOUTS, POOLS = ("NCHW", "NHWC"), ("first", "mean")


class ExternalNetError(GenzooError):
    """A user's feature net that cannot be used: its file, its description, or what it gives."""


@dataclass(frozen=True)
class Description:
    """What `encoder.json` says."""

    name: str
    sha256: str
    size: int
    layout: str = "NCHW"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    output: str = ""
    pool: str = ""

    def faults(self) -> list[str]:
        """What is wrong with it, a clause each."""
        rules = {
            f"name {self.name!r}, expected small letters, digits and _": re.fullmatch(
                "[a-z][a-z0-9_]*", str(self.name)
            ),
            f"sha256 {self.sha256!r}, expected 64 hex digits": re.fullmatch("[0-9a-f]{64}", str(self.sha256)),
            f"size {self.size!r}, expected 8 to 1024": isinstance(self.size, int) and 8 <= self.size <= 1024,
            f"layout {self.layout!r}, expected NCHW or NHWC": self.layout in LAYOUTS,
            f"mean {self.mean} and std {self.std}, expected 1 or 3 numbers each, std positive": (
                len(self.mean) == len(self.std) in (1, 3) and all(value > 0.0 for value in self.std)
            ),
            f"pool {self.pool!r}, expected first or mean": self.pool in ("", *POOLS),
        }
        return [fault for fault, holds in rules.items() if not holds]


def describe(path: Path) -> Description:
    """What lies beside the net in `path`, once it and the net's digest were checked. Raises ExternalNetError."""
    beside = path.with_suffix(".json")
    fields = [field.name for field in dataclasses.fields(Description)]
    try:
        said: dict[str, Any] = json.loads(beside.read_text())
        unknown = sorted(set(said) - set(fields))
        if unknown:
            raise ExternalNetError(f"{beside} has {unknown[0]!r}: expected some of {', '.join(fields)}")
        values: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in said.items()}
        found = Description(**values)
        faults = found.faults()
    except (OSError, ValueError, TypeError) as error:
        raise ExternalNetError(f"{beside} does not describe {path.name} ({error}): give {', '.join(fields)}") from error
    if faults:
        raise ExternalNetError(f"{beside} has {faults[0]}: correct it")
    if not path.is_file():
        raise ExternalNetError(f"{path} is not there, though {beside} is: put the net beside it")
    if (seen := files.sha256(path)) != found.sha256:
        raise ExternalNetError(
            f"{path} has sha256 {seen[:12]}, expected {found.sha256[:12]} by {beside.name}: get the file again, or "
            "correct the digest if you trust it"
        )
    if found.name in dict(judges.everybody()):
        raise ExternalNetError(f"{beside} has name {found.name!r}, which a judge of the zoo has: choose another")
    return found


class ExternalNet:
    """`net(images)`: uint8 (N, H, W, C) -> View. Raises ExternalNetError for a file that is no such net."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self.description = describe(path)
        self.path = path
        try:
            self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own errors share no base but this
            reason = str(error).splitlines()[0]
            raise ExternalNetError(f"{path} does not load in ONNX Runtime ({reason}): give an ONNX graph") from error
        inputs, outputs = self.session.get_inputs(), [output.name for output in self.session.get_outputs()]
        if len(inputs) != 1:
            raise ExternalNetError(f"{path} has {len(inputs)} inputs, expected 1: give an image encoder alone")
        self.input = inputs[0].name
        self.output = self.description.output or outputs[0]
        if self.output not in outputs:
            raise ExternalNetError(f"{path} has no output {self.output!r}: choose one of {', '.join(outputs)}")
        self(np.zeros((1, self.description.size, self.description.size, 1), np.uint8))

    def __call__(self, images: np.ndarray) -> View:
        return View(np.concatenate([self._see(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]))

    def _see(self, images: np.ndarray) -> np.ndarray:
        given = prepared(images, self.description)
        try:
            [found] = self.session.run([self.output], {self.input: given})
        except Exception as error:
            raise ExternalNetError(
                f"{self.path} does not take {'x'.join(map(str, given.shape))} ({str(error).splitlines()[0]}): correct "
                f"size, layout or mean in {self.path.with_suffix('.json').name}"
            ) from error
        if found.ndim == 3 and self.description.pool:
            found = found[:, 0] if self.description.pool == "first" else found.mean(1)
        elif found.ndim == 4 and self.description.pool == "mean":
            found = found.mean((2, 3))
        if found.ndim != 2 or len(found) != len(images):
            raise ExternalNetError(
                f"{self.path} gives {self.output} of {'x'.join(map(str, found.shape))} for {len(images)} images, "
                f"expected {len(images)}xD: choose another output, or say how to pool it"
            )
        return np.asarray(found, dtype=np.float32)


def prepared(images: np.ndarray, description: Description) -> np.ndarray:
    """uint8 (N, H, W, C), of 1 or 3 channels, as the net wants them: float32 in its size, layout and scale."""
    from PIL import Image

    mode = "L" if len(description.mean) == 1 else "RGB"
    side = (description.size, description.size)
    resized = [
        np.asarray(Image.fromarray(image.squeeze()).convert(mode).resize(side, Image.Resampling.BICUBIC))
        for image in images
    ]
    values = np.stack(resized).reshape(len(images), *side, -1).astype(np.float32) / 255.0
    mean, std = (np.array(each, np.float32) for each in (description.mean, description.std))
    scaled = (values - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2) if description.layout == "NCHW" else scaled)


def reference(net: ExternalNet, name: str) -> Reference:
    """What a net sees in a data set's pictures, kept by digest; a calculation that was interrupted goes on.

    Raises DatasetError where the data set is not here.
    """
    known = dataset(name)
    unseen = known.load("test", None)
    pictures = blake3(np.ascontiguousarray(unseen.images).data).hexdigest()
    digest = files.identify([dataclasses.asdict(net.description), known.name, pictures])
    folder = home() / "nets" / digest
    done, state = folder / "reference.safetensors", folder / "state.safetensors"
    tensors = _read(done)
    if not tensors:
        tensors = _look_at_all(net, known.load("train", None).images, unseen.images, state)
        _write(done, tensors)
        state.unlink(missing_ok=True)
    count, total = tensors["count"][0], tensors["sum"]
    mean = total / count
    covariance = (tensors["products"] - np.outer(total, mean)) / (count - 1.0)
    test = View(tensors["test"].astype(np.float32))
    teller = judges.of(name).teller
    truth = np.asarray(unseen.conditions[teller.tells]) if teller else None
    return Reference(Moments(mean, covariance), test, truth, digest)


def _look_at_all(net: ExternalNet, train: np.ndarray, test: np.ndarray, state: Path) -> dict[str, np.ndarray]:
    """Sums over the training pictures and the features of the test pictures, a chunk at a time, with a bar."""
    from rich.console import Console
    from rich.progress import track

    chunks: list[tuple[str, np.ndarray]] = [
        (split, images[start : start + CHUNK])
        for split, images in (("train", train), ("test", test))
        for start in range(0, len(images), CHUNK)
    ]
    found = _read(state)
    begun = int(found["chunks"][0]) if found else 0
    bar = {"description": f"{net.description.name} looks at real pictures", "console": Console(stderr=True)}
    for at, (split, images) in enumerate(track(chunks[begun:], **bar), begun):  # type: ignore[arg-type]
        seen = net(images).features.astype(np.float64)
        if not found:
            width = seen.shape[1]
            found = {"count": np.zeros(1), "sum": np.zeros(width), "products": np.zeros((width, width))}
            found["test"] = np.zeros((0, width), np.float16)
        if split == "train":
            found["count"] = found["count"] + len(seen)
            found["sum"] = found["sum"] + seen.sum(0)
            found["products"] = found["products"] + seen.T @ seen
        else:
            found["test"] = np.concatenate([found["test"], seen.astype(np.float16)])
        found["chunks"] = np.array([at + 1])
        _write(state, found)
    return found


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError):
        return {}


def _write(path: Path, tensors: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic(path) as temporary:
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, temporary)


def with_nets(who: Judges, paths: Sequence[Path]) -> Judges:
    """The same judges and a user's nets, which from here on every metric of features is measured in, too.

    What they see in real pictures is calculated now where it is not kept. Raises ExternalNetError, DatasetError.
    """
    shape = dataset(who.dataset).image_shape
    for path in paths:
        net = ExternalNet(path)
        seen = reference(net, who.dataset)
        config: dict[str, Any] = {"files": {"model.onnx": net.description.sha256, "reference": seen.digest}}
        features.add(net.description.name, who.dataset, features.Added(net, seen, config))
        who = dataclasses.replace(who, nets=(*who.nets, Net(net.description.name, shape, sees=f"as {path.name} does")))
    return who
