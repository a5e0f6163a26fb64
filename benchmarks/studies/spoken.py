"""Whether GANs that were told a caption paint what it says: by the right caption and by a wrong one, for one picture.

Each caption is of a combination that no training picture shows; the wrong ones are the same captions, each of the next
picture. A judge of real pictures reads every attribute. The same noise with the wrong caption gives another picture,
which is read for the right one: what a generator shows that does not listen.

GigaGAN's enlarger is given real pictures at half their size with their captions; beside it is what bicubic
interpolation makes of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.measure.samples import FIRST_SEED
from benchmarks.measure.sweep import in_process
from benchmarks.quality.judges.portraits import CAPTIONED
from benchmarks.statistics import mean
from benchmarks.studies import Cells, Findings, Study, captions, value
from benchmarks.studies.translations import away
from export.gate import require
from serving.bundles import prepare
from zoo import registry, shelf
from zoo.contract.conditions import kind
from zoo.contract.request import SampleRequest
from zoo.datasets.critters import CRITTER
from zoo.images import to_images

NAMES = ("gan-cls", "gigagan")
ENLARGER = "gigagan"
IMAGES = 200
COLUMNS = (
    "pictures", "attributes right", "all right", "agreement with the caption", "with another",
    "grey levels from the real one",
)  # fmt: skip


def run() -> Findings:
    shown, real = captions.held_out(CRITTER, IMAGES)
    said = [each.caption for each in shown]
    wrong = said[1:] + said[:1]
    rows: list[Cells] = []
    for name in NAMES:
        rows.append((f"{name}, the right caption", *measured(made(name, said), said, real)))
        rows.append((f"{name}, a wrong caption", *measured(made(name, wrong), said, real)))
    rows.append(("real", *measured(real, said, real)))
    rows.append(("real, of a wrong caption", *measured(np.roll(real, -1, axis=0), said, real)))
    small = halved(real)
    rows.append((f"real, a half by the enlarger of {ENLARGER}", *measured(enlarged(small, said), said, real)))
    rows.append(("real, a half by bicubic", *measured(bicubic(small), said, real)))
    return Findings(COLUMNS, tuple(rows), answer(rows))


def made(name: str, said: Sequence[str]) -> np.ndarray:
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + len(said)))
    return np.asarray(in_process(require(prepare(name))).sample(SampleRequest(seeds, {"prompt": list(said)})))


def halved(images: np.ndarray) -> np.ndarray:
    """By the mean of four pixels, float32 (N, H / 2, W / 2, C) in [0, 255]."""
    count, height, width, channels = images.shape
    parted = images.astype(np.float32).reshape(count, height // 2, 2, width // 2, 2, channels)
    return np.asarray(parted.mean((2, 4)))


@torch.inference_mode()
def enlarged(images: np.ndarray, said: Sequence[str]) -> np.ndarray:
    """What the enlarger makes of half the size, uint8 (N, H, W, C)."""
    entry = registry.checkpoint(ENLARGER)
    model = registry.load_module(entry)
    condition = entry.spec.conditions[0]
    tokens = kind(condition).encode(condition, np.array(list(said)), shelf.assets(ENLARGER))
    torch.manual_seed(0)
    style, _ = model.told(torch.randn(len(said), entry.config.latent), *map(torch.from_numpy, tokens.values()))
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))) / 127.5 - 1.0
    return np.asarray(to_images(model.enlarger(pixels, style)))


def bicubic(images: np.ndarray) -> np.ndarray:
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))) / 127.5 - 1.0
    return np.asarray(to_images(F.interpolate(pixels, scale_factor=2.0, mode="bicubic", align_corners=False)))


def measured(images: np.ndarray, said: Sequence[str], real: np.ndarray) -> Cells:
    """Of attributes the share that is read right, how well the pair's judge finds picture and words to agree, and how
    far the real picture is."""
    right = CAPTIONED.right(images, said)
    attributes = np.nanmean(right[:, 1:], axis=1)
    pairs = CAPTIONED.agreement(images, said)
    own, other = np.diag(pairs), np.diag(np.roll(pairs, -1, axis=1))
    found = (attributes, np.nanmin(right, axis=1), own, other, away(images, real))
    return tuple(str(mean(each.astype(float)).estimate()) for each in found)


def answer(rows: Sequence[Cells]) -> str:
    right = [value(row[1]) for row in rows]
    said = [
        f"{name} {own:.1%} by the right caption and {other:.1%} by a wrong one"
        for name, own, other in zip(NAMES, right[::2], right[1::2], strict=False)
    ]
    network, filtered = (value(row[5]) for row in rows[-2:])
    return (
        f"Of the attributes of unseen combinations are right: {'; '.join(said)}; of real pictures {right[-4]:.1%}. "
        f"From real pictures are {network:.1f} grey levels what the enlarger makes of a half, {filtered:.1f} bicubic."
    )


STUDY = Study("Do GANs that are told a caption paint what it says?", NAMES, run, {"images": IMAGES})
