"""Fashion-MNIST (Xiao et al. 2017, MIT licence): 60,000 / 10,000 grey pictures of clothes in ten classes, 32x32.

Found in the Debian package `dataset-fashion-mnist`, in a directory, or below a URL; every file is checked by digest.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import urllib.request
import zlib
from pathlib import Path

import numpy as np

from zoo.datasets import Data, Dataset, DatasetError
from zoo.files import home
from zoo.store.transfer.http import TLS_CURE

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
DEBIAN_DIRECTORY = Path("/usr/share/datasets/fashion-mnist")
SOURCE_VARIABLE = "GENZOO_FASHION_MNIST"
DIGESTS = {  # sha256 of the decompressed files: Debian's gzip headers differ from the published ones
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def load(split: str, source: str | None = None) -> Data:
    """Images and classes of "train" or "test": uint8 (N, 32, 32, 1) in [0, 255], `class_id` int64 (N,) in [0, 10).

    `source` is a directory or an http(s) URL; without one, the environment variable GENZOO_FASHION_MNIST, then
    `data/fashion-mnist` in genzoo's home, then the Debian package's directory. Raises DatasetError.
    """
    source = source or default_source()
    prefix = {"train": "train", "test": "t10k"}[split]
    images = _read(source, f"{prefix}-images-idx3-ubyte.gz")
    labels = _read(source, f"{prefix}-labels-idx1-ubyte.gz")
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28, 1)
    class_ids = np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)
    return Data(np.pad(pixels, ((0, 0), (2, 2), (2, 2), (0, 0))), {"class_id": class_ids})


def default_source() -> str:
    ours = home() / "data" / "fashion-mnist"
    return os.environ.get(SOURCE_VARIABLE) or str(ours if ours.is_dir() else DEBIAN_DIRECTORY)


def _read(source: str, name: str) -> bytes:
    try:
        if source.startswith(("http://", "https://")):
            with urllib.request.urlopen(f"{source.rstrip('/')}/{name}", timeout=60) as response:
                packed = bytes(response.read())
        else:
            packed = (Path(source) / name).read_bytes()
        data = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error, http.client.HTTPException, ValueError) as error:
        cure = f"{TLS_CURE}; else " if "CERTIFICATE_VERIFY_FAILED" in str(error) else ""
        raise DatasetError(
            f"Fashion-MNIST: {name} could not be read from {source} ({error}); {cure}install the Debian package "
            f"dataset-fashion-mnist or set {SOURCE_VARIABLE} to a directory or URL that holds the four .gz files"
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != DIGESTS[name]:
        raise DatasetError(
            f"Fashion-MNIST: {source}/{name} unpacks to sha256 {digest[:12]}, expected {DIGESTS[name][:12]}; "
            "it is not the published file, fetch it again"
        )
    return data


DATASET = Dataset(
    name="fashion_mnist",
    title="Fashion-MNIST",
    licence="MIT",
    credit="Xiao et al. 2017, arXiv:1708.07747",
    shows="ten kinds of clothes as 28x28 grey pictures",
    prepared="padded to 32x32",
    verified="by digest",
    image_shape=(32, 32, 1),
    counts={"train": 60_000, "test": 10_000},
    load=load,
    labels={"class_id": CLASSES},
)
