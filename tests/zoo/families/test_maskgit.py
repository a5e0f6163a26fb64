"""MaskGIT: a schedule that ends, draws that follow the distribution, kept codes that stay, a prior that learns."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import pytest
import torch

from zoo import registry
from zoo.families.maskgit import FAMILY, MaskedTransformer, MaskGIT, MaskGITConfig, least, masked_after, pick, uniform
from zoo.training import masked_codes
from zoo.training.loop import Batch

TINY = MaskGITConfig(size=8, channels=(4,), codes=5, code_width=3, width=8, heads=2, layers=1, num_classes=2, calls=3)


@pytest.mark.parametrize(("calls", "length"), [(1, 64), (8, 64), (64, 64), (5, 16)])
def test_every_call_keeps_some_and_the_last_all(calls: int, length: int) -> None:
    left = [length, *masked_after(calls, length)]
    assert left[-1] == 0
    assert all(before > after for before, after in pairwise(left))


def test_eight_calls_follow_the_cosine() -> None:
    assert masked_after(8, 64) == [62, 59, 53, 45, 35, 24, 12, 0]


def test_draws_follow_the_distribution() -> None:
    torch.manual_seed(0)
    numbers = uniform(torch.randn(200_000, dtype=torch.float64))
    assert float(numbers.mean()) == pytest.approx(0.5, abs=0.005)
    probabilities = torch.tensor([0.1, 0.0, 0.6, 0.3], dtype=torch.float32)
    drawn = pick(probabilities.expand(200_000, 4), numbers.float())
    torch.testing.assert_close(torch.bincount(drawn, minlength=4) / 200_000, probabilities, atol=0.005, rtol=0.0)
    ends = pick(probabilities.expand(2, 4), uniform(torch.tensor([-50.0, 50.0])))
    assert ends.tolist() == [0, 3]


def test_the_least_confident_are_masked_again_and_equal_ones_in_their_order() -> None:
    confidence = torch.tensor([[0.3, 0.1, 0.2, 0.1], [5.0, 5.0, 5.0, 5.0]])
    found = least(confidence, torch.tensor([2]))
    assert found.tolist() == [[False, True, False, True], [True, True, False, False]]
    assert not least(confidence, torch.tensor([0])).any()


def tiny() -> MaskGIT:
    torch.manual_seed(0)
    model = MaskGIT(TINY).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(0.0, 0.5)
    return model


def test_what_is_kept_stays_and_all_is_told_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transformer is shown fewer masks in each call, and a code that it was shown is in the picture."""
    model, seen = tiny(), []
    forward = MaskedTransformer.forward
    monkeypatch.setattr(
        MaskedTransformer,
        "forward",
        lambda self, codes, class_ids: (seen.append(codes), forward(self, codes, class_ids))[1],
    )
    drawn = model.draw(torch.randn(4, 3, 16, 2), torch.arange(4) % 2, temperature=4.5)
    assert [int((codes == model.codes).sum()) for codes in seen] == [
        4 * count for count in [16, *masked_after(3, 16)[:2]]
    ]
    assert int(drawn.max()) < model.codes
    for codes in seen:
        known = codes != model.codes
        assert torch.equal(drawn[known], codes[known])


def test_without_heat_the_surest_guess_is_kept_first() -> None:
    model, class_ids, noise = tiny(), torch.tensor([1]), torch.randn(1, 16, 16, 2)
    blank = torch.full((1, 16), model.codes)
    probabilities = model.prior(blank, class_ids).softmax(-1)
    guess = pick(probabilities, uniform(noise[:, 0, :, 0]))
    surest = int(probabilities.gather(2, guess[..., None]).argmax())
    first = model.draw(noise, class_ids, temperature=0.0)[0, surest]
    assert int(first) == int(guess[0, surest])


def test_a_transformer_sees_all_codes_and_the_class() -> None:
    model = tiny().prior
    codes = torch.randint(0, 5, (1, 16))
    before = model(codes, torch.tensor([0]))
    assert not torch.isclose(before, model(codes, torch.tensor([1]))).all()
    for place in (0, 15):
        changed = codes.clone()
        changed[0, place] = (changed[0, place] + 1) % 5
        assert (model(changed, torch.tensor([0])) - before).abs().amax(2).gt(0).all()


def test_as_many_are_masked_as_asked_and_at_least_one() -> None:
    torch.manual_seed(0)
    found = masked_codes.masked(torch.zeros(3, 16), torch.tensor([0.0, 0.5, 1.0]))
    assert found.sum(1).tolist() == [1, 8, 16]


def test_only_the_prior_learns_and_what_it_learns_is_the_codes() -> None:
    torch.manual_seed(0)
    entry = dataclasses.replace(FAMILY.checkpoints[0], config=MaskGITConfig(width=32, layers=1))
    objective = masked_codes.objective(entry, torch.device("cpu"))
    known = registry.load_module(registry.checkpoint("vqvae")).state_dict()
    class_ids = torch.arange(16) % 2
    pixels = (class_ids.float() - 0.5).reshape(-1, 1, 1, 1).expand(-1, 1, 32, 32).contiguous()
    batch = Batch(pixels, {"class_id": class_ids})
    before = objective.evaluate(objective.model, batch)
    for _ in range(60):
        objective.step(batch, 0.5)
    after = objective.evaluate(objective.model, batch)
    assert before["bits_per_code_all_masked"] == pytest.approx(math.log2(128))
    assert after["bits_per_code_all_masked"] < 0.5 * before["bits_per_code_all_masked"]
    for key, value in objective.model.state_dict().items():
        assert key.startswith("prior.") or torch.equal(value, known[key]), key
