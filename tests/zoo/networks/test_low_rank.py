"""Adapters beside the layers of any network: an image's own scale, nothing at 0, and each alone as in a batch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from zoo.contract.graph import BATCH, Graph, TensorSpec
from zoo.networks import low_rank

SCALES = torch.tensor([[0.0, 1.0, 0.5], [0.0, 0.0, -2.0]])  # two adapters, three images


class Twice(nn.Module):
    """A layer that sees two rows an image, one after the other, and another that sees one row for all."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.all = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.rows(x.reshape(-1, 4)).reshape(x.shape[0], 8)[:, :4] + self.all(torch.ones(1, 4))
        return found


def network() -> nn.Sequential:
    torch.manual_seed(0)
    found = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Flatten(), nn.Linear(16, 8), Twice())
    low_rank.attach(found, "ink", {"0": 2, "2": 1, "3.rows": 2, "3.all": 3})
    low_rank.attach(found, "wool", {"2": 3})
    for name, each in found.named_parameters():
        if name.endswith(".up.weight"):
            assert not each.any(), "an adapter begins as nothing"
            nn.init.normal_(each)
    return found.eval().requires_grad_(False)


def graph(module: nn.Module) -> Graph:
    scales = [TensorSpec(name, "float32", (BATCH,)) for name in ("ink", "wool")]
    inputs = (TensorSpec("x", "float32", (BATCH, 3, 4, 4)), *scales)
    return low_rank.adapted(Graph("network", module, inputs, ()), ("ink", "wool"))


def fused(module: nn.Sequential, scales: dict[str, float]) -> nn.Sequential:
    """The same with the products in the weights."""
    found = copy.deepcopy(module)
    for layer in found.modules():
        for name, each in getattr(layer, low_rank.CHILD, {}).items():
            layer.weight += scales[name] * torch.einsum("or,r...->o...", each.up.weight.flatten(1), each.down.weight)
    return found


def test_each_image_has_its_own_scales() -> None:
    module, x = network(), torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    found = graph(module).module(x, *SCALES)
    assert torch.equal(found[:1], module(x)[:1]), "at 0 it is the network's own, to the bit"
    assert not torch.allclose(found[1:], module(x)[1:])
    for image in range(3):
        alone = graph(module).module(x[image : image + 1], *SCALES[:, image : image + 1])
        torch.testing.assert_close(alone[0], found[image], rtol=1e-5, atol=1e-5)
        whole = fused(module, dict(zip(("ink", "wool"), SCALES[:, image].tolist(), strict=True)))
        torch.testing.assert_close(whole(x[image : image + 1])[0], found[image], rtol=1e-5, atol=1e-5)


def test_a_program_takes_scales_as_inputs() -> None:
    """As the exporter traces it and as the compiler does, without anything that stays in between."""
    module, x = graph(network()).module, torch.randn(3, 3, 4, 4)
    batch = {0: torch.export.Dim("batch")}
    traced = torch.export.export(module, (x[:2], *SCALES[:, :2]), dynamic_shapes=((batch,) * 3,)).module()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    for scales in (SCALES, 0 * SCALES, SCALES):
        expected = module(x, *scales)
        assert torch.equal(traced(x, *scales), expected)
        assert torch.equal(compiled(x, *scales), expected)


def test_an_adapter_is_a_few_tensors_more() -> None:
    """The network's own weights keep their names, and a copy has adapters of its own."""
    module = network()
    plain = {name for name, _ in network().named_parameters() if f".{low_rank.CHILD}." not in name}
    assert plain == {"0.weight", "0.bias", "2.weight", "2.bias", *(f"3.{each}.{kind}" for each in ("rows", "all")
                     for kind in ("weight", "bias"))}  # fmt: skip
    assert set(low_rank.weight_names("2", "wool")) <= set(module.state_dict())
    x, other = torch.randn(3, 3, 4, 4), copy.deepcopy(module)
    before = graph(module).module(x, *SCALES)
    for name, each in other.named_parameters():
        each.mul_(0.0 if "adapters" in name else 1.0)
    assert torch.equal(graph(other).module(x, *SCALES), module(x))
    assert torch.equal(graph(module).module(x, *SCALES), before)


FAULTS: dict[str, tuple[str, dict[str, int], str]] = {
    "no layer": ("ink", {"7": 2}, "beside '7', which the network lacks"),
    "no linear layer": ("ink", {"1": 2}, "beside a Flatten, expected a Linear or a plain Conv2d"),
    "no rank": ("ink", {"2": 0}, "has the rank 0, expected 1 to 1024"),
    "a name of torch's": ("half", {"2": 1}, "can be called 'half'"),
    "no name": ("a.b", {"2": 1}, "can be called 'a.b'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_have_an_adapter_is_named(fault: str) -> None:
    name, ranks, expected = FAULTS[fault]
    with pytest.raises(ValueError, match=expected):
        low_rank.attach(network(), name, ranks)


def test_a_grouped_convolution_is_refused() -> None:
    with pytest.raises(ValueError, match="beside a Conv2d, expected a Linear or a plain Conv2d"):
        low_rank.attach(nn.Sequential(nn.Conv2d(4, 4, 1, groups=2)), "ink", {"0": 1})
