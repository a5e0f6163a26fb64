"""What adapters of text to image do: few steps by one, ink by another, both at once, and nothing at a scale of 0.

Captions are of combinations that no training picture shows. The attributes' judge reads what is drawn in colour; how
much of a picture is ink is the share of its pixels that lie between the colours of paper and of ink.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.quality.judges.designs import CAPTIONED
from benchmarks.statistics import share
from benchmarks.studies import Cells, Findings, Study, captions, value
from zoo.contract.request import Setting
from zoo.datasets import designs
from zoo.datasets.design_styles import DESIGNS
from zoo.datasets.inked_designs import INK, PAPER

COLUMNS = ("generator", "steps", "network calls", "attributes right", "all right", "in ink", "pixels unlike the base's")
IMAGES = 8  # of each design
NEAR = 24.0  # of 255: how far a pixel in ink is from the line between paper and ink


@dataclass(frozen=True)
class Asked:
    """A generator at a setting, and the scales of its adapters."""

    name: str
    setting: Setting
    calls: int  # of the network, for an image
    scales: dict[str, float] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return " ".join((self.name, *(f"{name}={scale:g}" for name, scale in self.scales.items())))


GUIDED = Setting(20, guidance_scale=captions.SCALE)
FEW = (1, 2, 4, 8)
ROWS = (
    Asked("t2i-base", GUIDED, 40),
    *(Asked("t2i-lcm", Setting(steps), steps) for steps in FEW),
    *(Asked("t2i-ink", GUIDED, 40, {"ink": scale}) for scale in (0.0, 0.5, 1.0)),
    Asked("t2i-lcm", Setting(4), 4, {"ink": 1.0}),
)


def run() -> Findings:
    said = [designs.whole(each) for style in DESIGNS for each in captions.held_out(style, IMAGES)[0]]
    made = [drawn(row, said) for row in ROWS]
    rows = tuple(measured(row, images, made[0], said) for row, images in zip(ROWS, made, strict=True))
    return Findings(COLUMNS, rows, answer(rows))


def drawn(asked: Asked, said: Sequence[str]) -> np.ndarray:
    """uint8 (N, 64, 64, 3), the same seeds for every row."""
    scales = {name: [scale] * len(said) for name, scale in asked.scales.items()}
    return captions.drawn(asked.name, said, asked.setting, scales)


def measured(asked: Asked, images: np.ndarray, base: np.ndarray, said: Sequence[str]) -> Cells:
    right = CAPTIONED.right(images, said)
    inked = in_ink(images)
    return (
        asked.title,
        asked.setting.num_steps,
        asked.calls,
        captions.attributes_right(right),
        str(share(np.nanmin(right, axis=1))),
        f"{inked.mean():.3f}",
        f"{(images != base).any(-1).mean():.4f}",
    )


def in_ink(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 3) -> bool (N, H, W): which pixels lie between the colours of paper and of ink."""
    line = INK - PAPER
    along = np.clip((images - PAPER) @ line / (line @ line), 0.0, 1.0)[..., None]
    found: np.ndarray = np.linalg.norm(images - (PAPER + along * line), axis=-1) <= NEAR
    return found


def answer(rows: Sequence[Cells]) -> str:
    base, *few = rows[: 1 + len(FEW)]
    none, half, ink, both = rows[1 + len(FEW) :]
    steps = ", ".join(f"{value(row[3]):.1%} in {row[1]}" for row in few)
    return (
        f"Of the attributes of unseen combinations the base has {value(base[3]):.1%} right in 20 guided steps, 40 "
        "calls; "
        f"the adapter of latent consistency {steps}. At the scale 0 the adapter of ink changes {value(none[6]):.2%} of "
        f"the pixels; at 0, 0.5 and 1 a picture is ink in {value(none[5]):.1%}, {value(half[5]):.1%} and "
        f"{value(ink[5]):.1%} of them, and with latent consistency beside it, in 4 steps, {value(both[5]):.1%}."
    )


STUDY = Study(
    "What do adapters of text to image change, alone, together, and at a scale of nothing?",
    ("t2i-base", "t2i-lcm", "t2i-ink"),
    run,
    {"images": IMAGES, "guidance_scale": captions.SCALE, "near": NEAR},
)
