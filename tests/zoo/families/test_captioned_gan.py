"""GANs that are told a caption: a wrong one is wrong, the loss is the paper's, and words decide what is made."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from zoo import registry
from zoo.datasets import portraits
from zoo.datasets.critters import CRITTER
from zoo.families.captioned_gan import CaptionedGANConfig, spec
from zoo.family import Checkpoint
from zoo.networks.discriminator import CaptionDiscriminator
from zoo.training import matching
from zoo.training.loop import Batch

FAMILY = registry.family("captioned_gan")
GANCLS = next(each for each in FAMILY.checkpoints if each.name == "gan-cls")
TINY = CaptionedGANConfig(channels=(16, 8, 8), discriminator=(8, 8), context=16, latent=8, style=8)
CPU = torch.device("cpu")
CAPTIONS = [each.caption for each in portraits.examples(8, (CRITTER,))]


def tiny() -> Checkpoint:
    return dataclasses.replace(GANCLS, spec=spec("gan-cls", TINY), config=TINY)


def test_a_wrong_caption_is_another_s_or_wrong_in_one_word() -> None:
    torch.manual_seed(0)
    found = matching.wrong(CAPTIONS)
    for place, (said, other) in enumerate(zip(CAPTIONS, found, strict=True)):
        assert said != other
        if place % 2:
            assert other == CAPTIONS[place - 1]
        else:
            own, altered = portraits.read(said), portraits.read(other)
            assert sum(own.words[name] != altered.words[name] for name in own.words) == 1


def test_the_same_caption_twice_has_a_wrong_one_all_the_same() -> None:
    assert all(other != CAPTIONS[0] for other in matching.wrong([CAPTIONS[0]] * 8))


def test_the_loss_is_small_only_where_all_three_are_told_apart() -> None:
    sure = torch.full((4,), 20.0)
    assert matching.matching_aware(sure, -sure, -sure) < 1e-6
    for told in ((-sure, -sure, -sure), (sure, sure, -sure), (sure, -sure, sure)):
        assert matching.matching_aware(*told) > 9.0
    right, wrong, fake = torch.randn(3, 5)
    expected = -(right.sigmoid().log() + 0.5 * ((1 - wrong.sigmoid()).log() + (1 - fake.sigmoid()).log())).mean()
    torch.testing.assert_close(matching.matching_aware(right, wrong, fake), expected)


def test_a_picture_that_was_seen_is_judged_beside_any_text() -> None:
    torch.manual_seed(0)
    network = CaptionDiscriminator(3, (8, 8), 16, TINY.text_encoder())
    captions = matching.Captions(TINY, CPU)
    pixels, own, other = torch.randn(8, 3, 16, 16), captions.tokens(CAPTIONS), captions.tokens(CAPTIONS[::-1])
    seen = network.features(pixels)
    torch.testing.assert_close(network.judged(seen, *own), network(pixels, *own))
    assert not torch.allclose(network.judged(seen, *other), network.judged(seen, *own))


def test_the_critic_learns_which_caption_is_a_picture_s_own() -> None:
    """Pictures of one colour, which the caption's ground names."""
    torch.manual_seed(0)
    objective = matching.objective(tiny(), CPU)
    colours = {said.split()[-1] for said in CAPTIONS}
    shade = {word: place / len(colours) * 2.0 - 1.0 for place, word in enumerate(sorted(colours))}
    images = torch.stack([torch.full((3, 16, 16), shade[said.split()[-1]]) for said in CAPTIONS])
    batch = Batch(images, {"prompt": CAPTIONS})
    losses = [objective.step(batch, 0.5) for _ in range(60)]
    assert losses[-1]["distance"] < 0.7 * losses[0]["distance"]
    others = [next(each for each in CAPTIONS if each.split()[-1] != said.split()[-1]) for said in CAPTIONS]
    with torch.no_grad():
        seen = objective.discriminator.features(images)
        own, other = (
            objective.discriminator.judged(seen, *objective.captions.tokens(said)) for said in (CAPTIONS, others)
        )
    assert own.mean() > other.mean() + 0.5
    found = objective.evaluate(objective.model, batch)
    assert found["grey_levels_from_its_pair"] < found["grey_levels_from_another"]


def test_words_and_noise_decide_what_is_made_and_neighbours_do_not() -> None:
    torch.manual_seed(0)
    module = FAMILY.build(TINY).eval()
    tokens, mask = matching.Captions(TINY, CPU).tokens(CAPTIONS)
    noise = torch.randn(8, 1, TINY.latent)
    together = module(noise, tokens, mask).int()
    alone = torch.cat([module(noise[row : row + 1], tokens[row : row + 1], mask[row : row + 1]) for row in range(8)])
    assert (together - alone.int()).abs().max() <= 1
    assert (module(noise, tokens.flip(0), mask.flip(0)).int() != together).any()
    assert (module(noise.flip(0), tokens, mask).int() != together).any()


def test_a_caption_of_another_design_is_refused() -> None:
    with pytest.raises(portraits.CaptionError):
        matching.altered("nobody blue", 0, 0)


GIANT = dataclasses.replace(TINY, channels=(16, 8, 8), levels=2, kernels=(2, 2), enlarger=(8, 8))


def test_a_generator_of_several_sizes_is_judged_at_each_and_its_enlarger_learns() -> None:
    torch.manual_seed(0)
    entry = dataclasses.replace(GANCLS, spec=spec("gigagan", GIANT), config=GIANT)
    objective = matching.objective(entry, CPU)
    batch = Batch(torch.rand(8, 3, 1, 1).expand(-1, -1, 32, 32) * 2.0 - 1.0, {"prompt": CAPTIONS})
    seen = objective.discriminator.features(batch.images)
    whole, half = objective.discriminator.levels
    assert torch.equal(seen[0], whole.features(batch.images))
    assert torch.equal(seen[1], half.features(F.avg_pool2d(batch.images, 2)))
    before = {name: each.clone() for name, each in objective.model.named_parameters()}
    losses = [objective.step(batch, 0.5) for _ in range(8)]
    assert losses[-1]["distance"] < losses[0]["distance"]
    still = {name for name, each in objective.model.named_parameters() if torch.equal(each, before[name])}
    assert all(name.endswith("strength") for name in still), "every part but the noise that it does not take"


def test_an_enlarger_begins_near_the_filter_and_is_told_the_caption() -> None:
    torch.manual_seed(0)
    module = FAMILY.build(GIANT)
    pixels, (tokens, mask) = torch.rand(8, 3, 16, 16), matching.Captions(TINY, CPU).tokens(CAPTIONS)
    style, _ = module.told(torch.randn(8, TINY.latent), tokens, mask)
    found = module.enlarger(pixels, style)
    assert found.shape == (8, 3, 32, 32)
    assert not torch.equal(found, module.enlarger(pixels, style.flip(0)))


def test_features_look_at_the_words_themselves() -> None:
    """Of two captions with one style: what each word is, is seen at one size."""
    torch.manual_seed(0)
    module = FAMILY.build(GIANT)
    torch.nn.init.normal_(module.synthesis.look.out.weight)
    style, said = module.told(torch.randn(8, TINY.latent), *matching.Captions(TINY, CPU).tokens(CAPTIONS))
    sizes = zip(module.scales(style, said), module.scales(style, (said[0].flip(0), said[1].flip(0))), strict=True)
    changed = [not torch.allclose(*pair) for pair in sizes]
    assert changed == [False, False, True, True]
