"""What a variant may differ by from the reference, and how differences are measured. Without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from export.tiers import EXACT_DB, Tier, psnrs, together
from export.variant import Precision


@dataclass(frozen=True)
class Limits:
    """What a variant may differ by.

    `tensor`: root mean square error over the reference's, of any tensor; `lsb`, `differing`: grey levels, and the
    share of the values of all images that differ at all; `psnr_db`: of all images; `drift`: half the window's width.
    """

    tensor: float
    lsb: int
    differing: float
    psnr_db: float
    drift: float


LIMITS: dict[Precision, Limits] = {
    Precision.FP32: Limits(tensor=1e-4, lsb=1, differing=0.002, psnr_db=EXACT_DB, drift=0.01),
    Precision.FP16: Limits(tensor=1e-2, lsb=255, differing=1.0, psnr_db=45.0, drift=0.05),
    Precision.BF16: Limits(tensor=5e-2, lsb=255, differing=1.0, psnr_db=45.0, drift=0.1),
    Precision.INT8: Limits(tensor=0.3, lsb=255, differing=1.0, psnr_db=35.0, drift=0.2),
}
LIMITS[Precision.MIXED] = LIMITS[Precision.INT8]


def in_tier(limits: Limits, tier: Tier) -> Limits:
    """The limits with a tier's bound, in dB, for the images of each request: a tier is held by every sampler."""
    return replace(limits, psnr_db=tier.bound_db)


@dataclass(frozen=True)
class ImageError:
    """Differences of two batches of images, uint8: `psnr_db` of all together, `worst_db` of the worst of them."""

    lsb: int
    differing: float
    psnr_db: float
    worst_db: float

    def fault(self, limits: Limits) -> str | None:
        if self.lsb > limits.lsb or self.differing > limits.differing:
            return (
                f"images differ by up to {self.lsb} grey levels in {self.differing:.2%} of the values, at most "
                f"{limits.lsb} in {limits.differing:.2%} are expected"
            )
        if self.psnr_db < limits.psnr_db:
            return f"images agree to {self.psnr_db:.1f} dB, at least {limits.psnr_db:.0f} dB are expected"
        return None


def image_error(reference: np.ndarray, candidate: np.ndarray) -> ImageError:
    difference = np.abs(reference.astype(np.int64) - candidate)
    decibels = psnrs(reference, candidate)
    lsb, differing = int(difference.max()), float((difference > 0).mean())
    return ImageError(lsb, differing, together(decibels), float(decibels.min()))


def tensor_error(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Root mean square of the difference over that of the reference; infinite where the candidate is not finite."""
    if not np.isfinite(candidate).all():
        return float("inf")
    scale = float(np.sqrt(np.square(reference, dtype=np.float64).mean()))
    error = float(np.sqrt(np.square(candidate.astype(np.float64) - reference).mean()))
    return error / max(scale, 1e-6)
