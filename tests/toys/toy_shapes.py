"""Random pictures, and all that is known of each."""

import numpy as np

from zoo.datasets import Data, Dataset

COUNT = 48


def load(split, source=None):
    draw = np.random.default_rng(split == "test")
    conditions = {
        "prompt": [("dark boot", "bright sand", "red")[index % 3] for index in range(COUNT)],
        "boxes": np.tile(np.float32([[2, 0.0, 0.0, 0.5, 0.5], [-1, 0, 0, 0, 0]]), (COUNT, 1, 1)),
        "ground": draw.integers(0, 3, (COUNT, 8, 8), np.uint8),
        "low_ground": draw.integers(0, 4, (COUNT, 4, 4), np.uint8),
        "control": draw.integers(0, 256, (COUNT, 8, 8, 1), np.uint8),
        "warmth": draw.uniform(-1, 1, COUNT).astype(np.float32),
        "detail": draw.uniform(0, 2, COUNT).astype(np.float32),
        "picture": draw.integers(0, 256, (COUNT, 8, 8, 1), np.uint8),
        "hole": np.full((COUNT, 8, 8, 1), 255, np.uint8),
        "attributes": draw.uniform(-1, 1, (COUNT, 3)).astype(np.float32),
    }
    return Data(draw.integers(0, 256, (COUNT, 8, 8, 1), np.uint8), conditions)


DATASET = Dataset(
    name="toy_shapes",
    title="Shapes",
    licence="CC0",
    credit="genzoo's tests",
    shows="noise",
    prepared="drawn",
    verified="by nobody",
    image_shape=(8, 8, 1),
    counts={"train": COUNT, "test": COUNT},
    load=load,
)
