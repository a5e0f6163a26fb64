"""Fashion-MNIST (Xiao et al. 2017, MIT licence): 60,000 / 10,000 grey pictures of clothes in ten classes, 32x32.

Found in the Debian package `dataset-fashion-mnist`, in a directory, or below a URL; every file is checked by digest.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

from zoo import store
from zoo.errors import GenzooError

NAME = "fashion_mnist"
LICENCE = "MIT"
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
SIZE = 32
DEBIAN_DIRECTORY = Path("/usr/share/datasets/fashion-mnist")
SOURCE_VARIABLE = "GENZOO_FASHION_MNIST"
DIGESTS = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    "t10k-labels-idx1-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
}


class DatasetError(GenzooError):
    """The data set is missing, or a file of it is not the published one."""


def load(split: str, source: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of "train" or "test": uint8 (N, 32, 32, 1) in [0, 255], int64 (N,) in [0, 10).

    `source` is a directory or an http(s) URL; without one, the environment variable GENZOO_FASHION_MNIST, then
    `data/fashion-mnist` in genzoo's home, then the Debian package's directory. Raises DatasetError.
    """
    source = source or os.environ.get(SOURCE_VARIABLE) or _found()
    prefix = {"train": "train", "test": "t10k"}[split]
    images = gzip.decompress(_read(source, f"{prefix}-images-idx3-ubyte.gz"))
    labels = gzip.decompress(_read(source, f"{prefix}-labels-idx1-ubyte.gz"))
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28, 1)
    return np.pad(pixels, ((0, 0), (2, 2), (2, 2), (0, 0))), np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)


def _found() -> str:
    ours = store.home() / "data" / "fashion-mnist"
    return str(ours if ours.is_dir() else DEBIAN_DIRECTORY)


def _read(source: str, name: str) -> bytes:
    try:
        if source.startswith(("http://", "https://")):
            with urllib.request.urlopen(f"{source.rstrip('/')}/{name}", timeout=60) as response:
                data = bytes(response.read())
        else:
            data = (Path(source) / name).read_bytes()
    except (OSError, urllib.error.URLError) as error:
        raise DatasetError(
            f"Fashion-MNIST: {name} could not be read from {source} ({error}); install the Debian package "
            f"dataset-fashion-mnist or set {SOURCE_VARIABLE} to a directory or URL that holds the four .gz files"
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != DIGESTS[name]:
        raise DatasetError(
            f"Fashion-MNIST: {source}/{name} has sha256 {digest[:12]}, expected {DIGESTS[name][:12]}; "
            "it is not the published file, fetch it again"
        )
    return data
