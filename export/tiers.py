"""Tiers: how far an executor's images may be from the float32 reference's, by names that a request can ask for.

A bound in decibels is held by an image, not by an average: a tier holds where the images together reach it and where
it is certain enough that the stated share of all images does. NumPy only: a server reads tiers without torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.contract.errors import RequestError, nearest

IDENTICAL_DB = 200.0  # for two equal images, whose ratio has no peak
EXACT_DB = 60.0  # of an image whose values differ by one grey level here and there, as float32 on two runtimes does
SHARE = 0.9
QUANTILE = 1.959964  # of the standard normal distribution: intervals of 95 %


@dataclass(frozen=True)
class Tier:
    """`psnr_db`: what an image must reach, None for what float32 reaches; `share`: of all images, at least."""

    name: str
    psnr_db: float | None
    share: float = SHARE

    @property
    def bound_db(self) -> float:
        return EXACT_DB if self.psnr_db is None else self.psnr_db

    def holds(self, psnrs: Sequence[float] | np.ndarray) -> Held:
        """Whether images with these PSNRs (N,), in dB, are of the tier. 35 images are the fewest that can show it."""
        found = np.asarray(psnrs, np.float64)
        if not found.size:
            raise ValueError(f"the tier {self.name} is judged from images, and there are none")
        hits = float((found >= self.bound_db).mean())
        low, high = interval(hits, found.size)
        mean = together(found)
        return Held(mean, float(found.min()), hits, low, high, mean >= self.bound_db and low >= self.share)

    def states(self, held: Held) -> str:
        """What was found, as a clause."""
        if held.worst >= IDENTICAL_DB:
            return "every image the reference's own"
        return (
            f"its images at {held.mean:.1f} dB, the worst at {held.worst:.1f} dB, {held.share:.1%} of them (95 % "
            f"interval {held.low:.1%} to {held.high:.1%}) at {self.bound_db:g} dB or more"
        )

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Held:
    """`mean`: PSNR of all images together, dB; `worst`: of the worst of them; `share` of the images that reach the
    tier's bound, with its 95 % interval `low` to `high`; `ok`: whether the tier holds."""

    mean: float
    worst: float
    share: float
    low: float
    high: float
    ok: bool


TIERS = (Tier("exact", None), Tier("45dB", 45.0), Tier("40dB", 40.0))  # each holds where one before it does
EXACT = TIERS[0]


def tier(text: str) -> Tier:
    """The tier of that name. Raises RequestError with the nearest ones."""
    for each in TIERS:
        if each.name.lower() == text.lower():
            return each
    raise RequestError(f"unknown tier {text!r}: {nearest(text, [each.name for each in TIERS])}")


def psnrs(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each image, dB: uint8 (N, H, W, C) twice -> float64 (N,)."""
    difference = reference.astype(np.float64) - candidate
    mean_square = np.square(difference).reshape(len(reference), -1).mean(1)
    safe = np.where(mean_square > 0, mean_square, 1.0)
    return np.where(mean_square > 0, np.minimum(10.0 * np.log10(255.0**2 / safe), IDENTICAL_DB), IDENTICAL_DB)


def together(psnrs: np.ndarray) -> float:
    """The PSNR of images of one size as if they were one: of their mean squared error, dB."""
    errors = np.where(psnrs >= IDENTICAL_DB, 0.0, 10.0 ** (-psnrs / 10.0))
    return -10.0 * math.log10(errors.mean()) if errors.any() else IDENTICAL_DB


def interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of `count` independent images: Wilson (1927), "Probable inference"."""
    z2 = QUANTILE**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = QUANTILE * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return max(centre - half, 0.0), min(centre + half, 1.0)
