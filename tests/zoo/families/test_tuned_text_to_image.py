"""What is tuned from a base: what may move moves, all else stays the base's to the bit, and scales undo it exactly."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.zoo.families.test_text_to_image import TINY, designs_batch
from zoo import registry, shelf
from zoo.contract.layout import WEIGHTS
from zoo.datasets import altered_designs, designs, inked_designs, one_person, same_people
from zoo.datasets.portraits import read
from zoo.families import text_to_image
from zoo.families.guides import GUIDES, enlarge, guide, repaint
from zoo.families.tuned_text_to_image import BASE, CHECKPOINTS, TunedConfig
from zoo.family import Checkpoint
from zoo.networks import low_rank
from zoo.networks.widened import Placed
from zoo.training.guided_tuning import GuidedTuning
from zoo.training.imagic import Imagic
from zoo.training.latent_consistency import LatentConsistency
from zoo.training.loop import Batch
from zoo.training.text_to_image import captions_of
from zoo.training.tuning import Tuning

KINDS = {
    "latent_consistency": LatentConsistency,
    "tuning": Tuning,
    "guided_tuning": GuidedTuning,
    "imagic": Imagic,
}
CPU = torch.device("cpu")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """A small one in a tree of its own, of which nothing is nothing."""
    monkeypatch.setenv(shelf.TREE_VARIABLE, str(tmp_path))
    origin = registry.checkpoint("t2i-base")
    config = dataclasses.replace(TINY, words=BASE.words)
    found = dataclasses.replace(origin, teacher=None, config=config, spec=text_to_image.spec("t2i-base", config))
    torch.manual_seed(0)
    module = text_to_image.TextToImage(config)
    for parameter in module.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    shelf.save(found, module.state_dict(), {})
    return found


def tuned(name: str, base: Checkpoint) -> Checkpoint:
    found = next(each for each in CHECKPOINTS if each.name == name)
    network = dataclasses.replace(base.config, words=found.config.network.words)
    config = TunedConfig(network, dict.fromkeys(found.config.adapters, 2), found.config.beside)
    scales = [each for each in found.spec.conditions if each.name in config.adapters]
    beside = config.guide.conditions(network) if config.guide else ()
    spec = dataclasses.replace(found.spec, conditions=(text_to_image.prompt(network), *scales, *beside))
    return dataclasses.replace(found, spec=spec, config=config)


def batch() -> Batch:
    found = designs_batch()
    beside = (127.5 * (1.0 + found.images.permute(0, 2, 3, 1))).byte()
    told = [f"{each} {one_person.WORD}" for each in captions_of(found)]
    boxes = torch.tensor([[3.0, 0.0, 0.25, 0.5, 1.0], [-1.0, 0.0, 0.0, 0.0, 0.0]]).repeat(len(told), 2, 1)
    conditions = {
        altered_designs.REFERENCE: beside,
        "boxes": boxes,
        "face": beside[:, same_people.HEAD[0], same_people.HEAD[1]],
    }
    return Batch(found.images, {"prompt": told, **conditions})


@pytest.mark.parametrize("name", [each.name for each in CHECKPOINTS])
def test_what_may_move_moves_and_the_file_holds_nothing_else(name: str, base: Checkpoint) -> None:
    checkpoint = tuned(name, base)
    assert checkpoint.recipe is not None
    for other in checkpoint.recipe.options.get("beside", ()):
        ready = tuned(other, base)
        shelf.save(ready, Tuning(ready, CPU).model.state_dict(), {})
    objective = KINDS[checkpoint.recipe.kind](checkpoint, CPU)
    before = {key: each.clone() for key, each in objective.model.state_dict().items()}
    for progress in (0.0, 0.2, 0.4, 0.6):  # through layer after layer of what begins as nothing
        losses = objective.step(batch(), progress)
    assert all(loss.isfinite() for loss in losses.values())
    after = objective.model.state_dict()
    moved = {key for key, each in after.items() if not torch.equal(each, before[key])}
    adapters = {key for key in after if any(f".{low_rank.CHILD}.{each}." in key for each in checkpoint.config.adapters)}
    own = {key for key in adapters if key.split(f".{low_rank.CHILD}.")[1].split(".")[0] in objective.adapters}
    words = {"text_encoder.embedding.weight"}
    guide = after.keys() - shelf.tensors("t2i-base").shapes.keys() - adapters
    assert moved == own | (words if one_person.WORD in checkpoint.config.network.words else set()) | guide
    known = shelf.load_tensors("t2i-base")
    assert (after["text_encoder.embedding.weight"].numpy()[: 3 + len(BASE.words)] == known[min(words)]).all()
    folder = shelf.save(checkpoint, after, {})
    assert load_file(folder / WEIGHTS).keys() == adapters | guide | (
        words if one_person.WORD in checkpoint.config.network.words else set()
    )
    assert all(
        value.equal(after[key].half().float()) for key, value in registry.load_module(checkpoint).state_dict().items()
    )


def test_a_scale_of_nothing_is_the_base_to_the_bit_and_a_batch_mixes_scales(base: Checkpoint) -> None:
    checkpoint = tuned("t2i-ink", base)
    objective = Tuning(checkpoint, CPU)
    for _ in range(3):
        objective.step(batch(), 0.0)
    shelf.save(checkpoint, objective.model.state_dict(), {})
    found = registry.family(checkpoint.spec.family).graphs(registry.load_module(checkpoint), checkpoint)
    graphs = {graph.name: graph.module for graph in found}
    network = registry.load_module(base)
    x, level = torch.randn(3, 4, 16, 16), torch.zeros(3)
    with torch.inference_mode():
        told = graphs["encode_prompt"](*objective.captions.tokens(["planet red", "mood blue", ""]))
        alone = network.denoiser(x, level, *told)
        mixed = graphs["denoiser"](x, level, *told, torch.tensor([0.0, 1.0, 0.0]))
        whole = graphs["denoiser"](x, level, *told, torch.ones(3))
    assert torch.equal(mixed[[0, 2]], alone[[0, 2]])
    assert not torch.equal(mixed[1], alone[1])
    torch.testing.assert_close(mixed[1], whole[1])


@pytest.mark.parametrize("name", [name for name in GUIDES if guide(name).sight])
def test_a_guide_without_strength_is_the_base_to_the_bit(name: str, base: Checkpoint) -> None:
    beside, network, known = guide(name), base.config, registry.load_module(base).denoiser
    denoiser = beside.denoiser(network.denoiser, network.context, network.rounds)
    left = denoiser.load_state_dict(known.state_dict(), strict=False)
    assert not left.unexpected_keys
    for key in left.missing_keys:
        torch.nn.init.normal_(denoiser.state_dict()[key], std=0.1)
    told = torch.randn(2, network.length, network.context), torch.zeros(2, network.length)
    own, scale = beside.conditions(network), torch.zeros(2)
    seen = [torch.randn(2, *tensor.concrete({})) for each in own if each.encoded for tensor in each.tensors]
    shape = seen[0].shape if name != "control" else (2, network.denoiser.channels[0], 16, 16)
    nothing = torch.ones(2, 1, 64, 64) if name == "repaint" else scale
    x, level = torch.randn(2, 4, 16, 16), torch.zeros(2)
    with torch.inference_mode():
        assert torch.equal(denoiser(x, level, *told, seen[0].reshape(shape), nothing), known(x, level, *told))
        strong = denoiser(x, level, *told, seen[0], 1.0 - nothing)
    assert not torch.equal(strong, known(x, level, *told))


def test_what_is_made_anew_is_the_box_around_what_changes() -> None:
    shown, draws = designs.understood("critter blue dome horns big smile on red"), np.random.default_rng(3)
    found = repaint.altered(shown, "", draws)
    assert found is not None
    assert found.prompt != designs.whole(shown)
    kept = found.mask == repaint.KEPT
    assert (found.picture == found.wanted)[kept.repeat(3, -1)].mean() > 0.99
    masks = np.stack([repaint.mask(draws, 64) for _ in range(50)])
    assert set(np.unique(masks)) == {repaint.KEPT, repaint.NEW}
    assert 0.1 < (masks == repaint.NEW).mean() < 0.7


def test_a_small_picture_is_of_means_and_a_box_is_painted_where_it_is() -> None:
    pixels = np.arange(2 * 8 * 8 * 3).reshape(2, 8, 8, 3).astype(np.uint8) // 2
    assert enlarge.shrunk(pixels).shape == (2, 2, 2, 3)
    assert enlarge.shrunk(pixels)[0, 0, 0, 0] == np.rint(pixels[0, :4, :4, 0].mean())
    painter = Placed(4, 8, 3)
    torch.nn.init.dirac_(painter.layers[0].weight)
    painter.layers = painter.layers[:1]
    torch.nn.init.zeros_(painter.layers[0].bias)
    boxes, labels = torch.tensor([[[0.25, 0.5, 0.5, 1.0], [0.0, 0.0, 0.0, 0.0]]]), torch.tensor([[1, 3]])
    with torch.inference_mode():
        there = painter(boxes, labels)[0].abs().sum(0) > 0
    assert there[4:, 2:4].all()
    assert there.sum() == 8


def test_two_pictures_of_a_person_differ_in_all_but_who_it_is() -> None:
    for each in itertools.islice(same_people.pairs(), 30):
        assert all(each.wanted.words[name] == each.beside.words[name] for name in each.same)
        assert {"skin", "hair", "top", "glasses"} <= set(each.same)
        said = each.caption.split()
        assert said[0] == each.wanted.style.word
        assert "hair" not in said


def test_the_subject_is_told_by_its_word_and_its_pictures_are_who_it_is() -> None:
    assert len(one_person.SEEN) == 5
    assert not set(one_person.SEEN) & set(one_person.UNSEEN)
    for pair in (*one_person.SEEN, *one_person.UNSEEN):
        said = one_person.caption(*pair).split()
        assert said.count(one_person.WORD) == 1
        found = read(" ".join(word for word in said if word != one_person.WORD), (one_person.STYLE,))
        assert (found.words["face"], found.words["shirt"]) == pair
        assert one_person.shown(*pair).words.items() >= one_person.IDENTITY.items()
    assert one_person.WORD not in BASE.words
    assert len(one_person.load("test")) == len(one_person.UNSEEN)


def test_ink_is_lines_on_paper() -> None:
    flat = torch.full((1, 8, 8, 3), 255, dtype=torch.uint8).numpy()
    assert (inked_designs.drawn(flat) == inked_designs.PAPER).all()
    flat[:, :, 4:] = (0, 200, 0)
    found = inked_designs.drawn(flat)[0, 3]
    assert (found[:3] == inked_designs.PAPER).all()
    assert (found[3] == inked_designs.INK).all()
    assert len(set(map(tuple, found[4:7].tolist()))) == 1


def test_what_differs_from_the_picture_beside_is_what_is_said() -> None:
    for each, _ in altered_designs.pairs(20):
        assert 1 <= len(each.differing) <= 2
        assert {name for name, word in each.wanted.words.items() if each.beside.words[name] != word} == set(
            each.differing
        )
        said = designs.understood(each.caption)
        assert all(said.words[name] == each.wanted.words[name] for name in each.differing)
