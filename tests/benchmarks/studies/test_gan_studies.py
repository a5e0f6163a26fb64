"""The studies of GANs that are truncated, told a caption or came later: what they measure, and what their rows say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.studies import NETS, captions, newcomers, spoken, truncation, value
from zoo.datasets.critters import CRITTER

COUNT = 10


@pytest.fixture(scope="module")
def critters() -> tuple[list[str], np.ndarray]:
    """Captions of unseen combinations, and the pictures of them."""
    pytest.importorskip("dicebear")
    shown, images = captions.held_out(CRITTER, COUNT)
    return [each.caption for each in shown], images


def test_real_critters_are_told_surely_and_noise_is_not(critters: tuple[list[str], np.ndarray]) -> None:
    _, images = critters
    noise = np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)
    real, torn = truncation.measured(images), truncation.measured(noise)
    assert len(real) == len(truncation.COLUMNS) - 1
    assert value(real[0]) > 0.99 > 0.5 > value(torn[0])
    assert value(real[1]) > 0.95
    assert value(real[2]) > 0.7
    assert value(torn[2]) == 0.0
    alike = truncation.measured(images[:1].repeat(COUNT, 0))
    assert value(alike[3]) == 0.0, "no two pictures differ"
    assert value(alike[4]) == pytest.approx(0.0, abs=1e-5)
    assert value(real[3]) > 10.0
    assert int(str(alike[5]).split()[0]) == len(CRITTER.attributes) < int(str(real[5]).split()[0])


def test_a_wrong_caption_is_read_as_wrong(critters: tuple[list[str], np.ndarray]) -> None:
    said, images = critters
    own = spoken.measured(images, said, images)
    other = spoken.measured(np.roll(images, -1, axis=0), said, images)
    assert len(own) == len(other) == len(spoken.COLUMNS) - 1
    assert value(own[0]) > 0.95 > 0.6 > value(other[0])
    assert value(own[2]) > value(own[3])
    assert value(own[4]) == 0.0 < value(other[4])


def test_a_half_of_one_colour_is_that_colour_and_bicubic_brings_it_back() -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8) + np.array([10, 120, 250], np.uint8)
    small = spoken.halved(images)
    assert (small.shape, small.dtype) == ((2, 4, 4, 3), np.float32)
    assert (small == [10.0, 120.0, 250.0]).all()
    assert (spoken.bicubic(small) == images).all()
    images[:, ::2] = 0
    assert (spoken.halved(images) == [5.0, 60.0, 125.0]).all(), "the mean of four pixels"


def test_the_enlarger_gives_twice_the_side_by_words() -> None:
    small = np.full((2, 32, 32, 3), 128.0, np.float32)
    red, blue = (spoken.enlarged(small, [f"critter {colour} dome" for _ in range(2)]) for colour in ("red", "blue"))
    assert (red.shape, red.dtype) == ((2, 64, 64, 3), np.uint8)
    assert (red != blue).any()


def test_answers_are_those_of_the_rows() -> None:
    rows = [(f"stylegan psi={psi:g}", "1", f"{psi}", f"{1 - psi / 2} (0 to 1)", f"{40 * psi}", "0", "9 of 9")
            for psi in truncation.PSIS]  # fmt: skip
    said = truncation.answer([*rows, ("real", "1", "1", "0.99", "44", "0", "9 of 9")])
    assert said == (
        "A judge is sure of all attributes in 50.0% of what is made without truncation and in 75.0% at psi=0.5, of "
        "real pictures in 99.0%; two pictures are then 40 and 20 grey levels apart, real ones 44."
    )
    shares = (0.8, 0.3, 0.9, 0.4, 0.95, 0.2, 0.7, 0.6)
    told = [(f"row {share}", f"{share} (0 to 1)", "0", "0", "0", f"{10 * share}") for share in shares]
    assert spoken.answer(told) == (
        "Of the attributes of unseen combinations are right: gan-cls 80.0% by the right caption and 30.0% by a wrong "
        "one; gigagan 90.0% by the right caption and 40.0% by a wrong one; of real pictures 95.0%. From real pictures "
        "are 7.0 grey levels what the enlarger makes of a half, 6.0 bicubic."
    )


def test_a_newcomer_is_said_to_recall_what_it_does() -> None:
    names = (newcomers.GAN, *newcomers.LATER, *map(newcomers.titled, newcomers.KERNELS))
    distances, recalls = (5.0, 4.0, 6.0, 2.0, 3.0), (0.5, 0.6, 0.4, 0.1, 0.1)
    rows = [
        (name, 1, 1.0, *[f"{distance}"] * len(NETS), *[f"{recall}"] * len(NETS))
        for name, distance, recall in zip(names, distances, recalls, strict=True)
    ]
    said = newcomers.answer(rows)
    assert f"`r3gan` recalls at least what `gan` does in {' and '.join(NETS)}" in said
    assert "`drift` recalls at least what `gan` does in no net" in said
    assert said.endswith("Fréchet distances 2, 2, 2 against 3, 3, 3.")
    assert len(rows[0]) == 3 + len(newcomers.METRICS)


def test_the_kernels_are_the_shipped_recipe_but_for_pictures_and_features() -> None:
    for kernel in newcomers.KERNELS:
        made = newcomers.ablation(kernel).entry
        assert made.recipe is not None
        assert (made.recipe.images, made.recipe.options["features"]) == (newcomers.TRAINED, kernel)
