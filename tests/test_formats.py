"""What was written in an earlier format still loads, verifies and reports.

`fixtures/first_formats` was made before the house had rooms: an untrained `tiny` as a signed artifact, its signed
bundle with the gate's verdict, the records of one cell, and four of its images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import records
from export.bundle import Bundle
from export.runners import RunnerError, bundle_generator
from serving.interface import tensors
from zoo import registry, shelf
from zoo.contract.request import SampleRequest, Setting
from zoo.exchange.pull import Pulled, pull
from zoo.files import HOME_VARIABLE
from zoo.store.artifact import Kind
from zoo.store.local import verification
from zoo.store.offers import Policy
from zoo.store.remotes import open_remote
from zoo.store.signing import Trust

pytest.importorskip("model_signing")
FIRST = Path(__file__).parent / "fixtures" / "first_formats"


@pytest.fixture
def pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Kind, Pulled]:
    """Both artifacts on a host of their own, under a policy that asks for the publisher's signature."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.delenv(shelf.TREE_VARIABLE, raising=False)
    policy = Policy(Trust((FIRST / "publisher.pem",)), require_signature=True)
    remote = open_remote(str(FIRST / "remote"))
    wanted = {Kind.CHECKPOINT: "", Kind.BUNDLE: "fp32"}
    return {
        kind: pull("tiny", [remote], shelf.blob_store(), policy, kind=kind, variant=variant)
        for kind, variant in wanted.items()
    }


def test_an_artifact_and_its_signature_are_verified(pulled: dict[Kind, Pulled]) -> None:
    assert all("publisher" in each.ref.signer for each in pulled.values())
    verified = verification.verify(shelf.blob_store())
    assert not verified.damaged
    checkpoint = registry.checkpoint("tiny")
    assert checkpoint.spec.sampling is not None
    assert checkpoint.spec.sampling.num_steps == 4
    registry.load_module(checkpoint)


def test_a_bundle_makes_the_images_that_it_made(pulled: dict[Kind, Pulled]) -> None:
    """Admitted by the verdict that came with it; another processor may round one grey level on one pixel of 1,000."""
    from export.exporter import folder
    from export.variant import Variant

    bundle = Bundle.open(folder("tiny", Variant()))
    assert bundle.admitted
    before = np.load(FIRST / "images.npz")
    seeds, classes = (tuple(int(value) for value in before[key]) for key in ("seeds", "class_ids"))
    made = bundle_generator(bundle).run(**tensors(bundle.spec, SampleRequest(seeds, {"class_id": classes})))["image"]
    difference = np.abs(made.astype(int) - before["images"].astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.001


def test_a_bundle_does_what_it_could_and_refuses_the_rest_by_the_command_that_makes_it_anew(
    pulled: dict[Kind, Pulled],
) -> None:
    from export.exporter import folder
    from export.variant import Variant

    generator = bundle_generator(Bundle.open(folder("tiny", Variant())))
    plain, guided, begun = (
        generator.sample(SampleRequest((1, 2), *asked))
        for asked in ((), ({}, Setting(guidance_scale=2.0)), ({"image": (90,)}, Setting(strength=0.5)))
    )
    assert guided.shape == plain.shape
    assert not np.array_equal(begun, plain)
    mask = np.full((32, 32, 1), 255, np.uint8)
    mask[:16] = 0
    for asked, what in (
        (({}, Setting(guidance_scale=2.0, guidance_interval=(0.1, 1.0))), "guidance on an interval of levels"),
        (({"image": (90,), "mask_image": (mask,)},), "a mask"),
    ):
        with pytest.raises(RunnerError, match=f"cannot do {what}: `genzoo export tiny` makes it anew"):
            generator.sample(SampleRequest((1, 2), *asked))


def test_records_are_refused_as_their_intervals_did_not_cover() -> None:
    with pytest.raises(records.RecordError, match="'genzoo-record/2', expected 'genzoo-record/3'; measure it again"):
        records.read(FIRST / "records.jsonl")
