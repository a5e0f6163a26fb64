"""Progressive growing against direct training (Karras et al. 2018, section 3): the same network, data and loss.

The grown network has four stages, the first of them cheap. The direct one is trained at full size from the start: for
as long, then on to as many pictures. The study trains that one itself, some minutes of one core, and keeps it, and the
last stage too under another objective, R3GAN's, from the same stage before.

Images of every size are judged enlarged to what the feature nets know, against real pictures that were shrunk to that
size and enlarged alike. Real pictures that nothing was trained on give the floor of a size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache

import numpy as np
import torch

from benchmarks.measure import samples
from benchmarks.quality import distances, features
from benchmarks.quality.features import View
from benchmarks.quality.metrics import metric_name
from benchmarks.statistics import Estimate
from benchmarks.studies import JUDGES, NETS, Cells, Findings, Study, value
from benchmarks.studies.ablations import Ablation
from zoo import registry, shelf
from zoo.contract.generator import Generator
from zoo.contract.request import Setting
from zoo.datasets import fashion_mnist
from zoo.families.progressive_gan import shrunk
from zoo.family import Checkpoint, Recipe
from zoo.images import to_images, to_pixels

STAGES = ("pgan-4", "pgan-8", "pgan-16", "pgan")
AS_LONG = 60_160  # pictures of direct training that take about the time of all stages
IMAGES, REFERENCE = 1000, 10_000
SIZE = JUDGES.nets[0].image_shape[0]  # of the images that the nets know


def run() -> Findings:
    rows = [*grown(), *paired(), *direct(), *real()]
    columns = ("network", "pixels", "pictures", "core-minutes")
    metrics = (metric_name(kind, IMAGES, net) for kind in ("fd", "recall") for net in NETS)
    return Findings((*columns, *metrics), tuple(rows), _answer(rows))


def grown() -> Iterator[Cells]:
    """A row a stage; pictures and minutes are those of all stages up to it."""
    from export.runners import TorchRunner

    pictures, minutes = 0, 0.0
    for name in STAGES:
        stage, config = registry.checkpoint(name), shelf.config(name)
        pictures, minutes = pictures + config["training"]["images"], minutes + config["training"]["core_minutes"]
        generator = Generator(stage.spec, TorchRunner(stage))
        images = samples.draw(generator, Setting(), IMAGES, {"weights": config["weights"]["sha256"]})
        yield _row(name, images, pictures, minutes)


def paired() -> Iterator[Cells]:
    """The last stage under R3GAN's objective, on as many pictures; those and the minutes are of this stage alone."""
    ablation = Ablation(in_pairs())
    training, images = ablation.record(), samples.draw(ablation.generator(), Setting(), IMAGES, ablation.made_by)
    yield _row("the last stage, in pairs", images, training["images"], training["core_minutes"])


def in_pairs() -> Checkpoint:
    last = registry.checkpoint(STAGES[-1])
    options = {"fade": _recipe(last).options["fade"], "decay": False, "penalty": [1.0, 0.3], "penalized": 16}
    recipe = dataclasses.replace(_recipe(last), kind="relativistic_growing", learning_rate=3e-3, options=options)
    return dataclasses.replace(last, recipe=recipe)


def direct() -> Iterator[Cells]:
    """A row for the direct network once it was trained for as long, and one for it at the end."""
    pictures, minutes = 0, 0.0
    for name, ablation in ungrown_ablations().items():
        training = ablation.record()
        pictures, minutes = pictures + training["images"], minutes + training["core_minutes"]
        yield _row(name, samples.draw(ablation.generator(), Setting(), IMAGES, ablation.made_by), pictures, minutes)


def ungrown_ablations() -> dict[str, Ablation]:
    as_long = Ablation(ungrown(AS_LONG))
    rest = sum(_recipe(registry.checkpoint(name)).images for name in STAGES) - AS_LONG
    return {"direct, as long": as_long, "direct, as many pictures": Ablation(ungrown(rest), start=as_long)}


def ungrown(pictures: int) -> Checkpoint:
    """The last stage's entry, with nothing before it and nothing to fade in."""
    last = registry.checkpoint(STAGES[-1])
    options = {**_recipe(last).options, "fade": 0.0}
    return dataclasses.replace(
        last, teacher=None, recipe=dataclasses.replace(_recipe(last), images=pictures, options=options)
    )


def real() -> Iterator[Cells]:
    """The floor of each size."""
    pictures = fashion_mnist.load("test").images[-IMAGES:]
    for name in STAGES:
        yield _row("real pictures", at_size(pictures, registry.checkpoint(name).spec.default_image_shape[0]))


def _row(name: str, images: np.ndarray, pictures: int | None = None, minutes: float | None = None) -> Cells:
    size = images.shape[1]
    found = judged(features.look(features.enlarged(images, SIZE), NETS), reference(size))
    return name, size, pictures, minutes and round(minutes, 1), *map(str, found)


def judged(seen: dict[str, View], real: dict[str, View]) -> Iterator[Estimate]:
    """Fréchet distances, then recalls, in each net."""
    for net in NETS:
        yield distances.frechet(seen[net].features, distances.moments(real[net].features))[0].estimate()
    for net in NETS:
        mine, some = seen[net].features, real[net].features[:IMAGES]
        yield distances.recall(mine, some).estimate()


@cache
def reference(size: int) -> dict[str, View]:
    """What the nets see in training pictures at that size."""
    pictures = at_size(fashion_mnist.load("train").images[:REFERENCE], size)
    return features.look(features.enlarged(pictures, SIZE), NETS)


def at_size(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 (N, H, H, C) -> (N, size, size, C), as a stage is shown them."""
    return np.asarray(to_images(shrunk(torch.from_numpy(to_pixels(images)), size)))


def _recipe(entry: Checkpoint) -> Recipe:
    assert entry.recipe is not None
    return entry.recipe


def _answer(rows: list[Cells]) -> str:
    by_name = {str(row[0]): row for row in rows}
    whole, *rivals = (by_name[name] for name in (STAGES[-1], "direct, as long", "direct, as many pictures"))
    said = []
    for column, net in enumerate(NETS, 4):
        values = [value(row[column]) for row in (whole, *rivals)]
        said.append(
            f"in the {net}'s features {values[0]:.3g} grown, {values[1]:.3g} direct in the same time and "
            f"{values[2]:.3g} direct with as many pictures"
        )
    return f"The Fréchet distance at full size is {'; '.join(said)}. One run each."


STUDY = Study(
    "Does growing a GAN beat training the same network directly, in the same time or on as many pictures?",
    STAGES,
    run,
    {"images": IMAGES, "reference": REFERENCE, "as_long": AS_LONG},
)
