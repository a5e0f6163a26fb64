"""Styled networks: what is scaled before and after a convolution is the convolution of each image's own weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.networks.styled import EPSILON, Mapping, ModulatedConv, StyledLayer, Synthesis, doubled, normalized

FILTER = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4.0


def of_each_image(conv: ModulatedConv, x: Tensor, style: Tensor) -> Tensor:
    """The definition (Karras et al. 2020, equations 1 and 3): weights are scaled, mixed and divided, image by image."""
    bank = (conv.weight * conv.scale).reshape(conv.kernels, conv.width, *conv.weight.shape[1:])
    found = []
    for image, scales, told in zip(x, conv.style(style), style, strict=True):
        shares = torch.ones(1) if conv.select is None else conv.select(told[None]).softmax(1)[0]
        weight = (shares[:, None, None, None, None] * bank).sum(0) * scales[None, :, None, None]
        if conv.demodulated:
            weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + EPSILON).sqrt()
        found.append(F.conv2d(image[None], weight, padding=weight.shape[-1] // 2)[0])
    return torch.stack(found)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("kernels", [1, 3])
@pytest.mark.parametrize("demodulated", [True, False])
def test_it_is_the_convolution_of_each_image_s_own_weights(size: int, kernels: int, demodulated: bool) -> None:
    torch.manual_seed(0)
    conv = ModulatedConv(6, 5, size, 4, demodulated=demodulated, kernels=kernels).double()
    x, style = torch.randn(3, 6, 8, 8).double(), torch.randn(3, 4).double()
    torch.testing.assert_close(conv(x, style), of_each_image(conv, x, style.clone()))


def test_twice_the_size_is_by_the_filter() -> None:
    x = torch.randn(1, 1, 6, 6)
    spread = torch.zeros(1, 1, 12, 12)
    spread[..., ::2, ::2] = x
    kernel = (FILTER[:, None] * FILTER[None])[None, None]
    expected = F.conv2d(F.pad(spread, (2, 1, 2, 1)), kernel)
    torch.testing.assert_close(doubled(x)[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


def test_a_layer_may_double_and_its_noise_is_of_all_channels() -> None:
    layer = StyledLayer(3, 4, 2, doubles=True)
    x, style, grain = torch.randn(2, 3, 4, 4), torch.randn(2, 2), torch.randn(2, 1, 8, 8)
    assert layer(x, style).shape == (2, 4, 8, 8)
    torch.testing.assert_close(layer(x, style, grain), layer(x, style))  # no strength before it is learnt
    torch.nn.init.constant_(layer.strength, 2.0)
    assert not torch.allclose(layer(x, style, grain), layer(x, style))


def test_a_mapping_sees_directions_alone() -> None:
    mapping, z = Mapping(4, 6, 2, 0.5), torch.randn(3, 4)
    torch.testing.assert_close(mapping(5.0 * z), mapping(z))
    torch.testing.assert_close(normalized(z).square().mean(1), torch.ones(3))


def test_each_layer_is_told_its_own_style() -> None:
    torch.manual_seed(0)
    network = Synthesis(3, (8, 8, 8), 4)
    styles, none = torch.randn(1, 5, 4), [None] * 5
    plain = network(styles, none)
    assert plain.shape == (1, 3, 16, 16)
    for place in range(5):
        changed = styles.clone()
        changed[:, place] += 1.0
        assert not torch.allclose(network(changed, none), plain)
