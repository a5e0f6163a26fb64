"""The README's picture of what a request may give: `python -m benchmarks.report.edits docs/edits.svg`.

Every picture in it is made when it is drawn, by one of two generators, or is one of the test set, which none ever saw.
"""

from __future__ import annotations

import numpy as np

from benchmarks.report.strips import SEED, Strip, drawn, one, strip, write
from export.runtimes import Runtime
from serving.generators import in_process
from zoo import datasets, registry
from zoo.contract.generator import Generator
from zoo.contract.request import Mixture, Setting

CHECKPOINT = "ddpm"
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
STRENGTHS = (0.4, 0.6, 0.8, 0.85, 0.9, 1.0)
SHARES = (1.0, 0.6, 0.45, 0.4, 0.35, 0.3, 0.0)
SNEAKER, BOOT, DRESS, BAG = 7, 9, 3, 8


def svg(runtime: Runtime = Runtime.ONNXRUNTIME) -> str:
    generator = in_process(CHECKPOINT, runtime)
    found = datasets.dataset(registry.entry(CHECKPOINT).dataset).load("test", None)
    classes = np.asarray(found.conditions["class_id"])
    picture = {each: found.images[int(np.argmax(classes == each))] for each in (SNEAKER, BOOT)}
    painter = in_process(PAINTER, runtime)
    strips = (
        _text_to_image(painter),
        _another_word(painter),
        _image_to_image(generator, picture[SNEAKER]),
        _inpainting(generator, picture[BOOT]),
        _mixing(generator),
    )
    return drawn(strips)


def _text_to_image(painter: Generator) -> Strip:
    setting = Setting(guidance_scale=GUIDANCE)
    made = [one(painter, setting, SEED + row, prompt=each) for row, each in enumerate(PROMPTS)]
    command = f'genzoo sample {PAINTER} --prompt "{PROMPTS[1]}" --guidance-scale {GUIDANCE:g} --seeds {SEED + 1}'
    return strip("Text to image", command, PROMPTS, made)


def _another_word(painter: Generator) -> Strip:
    """Image-to-image with one word of the prompt changed, on a picture that the same generator made."""
    source = one(painter, Setting(guidance_scale=GUIDANCE), prompt=SENTENCE)
    setting = Setting(guidance_scale=GUIDANCE, strength=0.8)
    made = [one(painter, setting, prompt=SENTENCE.replace(*change), image=source) for change in CHANGES]
    command = f'genzoo sample {PAINTER} --image a.png --strength 0.8 --prompt "{SENTENCE.replace(*CHANGES[0])}" ...'
    names = ("a picture", *(f"{new} for {old}" for old, new in CHANGES))
    return strip("Another word", command, names, (source, *made))


def _image_to_image(generator: Generator, source: np.ndarray) -> Strip:
    made = [one(generator, Setting(strength=strength), class_id=BOOT, image=source) for strength in STRENGTHS]
    command = f"genzoo sample {CHECKPOINT} --image sneaker.png --class-ids boot --strength 0.8 --seeds {SEED}"
    names = ("a picture", *(f"{strength:g}" for strength in STRENGTHS))
    return strip("Image-to-image", command, names, (source, *made))


def _inpainting(generator: Generator, source: np.ndarray) -> Strip:
    mask = np.zeros_like(source)
    mask[: len(mask) // 2] = 255
    seeds = range(5)
    made = [one(generator, Setting(), seed, class_id=BOOT, image=source, mask_image=mask) for seed in seeds]
    names = ("a picture", "a mask", *(f"seed {seed}" for seed in seeds))
    command = f"genzoo sample {CHECKPOINT} --image boot.png --mask mask.png --class-ids boot --seeds 0-4"
    return strip("Inpainting", command, names, (source, mask, *made))


def _mixing(generator: Generator) -> Strip:
    mixtures = [Mixture((DRESS, BAG), (share, 1.0 - share)) for share in SHARES]
    made = [one(generator, Setting(guidance_scale=2.0), class_id=each) for each in mixtures]
    names = ("a dress", *(f"{share:g} and {1.0 - share:g}" for share in SHARES[1:-1]), "a bag")
    command = (
        f"genzoo sample {CHECKPOINT} --mix class_id=0.5*dress --mix class_id=0.5*bag --guidance-scale 2 --seeds {SEED}"
    )
    return strip("Mixing", command, names, made)


if __name__ == "__main__":
    write(svg)
