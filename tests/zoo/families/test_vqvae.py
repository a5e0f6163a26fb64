"""The VQ-VAE: a prior whose two forms are one, noise that draws from a softmax, a code book that follows vectors."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from zoo.families.vqvae import FAMILY, VQVAE, VQVAEConfig, gumbel
from zoo.networks.causal import CausalConv, PixelCNN
from zoo.networks.codes import Quantizer
from zoo.training.loop import Batch
from zoo.training.vector_quantization import MOMENTUM, Codebook, VectorQuantizationObjective, perplexity

TINY = VQVAEConfig(
    size=8, channels=(4,), codes=5, code_width=3, prior_width=8, prior_blocks=2, prior_reach=2, num_classes=2
)


def stirred(module: torch.nn.Module) -> torch.nn.Module:
    """With weights that matter everywhere, those that start at zero too."""
    torch.manual_seed(0)
    for parameter in module.requires_grad_(False).parameters():
        parameter.normal_(0.0, 0.5)
    return module.eval()


def prior() -> PixelCNN:
    found = stirred(PixelCNN(codes=5, side=4, width=8, blocks=2, reach=2, num_classes=2))
    assert isinstance(found, PixelCNN)
    return found


@pytest.mark.parametrize(("reach", "inclusive", "neighbours"), [(1, True, 5), (1, False, 4), (3, False, 24)])
def test_a_causal_convolution_sees_what_comes_before(reach: int, inclusive: bool, neighbours: int) -> None:
    conv = stirred(CausalConv(1, 1, reach, 7, inclusive))
    x = torch.zeros(1, 1, 7, 7, requires_grad=True)
    conv(x)[0, 0, 3, 3].backward()
    assert x.grad is not None
    seen = x.grad[0, 0].flatten().nonzero().flatten()
    assert len(seen) == neighbours
    assert int(seen.max()) == 3 * 7 + (3 if inclusive else 2)


def test_a_position_by_itself_is_that_of_the_map() -> None:
    torch.manual_seed(0)
    conv = CausalConv(3, 2, 2, 5, inclusive=True).requires_grad_(False)
    x = torch.randn(2, 3, 5, 5)
    expected = conv(x).flatten(2)
    rows = torch.cat([torch.randn(2, conv.queue, 3), x.flatten(2).transpose(1, 2)], dim=1)  # what is outside is masked
    for position in range(25):
        found = conv.at(torch.tensor([position]), rows[:, position : position + conv.queue + 1])
        torch.testing.assert_close(found, expected[:, :, position])


def test_the_prior_knows_nothing_of_what_comes_after() -> None:
    model, codes = prior(), torch.randint(0, 5, (1, 4, 4))
    before = model(codes, torch.tensor([1])).flatten(2)
    for position in range(16):
        changed = codes.flatten(1).clone()
        changed[0, position] = (changed[0, position] + 1) % 5
        after = model(changed.reshape(1, 4, 4), torch.tensor([1])).flatten(2)
        assert torch.equal(after[:, :, : position + 1], before[:, :, : position + 1])
        ends_a_row = position % 4 == 3
        assert ends_a_row or not torch.equal(after[:, :, position + 1], before[:, :, position + 1])


def test_a_draw_is_the_argmax_of_its_own_logits_and_noise() -> None:
    """The queue of one position after another computes what the whole map does."""
    torch.manual_seed(0)
    model, noise, class_ids = prior(), gumbel(torch.randn(6, 16, 10)), torch.arange(6) % 2
    drawn = model.draw(noise, class_ids)
    logits = model(drawn.reshape(6, 4, 4), class_ids).flatten(2).transpose(1, 2)
    assert torch.equal(drawn, (logits + noise).argmax(2))
    assert len(drawn.unique(dim=0)) == 6


def test_two_normals_make_a_gumbel_that_draws_from_the_softmax() -> None:
    torch.manual_seed(0)
    noise = gumbel(torch.randn(200_000, 8).double())
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.01)  # Euler's constant
    assert float(noise.var()) == pytest.approx(math.pi**2 / 6.0, rel=0.01)
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5])
    frequencies = torch.bincount((logits + noise).argmax(1)) / len(noise)
    torch.testing.assert_close(frequencies, logits.softmax(0), atol=0.005, rtol=0.0)


def test_the_nearest_code() -> None:
    torch.manual_seed(0)
    quantizer, vectors = Quantizer(7, 3), torch.randn(2, 4, 3)
    expected = torch.cdist(vectors, quantizer.codebook[None]).argmin(2)
    assert torch.equal(quantizer.nearest(vectors), expected)
    torch.testing.assert_close(quantizer(expected[:, None])[0, :, 0, 1], quantizer.codebook[expected[0, 1]])


def test_the_code_book_settles_on_the_means_of_its_vectors() -> None:
    torch.manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    statistics, quantizer = Codebook(3, 2), Quantizer(3, 2)
    statistics.begin(torch.randn(64, 2), quantizer)  # all near the first
    for step in range(300):
        vectors = centres[torch.randint(3, (96,))] + 0.1 * torch.randn(96, 2)
        statistics.update(vectors, quantizer, MOMENTUM, revive=step < 200)
    found = quantizer.codebook[quantizer.nearest(centres)]
    torch.testing.assert_close(found, centres, atol=0.1, rtol=0.0)


def test_perplexity_counts_codes_used_alike() -> None:
    assert float(perplexity(torch.tensor([0, 1, 2, 3]), 8)) == pytest.approx(4.0)
    assert float(perplexity(torch.zeros(9, dtype=torch.int64), 8)) == pytest.approx(1.0)


def tiny_objective() -> VectorQuantizationObjective:
    torch.manual_seed(0)
    entry = dataclasses.replace(FAMILY.checkpoints[0], config=TINY)
    return VectorQuantizationObjective(entry, torch.device("cpu"))


def tiny_batch() -> Batch:
    """Two flat pictures, one a class."""
    class_ids = torch.arange(32) % 2
    pixels = (class_ids.float() - 0.5).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    return Batch(pixels, {"class_id": class_ids})


@pytest.mark.parametrize(
    ("progress", "parts"), [(0.0, {"encoder", "decoder"}), (0.1, {"encoder", "decoder", "quantizer"}), (0.5, {"prior"})]
)
def test_a_phase_trains_its_own_part(progress: float, parts: set[str]) -> None:
    objective = tiny_objective()
    before = {key: value.clone() for key, value in objective.model.state_dict().items()}
    objective.step(tiny_batch(), progress)
    after = objective.model.state_dict()
    assert {key.split(".")[0] for key, value in after.items() if not torch.equal(value, before[key])} == parts


def test_both_phases_learn() -> None:
    objective, batch = tiny_objective(), tiny_batch()
    before = objective.evaluate(objective.model, batch)
    for step in range(200):
        for optimizer in objective.optimizers.values():
            optimizer.param_groups[0]["lr"] = 3e-3  # as the loop sets it before each step
        objective.step(batch, step / 200 if step < 70 else 0.4)
    after = objective.evaluate(objective.model, batch)
    assert after["reconstruction_psnr_db"] > before["reconstruction_psnr_db"] + 3.0
    assert after["prior_bits_per_code"] < 0.5  # the class tells all
    assert after["prior_bits_per_dim"] == pytest.approx(after["prior_bits_per_code"] * 16 / 64)


def test_the_generator_decodes_its_draws() -> None:
    model = stirred(VQVAE(TINY))
    assert isinstance(model, VQVAE)
    noise, class_ids = torch.randn(3, 1, 16, 10), torch.tensor([[0], [1], [0]])
    codes = model.prior.draw(gumbel(noise[:, 0]), class_ids[:, 0])
    expected = (model.of_codes(codes).clamp(-1.0, 1.0) * 127.5 + 127.5).round().permute(0, 2, 3, 1)
    assert torch.equal(model(noise, class_ids).float(), expected)
