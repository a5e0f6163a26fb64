"""The README's picture of what a request may give: `python -m benchmarks.report.edits docs/edits.svg`.

Every picture in it is made when it is drawn, by one of two generators, or is one of the test set, which none ever saw.
"""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.templates import template
from export.runtimes import Runtime
from serving.generators import in_process
from zoo import datasets, files, registry
from zoo.contract.generator import Generator
from zoo.contract.request import Mixture, SampleRequest, Setting

CHECKPOINT, SEED = "ddpm", 4
PAINTER, GUIDANCE = "t2i-base", 3.0  # of words
PROMPTS = (
    "critter teal angry",
    "potplant lime cactus",
    "mood pink laugh",
    "planet red",
    "voxel blond afro",
    "peep red bun",
    "critter purple wink",
)
SENTENCE = "mood yellow circle happy smile on green"
CHANGES = (("yellow", "blue"), ("happy", "angry"), ("circle", "square"), ("green", "red"), ("smile", "teeth"))
SIDE, GAP = 96, 10  # in the units of the picture
STRENGTHS = (0.4, 0.6, 0.8, 0.85, 0.9, 1.0)
SHARES = (1.0, 0.6, 0.45, 0.4, 0.35, 0.3, 0.0)
SNEAKER, BOOT, DRESS, BAG = 7, 9, 3, 8


@dataclass(frozen=True)
class Strip:
    """A row of pictures with a line above, and a word below each: PNG in base64."""

    title: str
    command: str
    pictures: tuple[tuple[str, str], ...]


def svg() -> str:
    generator = in_process(CHECKPOINT, Runtime.ONNXRUNTIME)
    found = datasets.dataset(registry.entry(CHECKPOINT).dataset).load("test", None)
    classes = np.asarray(found.conditions["class_id"])
    picture = {each: found.images[int(np.argmax(classes == each))] for each in (SNEAKER, BOOT)}
    painter = in_process(PAINTER, Runtime.ONNXRUNTIME)
    strips = (
        _text_to_image(painter),
        _another_word(painter),
        _image_to_image(generator, picture[SNEAKER]),
        _inpainting(generator, picture[BOOT]),
        _mixing(generator),
    )
    pitch = SIDE + 56
    width = GAP + max(len(strip.pictures) for strip in strips) * (SIDE + GAP)
    page: str = template("edits.svg.j2").render(
        strips=strips, side=SIDE, gap=GAP, pitch=pitch, width=width, height=pitch * len(strips)
    )
    return page


def _text_to_image(painter: Generator) -> Strip:
    made = [
        _one(painter, Setting(guidance_scale=GUIDANCE), SEED + row, prompt=each) for row, each in enumerate(PROMPTS)
    ]
    command = f'genzoo sample {PAINTER} --prompt "{PROMPTS[1]}" --guidance-scale {GUIDANCE:g} --seeds {SEED + 1}'
    return Strip("Text to image", command, tuple(_labelled(PROMPTS, made)))


def _another_word(painter: Generator) -> Strip:
    """Image-to-image with one word of the prompt changed, on a picture that the same generator made."""
    source = _one(painter, Setting(guidance_scale=GUIDANCE), prompt=SENTENCE)
    setting = Setting(guidance_scale=GUIDANCE, strength=0.8)
    made = [_one(painter, setting, prompt=SENTENCE.replace(*change), image=source) for change in CHANGES]
    command = f'genzoo sample {PAINTER} --image a.png --strength 0.8 --prompt "{SENTENCE.replace(*CHANGES[0])}" ...'
    names = ("a picture", *(f"{new} for {old}" for old, new in CHANGES))
    return Strip("Another word", command, tuple(_labelled(names, (source, *made))))


def _image_to_image(generator: Generator, source: np.ndarray) -> Strip:
    made = [_one(generator, Setting(strength=strength), class_id=BOOT, image=source) for strength in STRENGTHS]
    command = f"genzoo sample {CHECKPOINT} --image sneaker.png --class-ids boot --strength 0.8 --seeds {SEED}"
    return Strip(
        "Image-to-image", command, tuple(_labelled(("a picture", *(f"{s:g}" for s in STRENGTHS)), (source, *made)))
    )


def _inpainting(generator: Generator, source: np.ndarray) -> Strip:
    mask = np.zeros_like(source)
    mask[: len(mask) // 2] = 255
    seeds = range(5)
    made = [_one(generator, Setting(), seed, class_id=BOOT, image=source, mask_image=mask) for seed in seeds]
    names = ("a picture", "a mask", *(f"seed {seed}" for seed in seeds))
    command = f"genzoo sample {CHECKPOINT} --image boot.png --mask mask.png --class-ids boot --seeds 0-4"
    return Strip("Inpainting", command, tuple(_labelled(names, (source, mask, *made))))


def _mixing(generator: Generator) -> Strip:
    mixtures = [Mixture((DRESS, BAG), (share, 1.0 - share)) for share in SHARES]
    made = [_one(generator, Setting(guidance_scale=2.0), class_id=each) for each in mixtures]
    names = ("a dress", *(f"{share:g} and {1.0 - share:g}" for share in SHARES[1:-1]), "a bag")
    command = (
        f"genzoo sample {CHECKPOINT} --mix class_id=0.5*dress --mix class_id=0.5*bag --guidance-scale 2 --seeds {SEED}"
    )
    return Strip("Mixing", command, tuple(_labelled(names, made)))


def _one(generator: Generator, setting: Setting, seed: int = SEED, **given: Any) -> np.ndarray:
    [image] = generator.sample(SampleRequest((seed,), {name: (each,) for name, each in given.items()}, setting))
    return np.asarray(image)


def _labelled(names: Any, images: Any) -> Iterator[tuple[str, str]]:
    from PIL import Image

    for name, image in zip(names, images, strict=True):
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, format="PNG", optimize=True)
        yield name, base64.b64encode(file.getvalue()).decode()


if __name__ == "__main__":
    with files.atomic(Path(sys.argv[1])) as temporary:
        temporary.write_text(svg())
