"""The study of mixed traffic: batches hold what was drawn, and the cost of a call is found where it is known."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks.studies import mixed
from benchmarks.studies.mixed import BATCH, CHECKPOINT, EDITS, MIXES, Asker
from export.runners import bundle_generator
from serving import interface
from serving.bundles import prepare
from zoo import files
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest


@pytest.fixture(autouse=True)
def home() -> Path:
    """Everybody's, with its data and the bundles that were exported already: nothing is changed there."""
    return files.home()


@cache
def generator() -> Generator:
    return bundle_generator(prepare(CHECKPOINT, judge=False))


@cache
def asker() -> Asker:
    return Asker.of(generator())


@pytest.mark.parametrize("mix", MIXES)
def test_a_batch_is_of_images_drawn_from_the_mix(mix: str) -> None:
    groups = mixed._batch(asker(), MIXES[mix], seed=1)
    seeds = [int(part["seed"][0]) for group in groups for part in group]
    assert seeds == list(range(BATCH, 2 * BATCH))
    assert 1 <= len(groups) <= len(MIXES[mix])


def test_half_of_the_picture_is_kept_and_half_is_made_anew() -> None:
    whole = interface.merged(generator().spec, [asker().columns(form, seed=1) for form in EDITS])
    plain, begun, kept = generator().run(**whole)["image"]
    half = len(asker().picture) // 2
    np.testing.assert_array_equal(kept[:half], asker().picture[:half])
    assert (kept[half:] != asker().picture[half:]).any()
    assert (plain != begun).any()


@pytest.mark.parametrize("cost", [0.0, 0.4, 3.0])
def test_the_cost_of_a_call_is_found_where_it_is_known(cost: float) -> None:
    sizes = (1, 2, 4, 8, 16)
    assert mixed.fitted(sizes, 1.7 * (cost + np.array(sizes))) == pytest.approx(cost, abs=1e-9)


def test_clients_ask_again_and_again_and_each_answer_is_timed() -> None:
    found = mixed.served(generator(), asker(), {"same": MIXES["same"]}, repetitions=2, seconds=0.2, clients=2)["same"]
    assert len(found.images_per_second) == 2
    assert len(found.latencies_ms) >= 4
    assert (found.latencies_ms > 0.0).all()


def test_the_picture_is_the_generators_own() -> None:
    [image] = generator().sample(SampleRequest((0,), setting=mixed.PLAIN.setting))
    np.testing.assert_array_equal(asker().picture, image)
