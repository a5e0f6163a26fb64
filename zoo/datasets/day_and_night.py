"""Scenes by day and scenes by night, of which no two are of one landscape, for what learns to turn them without pairs.

What a scene is at the other hour is drawn as exactly as the scene itself (`pairs`), for judging alone.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from zoo.datasets import Data, scenes

DAY = "day_image"
HOURS = ("day", "night")
TO = "to"  # which of them


def pairs(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Held-out scenes by day and by night, and whose each pixel is, as `scenes.draw`; by turns of either hour.

    uint8 (count, 64, 64, 3) twice, uint8 (count, 64, 64). Raises DatasetError.
    """
    found = ((shown, index) for shown, index in scenes.held_out() if shown.hour in HOURS)
    drawn = [
        [scenes.draw(dataclasses.replace(shown, hour=hour), f"{scenes.SEED} {index}") for hour in HOURS]
        for shown, index in itertools.islice(found, count)
    ]
    by_day, by_night = (np.stack([each[hour][0] for each in drawn]) for hour in range(len(HOURS)))
    return by_day, by_night, np.stack([each[0][1] for each in drawn])


def load(split: str, source: str | None = None) -> Data:
    """Scenes by night, uint8 (N, 64, 64, 3), and as `day_image` as many others by day. Raises DatasetError."""
    found = scenes.load(split, source)
    hours = np.array(scenes.hours_of(found.conditions["prompt"]))
    by_day, by_night = (found.images[hours == hour] for hour in HOURS)
    count = min(len(by_day), len(by_night))
    return Data(by_night[:count], {DAY: by_day[:count]})


DATASET = dataclasses.replace(
    scenes.DATASET,
    name="day_and_night",
    title="Scenes of three designs by day and by night",
    shows="critters, pot plants and planets in a landscape by night, and others by day",
    counts={"train": 1_260, "test": 579},
    load=load,
    labels={TO: HOURS},
)
