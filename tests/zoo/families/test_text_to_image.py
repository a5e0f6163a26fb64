"""Text to image: prompts of a closed vocabulary, two phases that touch only their own part, captions left out."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from zoo import registry, shelf
from zoo.contract.assets import Assets
from zoo.contract.conditions import arrays, kind
from zoo.contract.errors import RequestError
from zoo.datasets import design_styles, designs, portraits, scenes
from zoo.datasets.design_styles import DESIGNS
from zoo.datasets.portrait_styles import WORDS
from zoo.families.text_to_image import TextToImageConfig, prompt
from zoo.family import Checkpoint, Recipe
from zoo.networks.unet import UNetConfig
from zoo.training.loop import Batch, TrainingError
from zoo.training.text_to_image import Captions, TextToImageObjective, graphic_distance, shortened

FAMILY = registry.family("text_to_image")
(BASE,) = FAMILY.checkpoints
ALONE = {"first_stage": 0.27, "kl": 1e-4, "adversarial": 0.05}  # a recipe that makes its own first stage
TINY = TextToImageConfig(
    words=WORDS,
    examples=("planet red", "mood blue circle big smile on red"),
    context=8,
    layers=1,
    channels=(8, 8),
    denoiser=UNetConfig(image_channels=4, patch=1, channels=(8, 16), embedding=8, num_classes=0),
    rounds=1,
)


def tiny() -> Checkpoint:
    assert BASE.recipe is not None
    recipe: Recipe = dataclasses.replace(BASE.recipe, options=ALONE)
    spec = dataclasses.replace(BASE.spec, conditions=(prompt(TINY),))
    return dataclasses.replace(BASE, spec=spec, config=TINY, recipe=recipe, teacher=None)


def tiny_objective() -> TextToImageObjective:
    torch.manual_seed(0)
    return TextToImageObjective(tiny(), torch.device("cpu"))


def tiny_batch() -> Batch:
    captions = [portraits.portrait(portraits.STYLES[index % 6], index).caption for index in range(8)]
    return Batch(torch.rand(8, 3, 32, 32) * 2.0 - 1.0, {"prompt": captions})


@pytest.fixture
def assets(tmp_path) -> Assets:  # type: ignore[no-untyped-def]
    assert FAMILY.assets is not None
    for name, content in FAMILY.assets(tiny()).items():
        (tmp_path / name).write_bytes(content)
    return Assets(tmp_path)


def test_training_and_serving_read_prompts_alike(assets: Assets) -> None:
    (condition,), captions = tiny().spec.conditions, ["", "Planet RED", *tiny_batch().conditions["prompt"]]
    served = kind(condition).encode(condition, arrays(condition, captions), assets)
    tokens, mask = Captions(TINY, torch.device("cpu")).tokens(captions)
    assert (tokens.numpy() == served["prompt_tokens"]).all()
    assert (mask.numpy() == served["prompt_mask"]).all()
    assert served["prompt_mask"].sum(1).tolist() == [1 + len(caption.split()) for caption in captions]


def test_an_unknown_word_is_refused(assets: Assets) -> None:
    (condition,) = tiny().spec.conditions
    with pytest.raises(RequestError, match=r"'crittr', which is unknown here: did you mean critter"):
        kind(condition).encode(condition, arrays(condition, ["crittr red"]), assets)


def test_examples_are_prompts_of_combinations_that_were_not_trained_on(assets: Assets) -> None:
    assert list(assets.examples["prompt"]) == list(TINY.examples)
    shipped = json.loads(FAMILY.assets(BASE)["examples.json"])["prompt"]  # type: ignore[misc]
    assert len(shipped) == len(set(shipped)) == 24
    assert all(designs.understood(caption).held_out for caption in shipped)


@pytest.mark.parametrize(
    ("progress", "parts"), [(0.0, {"first_stage"}), (0.26, {"first_stage"}), (0.28, {"text_encoder", "denoiser"})]
)
def test_a_phase_trains_its_own_part(progress: float, parts: set[str]) -> None:
    objective = tiny_objective()
    for parameter in objective.model.parameters():  # what begins as nothing would pass no gradient on
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    before = {key: value.clone() for key, value in objective.model.state_dict().items()}
    objective.step(tiny_batch(), progress)
    after = objective.model.state_dict()
    assert {key.split(".")[0] for key, value in after.items() if not torch.equal(value, before[key])} == parts


def test_the_first_phase_ends_before_the_second_begins() -> None:
    objective = tiny_objective()
    for progress, rate in ((0.0, 1.0), (0.135, 0.5), (0.2699999, 0.0)):
        for optimizer in objective.optimizers.values():
            optimizer.param_groups[0]["lr"] = 1.0
        objective.step(tiny_batch(), progress)
        assert objective.optimizers["first_stage"].param_groups[0]["lr"] == pytest.approx(rate, abs=1e-5)


def test_pictures_without_captions_are_refused() -> None:
    with pytest.raises(TrainingError, match="needs prompt, and the data set tells class_id"):
        tiny_objective().step(Batch(torch.zeros(8, 3, 32, 32), {"class_id": torch.zeros(8)}), 0.5)


def test_captions_are_left_out_whole_and_by_words() -> None:
    torch.manual_seed(0)
    captions = ["a b c d e f g h"] * 4000
    drawn = shortened(captions, 0.1, 0.5, 0.25)
    assert sum(caption == "" for caption in drawn) / len(drawn) == pytest.approx(0.1, abs=0.02)
    assert sum(caption == captions[0] for caption in drawn) / len(drawn) == pytest.approx(0.45 + 0.45 * 0.1, abs=0.03)
    words = sum(len(caption.split()) for caption in drawn) / len(drawn)
    assert words == pytest.approx(8 * 0.9 * (0.5 + 0.5 * 0.75), abs=0.15)
    assert all(caption.split() == sorted(caption.split()) for caption in drawn)
    assert shortened(captions, 0.0, 0.0, 1.0) == captions


def test_a_distance_sees_edges_and_is_nothing_between_equals() -> None:
    flat, lines = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    lines[..., ::2] = 1.0
    assert graphic_distance(lines, lines) == 0.0
    assert graphic_distance(lines, flat) > graphic_distance(flat + 0.5, flat)


def test_what_it_says_of_unseen_pictures_is_finite() -> None:
    objective = tiny_objective()
    assert set(objective.evaluate(objective.model, tiny_batch())) == {"reconstruction_psnr_db", "loss"}  # type: ignore[arg-type]


def contrastive() -> TextToImageObjective:
    """Of a base whose first stage is the one in the tree."""
    if not shelf.is_here("kl-f4"):
        pytest.skip("kl-f4 is not here: `genzoo pull kl-f4`")
    assert BASE.recipe is not None
    first_stage = registry.checkpoint("kl-f4").config
    config = dataclasses.replace(TINY, words=BASE.config.words, channels=first_stage.channels)
    spec = dataclasses.replace(BASE.spec, conditions=(prompt(config),))
    torch.manual_seed(0)
    return TextToImageObjective(dataclasses.replace(BASE, spec=spec, config=config), torch.device("cpu"))


def designs_batch() -> Batch:
    captions = [designs.whole(each) for each in portraits.examples(8, DESIGNS)]
    return Batch(torch.rand(8, 3, 64, 64) * 2.0 - 1.0, {"prompt": captions})


def test_a_base_begins_with_its_first_stage_and_never_moves_it() -> None:
    objective, taken = contrastive(), shelf.load_tensors("kl-f4")
    for progress, parts in ((0.0, {"text_encoder"}), (0.5, {"text_encoder", "denoiser"})):
        for key, parameter in objective.model.named_parameters():  # what begins as nothing would pass no gradient on
            if not parameter.any() and not key.startswith("first_stage"):
                torch.nn.init.normal_(parameter, std=0.1)
        before = {key: value.clone() for key, value in objective.model.state_dict().items()}
        objective.step(designs_batch(), progress)
        after = objective.model.state_dict()
        assert {key.split(".")[0] for key, value in after.items() if not torch.equal(value, before[key])} == parts
    kept = {key: value.numpy() for key, value in objective.model.state_dict().items() if key.startswith("first_stage")}
    assert kept.keys() == taken.keys()
    assert all((kept[key] == value).all() for key, value in taken.items())


def test_a_text_encoder_learns_which_caption_is_whose() -> None:
    objective, batch = contrastive(), designs_batch()
    first = objective.step(batch, 0.0)["contrastive"]
    for _ in range(30):
        last = objective.step(batch, 0.0)["contrastive"]
    assert last < 0.5 * first


def test_the_words_of_a_base_are_those_of_its_data_and_of_scenes() -> None:
    assert set(design_styles.WORDS) | set(scenes.WORDS) == set(BASE.config.words)
    assert max(len(caption.split()) for caption in BASE.config.examples) < BASE.config.length
    assert {designs.understood(caption).style.name for caption in BASE.config.examples} == {
        each.name for each in DESIGNS
    }
