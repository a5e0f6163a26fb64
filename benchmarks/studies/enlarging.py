"""Whether a picture that is made large belongs to the small one, and whether it is nearer to the true one than bicubic.

Small pictures are means of 4x4 pixels of combinations that no training picture shows. The prompt says all of what they
show, or nothing. A picture belongs to the small one where it is that again when it is made small.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.quality.judges.designs import CAPTIONED
from benchmarks.statistics import mean, share
from benchmarks.studies import Cells, Findings, Study, captions, value
from benchmarks.studies.translations import away
from zoo.contract.request import Setting
from zoo.datasets import designs
from zoo.datasets.design_styles import DESIGNS
from zoo.families.guides.enlarge import SMALL, shrunk

COLUMNS = (
    "picture",
    "grey levels from the small one",
    "grey levels from the true one",
    "attributes right",
    "all right",
    "agreement with its caption",
)
NAME, BASE = "t2i-upscale", "t2i-base"
IMAGES = 8  # of each design


def run() -> Findings:
    found = [captions.held_out(style, IMAGES) for style in DESIGNS]
    said = [designs.whole(each) for portraits, _ in found for each in portraits]
    truth = np.concatenate([pictures for _, pictures in found])
    small = shrunk(truth)
    seen = {SMALL: list(small)}
    pictures = {
        "bicubic": bicubic(small),
        f"{BASE}, the prompt alone": captions.drawn(BASE, said, captions.GUIDED),
        f"{NAME}, no prompt": captions.drawn(NAME, [""] * len(said), Setting(), seen),
        f"{NAME}, the prompt": captions.drawn(NAME, said, captions.GUIDED, seen),
        "the true one": truth,
    }
    rows = tuple((name, *measured(images, small, truth, said)) for name, images in pictures.items())
    return Findings(COLUMNS, rows, answer(rows))


def bicubic(small: np.ndarray) -> np.ndarray:
    from PIL import Image

    side = 4 * small.shape[1]
    return np.stack(
        [np.asarray(Image.fromarray(each).resize((side, side), Image.Resampling.BICUBIC)) for each in small]
    )


def measured(images: np.ndarray, small: np.ndarray, truth: np.ndarray, said: Sequence[str]) -> Cells:
    right = CAPTIONED.right(images, said)
    return (
        str(mean(away(shrunk(images), small)).estimate()),
        str(mean(away(images, truth)).estimate()),
        captions.attributes_right(right),
        str(share(np.nanmin(right, axis=1))),
        round(float(np.diag(CAPTIONED.agreement(images, said)).mean()), 3),
    )


def answer(rows: Sequence[Cells]) -> str:
    cubic, _, plain, told, _ = rows
    return (
        f"Made small again, pictures are {value(told[1]):.1f} grey levels from what they were made of, bicubic ones "
        f"{value(cubic[1]):.1f}; from the true ones {value(told[2]):.1f} and {value(cubic[2]):.1f}. Attributes are "
        f"right in {value(told[3]):.1%} with the prompt, in {value(plain[3]):.1%} without, and in "
        f"{value(cubic[3]):.1%} of bicubic pictures."
    )


STUDY = Study(
    "Does a picture that is made large belong to the small one, and is it nearer to the true one than bicubic?",
    (NAME, BASE),
    run,
    {"images": IMAGES, "guidance_scale": captions.SCALE},
)
