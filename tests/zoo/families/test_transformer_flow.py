"""TarFlow: invertible, with the Jacobian it claims, causal, and the same however many tokens are solved at once."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from zoo.families.transformer_flow import (
    FAMILY,
    Block,
    TransformerFlow,
    TransformerFlowConfig,
    TransformerFlowGenerator,
)
from zoo.images import bin_centres, to_images
from zoo.networks.tokens import ORDERS
from zoo.networks.transformer import CausalTransformer, put_rows, rows
from zoo.training.likelihood import LikelihoodObjective, spread
from zoo.training.loop import Batch

TINY = TransformerFlowConfig(
    size=8, patch=2, layers=1, width=16, heads=2, num_classes=3, windows=(4, 3, 2, 1), tolerance=0.0, temperature=0.8
)
TOKENS = 16


def scrambled(config: TransformerFlowConfig) -> TransformerFlow:
    """A flow none of whose parts is at its initial value, which for many is zero."""
    torch.manual_seed(0)
    flow = TransformerFlow(config)
    for parameter in flow.requires_grad_(False).parameters():
        parameter.add_(0.15 * torch.randn_like(parameter))
    return flow


def batch(config: TransformerFlowConfig, count: int) -> tuple[Tensor, Tensor]:
    x = 2.0 * torch.rand(count, config.image_channels, config.size, config.size) - 1.0
    return x, torch.arange(count) % config.num_classes


def transformer() -> CausalTransformer:
    torch.manual_seed(0)
    found = CausalTransformer(length=8, size_in=3, size_out=4, width=16, heads=2, layers=2, num_classes=2)
    for parameter in found.requires_grad_(False).parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    return found


def test_rows_of_each_sequence() -> None:
    x = torch.arange(24.0).reshape(2, 4, 3)
    places = torch.tensor([[0, 2], [1, 3]])
    assert rows(x, places)[:, :, 0].tolist() == [[0.0, 6.0], [15.0, 21.0]]
    changed = put_rows(x, places, -rows(x, places))
    assert torch.equal(rows(changed, places), -rows(x, places))
    assert int((changed == x).all(2).sum()) == 4


def test_a_token_is_told_of_those_before_it_and_of_no_other() -> None:
    model, tokens, class_ids = transformer(), torch.randn(1, 8, 3), torch.tensor([1])
    before = model(tokens, class_ids)
    for place in range(8):
        changed = tokens.clone()
        changed[0, place] += 1.0
        after = model(changed, class_ids)
        assert torch.equal(after[:, : place + 1], before[:, : place + 1])
        assert place == 7 or not torch.allclose(after[:, place + 1], before[:, place + 1])
    assert not torch.allclose(model(tokens, torch.tensor([0])), before)


@pytest.mark.parametrize("window", [1, 3, 8])
def test_windows_with_a_memory_compute_what_the_whole_sequence_does(window: int) -> None:
    """Two sequences at different places of theirs, in windows that overlap."""
    model, tokens, class_ids = transformer(), torch.randn(2, 8, 3), torch.tensor([0, 1])
    expected, found = model(tokens, class_ids), torch.zeros(2, 8, 4)
    before = torch.cat([torch.zeros(2, 1, 3), tokens], dim=1)
    memory = model.no_memory(2)
    starts = [torch.tensor([max(0, begin - 1), begin]).clamp(max=8 - window) for begin in range(9)]
    for start in starts:
        places = start[:, None] + torch.arange(window)
        values, memory = model.window(rows(before, places), class_ids, places, memory)
        found = put_rows(found, places, values)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_takes_every_value_once(order: str) -> None:
    config = TransformerFlowConfig(image_channels=3, size=8, patch=2)
    places = ORDERS[order](config)
    assert places.shape == (16, 12)
    assert places.flatten().sort().values.tolist() == list(range(192))


def test_patches_are_squares_and_phases_coarse_pictures() -> None:
    assert ORDERS["patches"](TINY)[1].tolist() == [2, 3, 10, 11]
    assert ORDERS["phases"](TINY)[1].tolist() == [1, 5, 33, 37]


@pytest.mark.parametrize("window", [1, 5, TOKENS])
@pytest.mark.parametrize("channels", [1, 3])
def test_inverse_undoes_the_flow(channels: int, window: int) -> None:
    config = dataclasses.replace(TINY, image_channels=channels, windows=4 * (window,))
    flow = scrambled(config)
    x, class_ids = batch(config, 3)
    latents, _ = flow(x, class_ids)
    assert latents.shape == (3, config.latents)
    assert (latents.reshape(x.shape) - x).abs().max() > 0.1
    found = TransformerFlowGenerator(flow).inverse(latents, class_ids)
    torch.testing.assert_close(found, x, atol=5e-4, rtol=0)  # a sixteenth of a grey level: rounding differs by machine


def test_log_determinant_is_that_of_the_jacobian() -> None:
    flow = scrambled(TINY)
    x, class_ids = batch(TINY, 2)
    jacobian = torch.autograd.functional.jacobian(lambda v: flow(v, class_ids)[0], x)
    expected = [torch.linalg.slogdet(jacobian[i, :, i].reshape(TINY.latents, -1).double()).logabsdet for i in range(2)]
    torch.testing.assert_close(flow(x, class_ids)[1].double(), torch.stack(expected), atol=1e-3, rtol=0)
    assert min(abs(value) for value in expected) > 1.0


def solved(window: int, tolerance: float, count: int = 4) -> tuple[Tensor, Tensor]:
    generator = TransformerFlowGenerator(
        scrambled(dataclasses.replace(TINY, windows=4 * (window,), tolerance=tolerance))
    )
    torch.manual_seed(1)
    return generator.solve(torch.randn(4, TINY.latents)[:count], torch.arange(4)[:count] % 3)


def test_one_after_the_other_takes_a_pass_a_token() -> None:
    assert torch.equal(solved(1, 0.0)[1], torch.full((4, 4), TOKENS))


@pytest.mark.parametrize("window", [2, 7, TOKENS])
def test_a_window_finds_the_same_in_fewer_passes(window: int) -> None:
    expected, exact, near = solved(1, 0.0)[0], solved(window, 0.0), solved(window, 1e-4)
    torch.testing.assert_close(exact[0], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(near[0], expected, atol=1e-3, rtol=1e-3)
    assert int(exact[1].max()) <= TOKENS
    assert float(near[1].float().mean()) < TOKENS
    assert int(near[1].min()) >= -(-TOKENS // window)


def test_an_image_takes_its_own_passes_whatever_its_neighbours_do() -> None:
    (together, passes), (alone, own) = solved(TOKENS, 1e-4), solved(TOKENS, 1e-4, count=2)
    torch.testing.assert_close(together[:2], alone, atol=1e-6, rtol=0)
    assert torch.equal(passes[:2], own)
    assert len(passes.unique(dim=0)) > 1


def test_a_block_of_no_dependence_is_inverted_in_the_fewest_passes() -> None:
    """At the start the affine maps are the identity, and the first guess is right."""
    block = Block(ORDERS["patches"](TINY), 4, TINY)
    y = torch.randn(2, TINY.latents)
    x, passes = block.inverse(y, torch.zeros(2, dtype=torch.int64))
    assert torch.equal(x, y)
    assert passes.tolist() == [TOKENS // 4] * 2


def test_the_generator_rounds_the_inverse_of_its_noise() -> None:
    generator = TransformerFlowGenerator(scrambled(TINY))
    noise, class_ids = torch.randn(3, 1, TINY.latents).repeat(2, 1, 1), torch.tensor([0, 1, 2, 1, 1, 2])[:, None]
    images = generator(noise, class_ids)
    assert torch.equal(images, to_images(bin_centres(generator.inverse(0.8 * noise[:, 0], class_ids[:, 0]))))
    alike = [bool((images[i] == images[i + 3]).all()) for i in range(3)]
    assert alike == [False, True, True]


def test_training_lowers_the_bits_of_unseen_images() -> None:
    torch.manual_seed(0)
    objective = LikelihoodObjective(dataclasses.replace(FAMILY.checkpoints[0], config=TINY), torch.device("cpu"))
    class_ids = torch.arange(96) % 3
    pixels = (class_ids * 64.0).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous() / 127.5 - 1.0
    batch = Batch(pixels, {"class_id": class_ids})
    for step in range(60):
        objective.step(batch[:32], step / 60)
    after = objective.evaluate(objective.model, batch[32:])["bits_per_dim"]
    assert after < 5.0  # of the 8 of a uniform density


def test_a_flow_of_noisy_pictures_shows_them_without_their_noise() -> None:
    """Of two flat pictures: the denoiser, which changes nothing at first, learns what the noise is."""
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, noise=0.2)
    objective = LikelihoodObjective(dataclasses.replace(FAMILY.checkpoints[0], config=config), torch.device("cpu"))
    generator = TransformerFlowGenerator(objective.model)
    pixels = (torch.arange(32) % 2 - 0.5).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    noisy = spread(config, pixels)
    assert float((noisy - pixels).std()) == pytest.approx(0.2, abs=0.02)
    assert torch.equal(generator.shown(noisy), noisy)
    for step in range(40):
        objective.step(Batch(pixels, {"class_id": torch.zeros(32, dtype=torch.int64)}), step / 40)
    assert float((generator.shown(noisy).detach() - pixels).std()) < 0.1
