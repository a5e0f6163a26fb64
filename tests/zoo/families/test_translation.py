"""Translation: networks take what they are shown, training moves them towards its truth, and what is shipped belongs
to what it was shown."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.studies import translations
from export.runners import TorchRunner
from tests.examples import at_random
from zoo import registry, shelf
from zoo.contract.errors import RequestError
from zoo.contract.request import SampleRequest
from zoo.datasets import day_and_night, drawings, faces, scene_boxes, scene_maps
from zoo.families.translation import BICYCLEGAN, CYCLEGAN, INSTAGAN, LOSTGAN, PIX2PIX, SPADE, STARGAN, TranslationConfig
from zoo.family import Checkpoint
from zoo.training import (
    bicycle_translation,
    cycle_translation,
    instance_translation,
    layout,
    paired_translation,
    star_translation,
)
from zoo.training.loop import Batch

FAMILY = registry.family("translation")
ENTRIES = {each.name: each for each in (PIX2PIX, BICYCLEGAN, CYCLEGAN, SPADE, LOSTGAN, STARGAN, INSTAGAN)}
SHIPPED = [each.name for each in FAMILY.checkpoints]
TINY = {
    "colouring": TranslationConfig("colouring", (8, 8, 16)),
    "varied_colouring": TranslationConfig("varied_colouring", (8, 8, 16), latent=16, hidden=8),
    "both_ways": TranslationConfig("both_ways", (8, 8, 16), classes=2, blocks=1),
    "painting": TranslationConfig("painting", (16, 8, 8), len(scene_maps.CLASSES), latent=64, hidden=8),
    "arranging": TranslationConfig("arranging", (16, 8, 8), len(scene_boxes.LABELS), latent=32, hidden=8),
    "retouching": TranslationConfig("retouching", (8, 8, 16), len(faces.CHANGES), blocks=1),
    "replacing": TranslationConfig("replacing", (8, 8, 16), classes=5, blocks=1),
}
CPU = torch.device("cpu")


def tiny(name: str) -> Checkpoint:
    return dataclasses.replace(ENTRIES[name], config=TINY[ENTRIES[name].config.network])


def flat(count: int = 8) -> Tensor:
    """Pictures of one colour each."""
    return (torch.rand(count, 3, 1, 1) * 2.0 - 1.0).expand(-1, -1, 64, 64).contiguous()


def batch(name: str) -> Batch:
    images = flat()
    if name in ("pix2pix", "bicyclegan"):
        lines = torch.full((8, 64, 64, 3), drawings.PAPER, dtype=torch.uint8)
        lines[:, 20] = (images[:, :, 0, 0, None] * 127.5 + 127.5).to(torch.uint8).permute(0, 2, 1)
        return Batch(images, {"image": lines, "style": torch.arange(8) % 2})
    if name == "spade":
        classes = torch.randint(len(scene_maps.CLASSES), (8,))
        images = torch.from_numpy(scene_maps.COLOURS)[classes].float()[:, :, None, None].expand(-1, -1, 64, 64)
        return Batch(images / 127.5 - 1.0, {"map": classes[:, None, None].expand(-1, 64, 64).to(torch.uint8)})
    if name == "lostgan":
        figures = torch.tensor([[4.0, 0.25, 0.25, 0.75, 0.75], *[[-1.0, 0.0, 0.0, 0.0, 0.0]] * 3]).expand(8, -1, -1)
        return Batch(images, {"boxes": torch.from_numpy(scene_boxes.of_hour(["night"] * 8, figures.numpy()))})
    if name == "instagan":
        figures = torch.zeros(8, 64, 64, dtype=torch.uint8)
        figures[:, 40:60, 4:20], figures[:4, 30:50, 30:50] = 1, 2
        plants = torch.full((8, 64, 64, 3), 200, dtype=torch.uint8)
        return Batch(images, {"figures": figures, "plant_image": plants, "plants": figures.flip(2)})
    if name == "cyclegan":
        return Batch(images, {day_and_night.DAY: torch.full((8, 64, 64, 3), 200, dtype=torch.uint8)})
    return Batch(images, {"colours": torch.randint(4, (8, 2))})


@pytest.mark.parametrize("name", [name for name in ENTRIES if ENTRIES[name].recipe.kind == "paired_translation"])  # type: ignore[union-attr]
def test_what_is_made_comes_nearer_to_its_pair(name: str) -> None:
    torch.manual_seed(0)
    objective, shown = paired_translation.objective(tiny(name), CPU), batch(name)
    first = objective.evaluate(objective.model, shown)["grey_levels_from_its_pair"]
    for _ in range(20):
        objective.step(shown, 0.5)
    last = objective.evaluate(objective.model, shown)
    assert last["grey_levels_from_its_pair"] < 0.85 * first
    assert last["grey_levels_from_another"] == objective.evaluate(objective.model, shown)["grey_levels_from_another"]


def test_ink_says_where_and_not_which_colour() -> None:
    lines = batch("pix2pix").conditions["image"]
    assert isinstance(lines, Tensor)
    found = paired_translation.inked(lines, torch.arange(8) < 4)
    assert (found[:4, 20] == drawings.INK).all()
    assert (found[:, 21] == drawings.PAPER).all()
    assert torch.equal(found[4:], lines[4:])


def test_a_map_and_its_picture_are_mirrored_together() -> None:
    objective = paired_translation.objective(tiny("spade"), CPU)
    classes = torch.zeros(64, 64, 64, dtype=torch.uint8)
    classes[:, :, :32] = 1
    images = classes[:, None].float().expand(-1, 3, -1, -1)
    found = objective._varied(Batch(images, {"map": classes}))
    assert torch.equal(found.images[:, 0], found.conditions["map"].float())  # type: ignore[union-attr]
    assert 0 < int(found.conditions["map"][:, 0, 0].sum()) < 64  # type: ignore[call-overload]


def test_changes_are_learnt_without_pairs_and_the_way_back_ends_near_where_it_began() -> None:
    torch.manual_seed(0)
    objective, shown = star_translation.objective(tiny("stargan"), CPU), batch("stargan")
    losses = [objective.step(shown, 0.5) for _ in range(15)]
    assert losses[0]["kept"] == 0.0, "it begins as the identity"
    assert losses[-1]["known"] < losses[0]["known"]
    assert losses[-1]["kept"] < 0.2
    assert not any(parameter.requires_grad is False for parameter in objective.critic.parameters())


def test_a_picture_comes_back_from_its_latents_and_not_from_others() -> None:
    torch.manual_seed(0)
    objective, shown = bicycle_translation.objective(tiny("bicyclegan"), CPU), batch("bicyclegan")
    losses = [objective.step(shown, 0.5) for _ in range(40)]
    found = objective.evaluate(objective.model, shown)
    assert losses[-1]["distance"] < 0.8 * losses[0]["distance"]
    assert found["grey_levels_between_colourings"] > 5.0
    assert found["grey_levels_from_the_nearest"] < found["grey_levels_from_its_pair"]


def test_what_is_of_an_hour_already_is_left_and_the_rest_moves_towards_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dicebear")
    monkeypatch.setattr(cycle_translation, "JUDGED", 4)
    torch.manual_seed(0)
    objective, shown = cycle_translation.objective(tiny("cyclegan"), CPU), batch("cyclegan")
    losses = [objective.step(shown, 0.5) for _ in range(15)]
    assert losses[0]["same"] == losses[0]["cycle"] == 0.0, "each way begins as the identity"
    assert losses[-1]["same"] > 0.0
    found = objective.evaluate(objective.model, shown)
    assert found["grey_levels_there_and_back_by_day"] < found["grey_levels_unchanged"]


def test_what_is_made_of_boxes_comes_nearer_to_the_picture() -> None:
    torch.manual_seed(0)
    objective, shown = layout.objective(tiny("lostgan"), CPU), batch("lostgan")
    shown = Batch(shown.images[:1].expand(8, -1, -1, -1), shown.conditions)
    losses = [objective.step(shown, 0.5) for _ in range(20)]
    assert losses[-1]["distance"] < 0.8 * losses[0]["distance"]
    assert set(objective.evaluate(objective.model, shown)) == {"grey_levels_from_its_pair", "grey_levels_from_another"}


def test_each_picture_of_a_batch_goes_its_own_way() -> None:
    module = FAMILY.build(TINY["both_ways"])
    for way in module.network.ways:
        torch.nn.init.normal_(way.to_pixels.weight)
    pictures, ways = flat(2), torch.tensor([[1], [0]])
    made = module.pixels(pictures, ways)
    assert torch.allclose(made[0], module.network.towards(1, pictures)[0], atol=1e-6)
    assert torch.allclose(made[1], module.network.towards(0, pictures)[1], atol=1e-6)


def test_figures_are_turned_one_after_another_and_a_scene_without_any_stays() -> None:
    module = FAMILY.build(TINY["replacing"])
    for way in module.network.ways:
        torch.nn.init.normal_(way.to_pixels.weight, std=0.02)
    pictures, figures = flat(3), torch.zeros(3, 64, 64, dtype=torch.int64)
    figures[:2, :20, :20], figures[0, 40:, 40:] = 1, 3
    made, steps = module.pixels(pictures, figures), pictures
    for number in (1, 3):
        mask = (figures == number).float()[:, None]
        there = mask.amax((1, 2, 3)) > 0
        steps = torch.stack([
            module.network.turned(0, each[None], 2.0 * seen[None] - 1.0)[0][0] if turned else each
            for each, seen, turned in zip(steps, mask, there, strict=True)
        ])  # fmt: skip
    assert torch.allclose(made, steps, atol=1e-4)
    assert torch.equal(made[2], pictures[2])
    assert not torch.allclose(made[0, :, 40:, 40:], pictures[0, :, 40:, 40:], atol=0.01)


def test_only_what_neither_mask_covers_is_kept_as_it_was() -> None:
    before, after = (torch.zeros(1, 3, 8, 8), torch.full((1, 1, 8, 8), -1.0)), torch.ones(1, 3, 8, 8)
    mask, other = before[1].clone(), before[1].clone()
    mask[..., :4, :], other[..., :, :2] = 1.0, 1.0
    found = instance_translation.around((before[0], mask), (after, other))
    assert found == pytest.approx(4 * 6 / 64)  # the lower half without its first two columns
    assert instance_translation.around((before[0], mask), (before[0], other)) == 0.0


def test_one_figure_of_a_scene_is_picked_and_all_come_by_turns() -> None:
    figures = batch("instagan").tensor("figures")
    masks = torch.stack([instance_translation.one_of(figures) for _ in range(30)])  # (30, 8, 1, 64, 64)
    picked = torch.where(masks[:, :, 0] > 0, figures, 0).flatten(2)
    assert all(len(set(each[each > 0].tolist())) == 1 for draw in picked for each in draw)
    assert set(picked[:, 0].amax(1).tolist()) == {1, 2}
    assert set(picked[:, 7].amax(1).tolist()) == {1}


def test_a_critic_sees_a_window_around_the_figure() -> None:
    mask = torch.full((2, 1, 64, 64), -1.0)
    mask[0, 0, 30:34, 30:36], mask[1, 0, 60:64, 0:4] = 1.0, 1.0
    found = instance_translation.windows(mask, mask, 16)
    assert found.shape == (2, 1, 16, 16)
    assert found[0, 0, 6:10, 5:11].eq(1.0).all()
    assert found[1, 0, 12:, :4].eq(1.0).all()
    assert (found > 0).sum() == 24 + 16


def test_figures_of_two_kinds_are_learnt_without_pairs() -> None:
    torch.manual_seed(0)
    objective, shown = instance_translation.objective(tiny("instagan"), CPU), batch("instagan")
    losses = [objective.step(shown, 0.5) for _ in range(15)]
    assert losses[0]["cycle"] == losses[0]["around"] == 0.0, "each way begins as the identity"
    assert losses[-1]["critic"] < losses[0]["critic"]
    assert losses[-1]["cycle"] > 0.0
    found = objective.evaluate(objective.model, shown)
    assert found["grey_levels_outside"] < found["grey_levels_within_masks"]


def test_hair_and_skin_are_told_apart() -> None:
    logits = torch.zeros(2, 2, 4)
    logits[0, 0, 3] = logits[0, 1, 1] = logits[1, 0, 0] = logits[1, 1, 2] = 50.0
    assert star_translation.told_apart(logits, torch.tensor([[3, 1], [0, 2]])) < 1e-6
    assert star_translation.told_apart(logits, torch.tensor([[3, 1], [0, 1]])) > 10.0


LONG = ("lostgan", "instagan")
LONGER = (
    pytest.mark.longer,
    pytest.mark.skipif(not at_random, reason="its judge learns for a minute: in `make fuzz`"),
)


@pytest.mark.parametrize("name", [pytest.param(name, marks=LONGER) if name in LONG else name for name in SHIPPED])
def test_what_is_made_belongs_to_what_was_shown(name: str) -> None:
    pytest.importorskip("dicebear")
    if not shelf.is_here(name):
        pytest.skip(f"{name} is not here: `genzoo pull {name}`")
    generator = TorchRunner(ENTRIES[name]).generator
    for check in translations.CHECKS[name]:
        own, baseline, _ = (float(each.mean()) for each in check.run(generator, 16))
        enough = 0.8 if check.matched else 1.1
        assert (own < 0.9 * baseline) if check.less else (own > enough * baseline), check.measured


@pytest.mark.parametrize("name", SHIPPED)
def test_its_own_examples_are_shown_where_nobody_shows_anything(name: str) -> None:
    pytest.importorskip("dicebear")
    shipped, drawn = shelf.assets(name).examples, FAMILY.assets(ENTRIES[name])  # type: ignore[misc]
    assert set(drawn) == {"examples.safetensors"}
    assert shelf.directory(name).joinpath("examples.safetensors").read_bytes() == drawn["examples.safetensors"]
    assert all(len({np.asarray(each).tobytes() for each in values}) >= 24 for values in shipped.values())


def test_a_generator_without_noise_has_nothing_between_its_seeds() -> None:
    generator = TorchRunner(tiny("pix2pix"), FAMILY.build(TINY["colouring"])).generator
    with pytest.raises(RequestError, match="pix2pix has no noise, so nothing is between its seeds"):
        generator.between(SampleRequest((0, 1)), 3)
