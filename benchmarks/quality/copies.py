"""Whether a generated image is a training picture, altered or not: shifted, mirrored, blurred, darkened, cut out.

A pixel distance misses all of these. Here an image is first looked up by the magnitudes of its lowest frequencies,
which a shift leaves as they are (as it is and mirrored, at a few scales), then compared with each candidate by the
correlation of its middle with the candidate's best place, as sharp and as blurred; a correlation overlooks light and
contrast. As everywhere in a dense data set something is near, an image is called a copy where the remaining error to
its nearest training picture is a small part of that to the second (Yoon et al. 2023). How small is set on held-out
pictures, which are no copies, and how many altered copies are found at that threshold is measured on planted ones:
`Calibration`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from blake3 import blake3
from scipy import fft, ndimage

from benchmarks import statistics
from benchmarks.statistics import Jackknifed
from zoo import files
from zoo.errors import GenzooError
from zoo.files import home

FORMAT = 1  # of a calibration: another detector or other alterations are another
SIDE = 32  # pixels: lengths below are of a picture of that height, and grow with it
FREQUENCIES = 5  # of each axis
CANDIDATES = 16
REACH = 3  # a shift of so many pixels is found
SCALES = (1.0, 30 / 32, 28 / 32)  # how an image is shrunk to be compared with what it may be a cut-out of
WIDTHS = (0.7, 0.95, 1.22)  # of an image, and of a training picture whose copy may have been blurred by 0, 0.6 or 1
ROWS = 50  # images at a time
FALSE_POSITIVES = 0.01
HELD_OUT, PLANTED = 4_000, 200  # pictures: half set the threshold, half say how often it errs; planted a kind
LEAST = 2  # training pictures


class CopiesError(GenzooError):
    """Training pictures among which no copies can be looked for."""


def _grey(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, C) -> float32 (N, H, W)."""
    return np.asarray(images.astype(np.float32).mean(3))


def _smooth(pictures: np.ndarray, width: float) -> np.ndarray:
    """float32 (N, H, W), by a Gaussian of that width in pixels of a picture of SIDE."""
    scaled = width * pictures.shape[1] / SIDE
    return np.asarray(ndimage.gaussian_filter(pictures, (0, scaled, scaled)))


def _zoomed(pictures: np.ndarray, factor: float) -> np.ndarray:
    """The middle kept where it is, larger or smaller: (N, H, W)."""
    middle = (np.array(pictures.shape[1:]) - 1) / 2
    offset = (0.0, *(middle - middle / factor))
    scale = (1.0, 1.0 / factor, 1.0 / factor)
    return np.asarray(ndimage.affine_transform(pictures, scale, offset, order=1, mode="nearest"))


def _descriptors(pictures: np.ndarray) -> np.ndarray:
    """Unit vectors (N, 2 F^2 - 2 F) of the magnitudes of low frequencies, whatever the light: a shift keeps them."""
    centred = pictures - pictures.mean((1, 2), keepdims=True)
    spectra = np.abs(fft.fft2(centred, axes=(1, 2))[:, :FREQUENCIES])
    right, left = spectra[:, :, :FREQUENCIES], spectra[:, 1:, -FREQUENCIES + 1 :]
    found = np.sqrt(np.concatenate([each.reshape(len(pictures), -1) for each in (right, left)], axis=1)[:, 1:])
    return np.asarray(found / (np.linalg.norm(found, axis=1, keepdims=True) + 1e-6), dtype=np.float32)


