"""The README's first picture, what can be asked for in colour.

`python -m benchmarks.report.conditioned docs/conditioned.svg` draws it. Every picture in it is made when it is drawn;
what generators are shown are the examples that they ship, of held-out combinations.
"""

from __future__ import annotations

import numpy as np

from benchmarks.report.strips import SEED, SIDE, Strip, drawn, one, strip, write
from export.runtimes import Runtime
from serving.generators import in_process
from zoo import shelf
from zoo.contract.request import Setting

SETTING = Setting(guidance_scale=3.0)  # of words
PROMPTS = (
    "critter teal dome horns happy smile on black",
    "potplant lime cactus bowl wink smile on red",
    "voxel tan green hair mohawk pink shirt tie",
    "peep bronze red hair curly smile blue shirt shades",
    "clay purple snowman curl big laugh on green",
    "robot yellow body blue glow visor on orange",
    "planet orange swirl thin moons",
)
SKETCHED = ("critter blue", "critter pink", "critter yellow", "critter red", "critter teal", "clay green")
ASKED = (
    "voxel blue shirt tie",
    "voxel green shirt stripes",
    "pixel red shirt plain on blue",
    "pixel yellow shirt stripes on green",
    "peep smile pink shirt",
    "peep rage green shirt",
)
COLOURS = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167))  # of the frames of boxes
FACE, SCENES = 3, 3  # which example, and how many


def svg(runtime: Runtime = Runtime.ONNXRUNTIME) -> str:
    return drawn([each(runtime) for each in (_prompts, _sketch, _face, _layout)])


def _prompts(runtime: Runtime) -> Strip:
    generator = in_process("t2i-base", runtime)
    made = [one(generator, SETTING, SEED + row, prompt=each) for row, each in enumerate(PROMPTS)]
    command = f'genzoo sample t2i-base --prompt "{PROMPTS[-1]}" --guidance-scale 3 --seeds {SEED + len(PROMPTS) - 1}'
    return strip("Portraits from prompts", command, map(_short, PROMPTS), made)


def _sketch(runtime: Runtime) -> Strip:
    generator = in_process("t2i-control", runtime)
    lines = np.asarray(shelf.assets("t2i-control").examples["drawing"][0])
    made = [one(generator, SETTING, prompt=each, drawing=lines) for each in SKETCHED]
    command = f'genzoo sample t2i-control --set drawing=@sketch.png --prompt "{SKETCHED[0]}" --guidance-scale 3'
    return strip("A sketch coloured", command, ("a sketch", *SKETCHED), (lines, *made))


def _face(runtime: Runtime) -> Strip:
    generator = in_process("t2i-face", runtime)
    face = np.asarray(shelf.assets("t2i-face").examples["face"][FACE])
    made = [one(generator, SETTING, prompt=each, face=face) for each in ASKED]
    command = f'genzoo sample t2i-face --set face=@face.png --prompt "{ASKED[0]}" --guidance-scale 3'
    return strip("A face edited", command, ("a face", *map(_short, ASKED)), (face, *made))


def _layout(runtime: Runtime) -> Strip:
    generator = in_process("lostgan", runtime)
    laid = [np.asarray(each) for each in shelf.assets("lostgan").examples["boxes"][:SCENES]]
    made = [one(generator, Setting(), boxes=each) for each in laid]
    images = [image for boxes, picture in zip(laid, made, strict=True) for image in (_framed(boxes), picture)]
    command = "genzoo sample lostgan --set boxes=@boxes.json"
    return strip("A layout filled", command, ["boxes", "a scene"] * SCENES, images)


def _short(prompt: str) -> str:
    """Its first words, as many as fit below a picture."""
    return " ".join(prompt.split()[:3])


def _framed(boxes: np.ndarray) -> np.ndarray:
    """Boxes, (N, 5), as frames on white, uint8 (SIDE, SIDE, 3)."""
    from PIL import Image, ImageDraw

    page = Image.new("RGB", (SIDE, SIDE), "white")
    pencil = ImageDraw.Draw(page)
    for row, (label, *corners) in enumerate(boxes):
        if label >= 0:
            pencil.rectangle(
                [round(each * (SIDE - 1)) for each in corners], outline=COLOURS[row % len(COLOURS)], width=2
            )
    return np.asarray(page)


if __name__ == "__main__":
    write(svg)