def _errors(images: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """1 less the best correlation of an image's middle with any place of a candidate.

    (B, H, W), (B, M, H, W) -> (B, M). 0 is the same up to light and contrast, 1 unrelated.
    """
    height, width = images.shape[1:]
    reach = round(REACH * height / SIDE)
    inner = images[:, reach : height - reach, reach : width - reach]
    rows, columns = inner.shape[1:]
    inner = inner - inner.mean((1, 2), keepdims=True)
    scale = np.sqrt((inner**2).sum((1, 2)))
    padded = np.zeros_like(images)
    padded[:, :rows, :columns] = inner
    across = fft.irfft2(fft.rfft2(candidates) * fft.rfft2(padded).conj()[:, None], s=(height, width))
    across = across[:, :, : 2 * reach + 1, : 2 * reach + 1]
    sums, squares = (_windows(each, rows, columns) for each in (candidates, candidates**2))
    spread = np.sqrt((squares - sums**2 / (rows * columns)).clip(min=0.0))
    flat = 1e-2 * rows * columns  # a place without any contrast is like nothing
    correlation = across / np.maximum(scale[:, None, None, None] * spread, flat)
    return np.asarray(1.0 - correlation.max((2, 3)))


def _windows(pictures: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The sum of every window: (B, M, H, W) -> (B, M, H - rows + 1, W - columns + 1)."""
    whole = np.pad(pictures.astype(np.float64).cumsum(2).cumsum(3), ((0, 0), (0, 0), (1, 0), (1, 0)))
    below, right = whole[:, :, rows:, :], whole[:, :, :-rows, :]
    return np.asarray(below[..., columns:] - below[..., :-columns] - right[..., columns:] + right[..., :-columns])


class CopyDetector:
    """Of uint8 training pictures (N, H, W, C), which it keeps in grey, as often as there are WIDTHS.

    Raises CopiesError for fewer than two.
    """

    def __init__(self, training: np.ndarray) -> None:
        if len(training) < LEAST:
            raise CopiesError(f"copies among {len(training)} training pictures: give {LEAST} or more")
        parts = [_grey(training[i : i + 1000]) for i in range(0, len(training), 1000)]
        self.descriptors = np.concatenate([_descriptors(part) for part in parts])
        self.smoothed = tuple(
            np.concatenate([_smooth(part, width).round().astype(np.uint8) for part in parts]) for width in WIDTHS
        )

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of uint8 (N, H, W, C): the error to the nearest training picture as a part of that to the second, (N,) in
        [0, 1], and which is the nearest, (N,). Raises CopiesError for images of another size."""
        if images.shape[1:3] != self.smoothed[0].shape[1:]:
            seen, expected = ("x".join(map(str, shape)) for shape in (images.shape[1:3], self.smoothed[0].shape[1:]))
            raise CopiesError(f"images of {seen} are compared with training pictures of {expected}: give one size")
        parts = [self._look(_grey(images[i : i + ROWS])) for i in range(0, len(images), ROWS)]
        ratios, nearest = zip(*parts, strict=True) if parts else ([np.empty(0)], [np.empty(0, np.int64)])
        return np.concatenate(ratios), np.concatenate(nearest)

    def _look(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scaled = [_zoomed(images, scale) for scale in SCALES]
        errors, rows = [], []
        for variant in (*scaled, *(each[:, :, ::-1] for each in scaled)):
            likely = self._candidates(variant)
            sharp = _smooth(variant, WIDTHS[0])
            errors.append(np.min([_errors(sharp, each[likely].astype(np.float32)) for each in self.smoothed], axis=0))
            rows.append(likely)
        return _two_best(np.concatenate(errors, axis=1), np.concatenate(rows, axis=1))

    def _candidates(self, images: np.ndarray) -> np.ndarray:
        """The rows of the training pictures that may be these: (B, CANDIDATES)."""
        count = min(CANDIDATES, len(self.descriptors))
        likeness = _descriptors(images) @ self.descriptors.T
        return np.argpartition(-likeness, count - 1, axis=1)[:, :count]


def _two_best(errors: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least error of a row over that of the next other row, and the row: (B, K) twice -> (B,), (B,)."""
    at = np.arange(len(errors))
    best = errors.argmin(1)
    nearest, least = rows[at, best], errors[at, best]
    second = np.where(rows == nearest[:, None], np.inf, errors).min(1)
    return (least.clip(min=0.0) + 1e-6) / (np.where(np.isfinite(second), second, 1.0).clip(min=0.0) + 1e-6), nearest


Alteration = Callable[[np.ndarray], np.ndarray]  # float32 (N, H, W, C) -> the same


def _each_channel(change: Callable[[np.ndarray], np.ndarray]) -> Alteration:
    return lambda images: np.stack([change(channel) for channel in np.moveaxis(images, 3, 0)], axis=3)


def _shifted(images: np.ndarray) -> np.ndarray:
    return np.roll(images, (1, 1), (1, 2))


def _mirrored(images: np.ndarray) -> np.ndarray:
    return images[:, :, ::-1]


def _darker(images: np.ndarray) -> np.ndarray:
    return 0.7 * images + 25.0


_blurred = _each_channel(lambda pictures: _smooth(pictures, 1.0))

ALTERATIONS: Mapping[str, Alteration] = {
    "none": lambda images: images,
    "shift": _shifted,
    "mirror": _mirrored,
    "blur": _blurred,
    "light": _darker,
    "crop": _each_channel(lambda pictures: _zoomed(pictures, 32 / 28)),
    "all but crop": lambda images: _darker(_blurred(_shifted(_mirrored(images)))),
}


def altered(images: np.ndarray, alteration: str) -> np.ndarray:
    """uint8 (N, H, W, C), as one of ALTERATIONS makes them."""
    return np.asarray(ALTERATIONS[alteration](images.astype(np.float32)).round().clip(0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Calibration:
    """An image is called a copy whose ratio is at most `threshold`.

    `false_positives` is the share of held-out pictures that are called one, others than those that set the threshold,
    `recall` the share of planted copies that are called one and found to be of the right picture, by alteration.
    """

    threshold: float
    false_positives: float
    recall: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def calibrate(detector: CopyDetector, training: np.ndarray, held_out: np.ndarray) -> Calibration:
    """By uint8 pictures (N, H, W, C) that were held out, and altered copies of training pictures of each kind."""
    unseen, _ = detector(held_out[np.random.default_rng(0).permutation(len(held_out))[:HELD_OUT]])
    setting, checking = unseen[::2], unseen[1::2]
    threshold = float(np.quantile(setting, FALSE_POSITIVES))
    planted = np.random.default_rng(1).permutation(len(training))[:PLANTED]
    recall = {}
    for kind in ALTERATIONS:
        ratios, nearest = detector(altered(training[planted], kind))
        recall[kind] = float(((ratios <= threshold) & (nearest == planted)).mean())
    return Calibration(threshold, float((checking <= threshold).mean()), recall)


def calibrated(training: np.ndarray, held_out: np.ndarray) -> tuple[CopyDetector, Calibration]:
    """A detector and its calibration, which is kept in home()/copies by the digest of the pictures."""
    detector = CopyDetector(training)
    digests = [blake3(np.ascontiguousarray(each).data).hexdigest() for each in (training, held_out)]
    path = (home() / "copies" / files.identify([FORMAT, *digests])).with_suffix(".json")
    if path.is_file():
        return detector, Calibration(**json.loads(path.read_text()))
    found = calibrate(detector, training, held_out)
    files.write_json(path, found.to_json())
    return detector, found


def copies(detector: CopyDetector, calibration: Calibration, images: np.ndarray) -> Jackknifed:
    """The share of uint8 images (N, H, W, C) that are called copies; what is found by chance is in it."""
    ratios, _ = detector(images)
    return statistics.mean(ratios <= calibration.threshold, share=True)
