"""Text in a network: padding is not seen, order is, and the empty prompt is one as well."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.networks.text import CrossAttention, TextEncoder, TextUNet
from zoo.networks.unet import UNetConfig

LENGTH, WIDTH = 6, 16
TINY = UNetConfig(image_channels=4, patch=1, channels=(8, 16), embedding=8, num_classes=0)


def encoder() -> TextEncoder:
    torch.manual_seed(0)
    made = TextEncoder(20, LENGTH, WIDTH, 2)
    for layer in made.layers:  # they begin as nothing
        torch.nn.init.normal_(layer.out.weight, std=0.5)
    return made.eval()


def prompt(*tokens: int, padding: int = 0) -> tuple[Tensor, Tensor]:
    row = torch.tensor([[*tokens, *[padding] * (LENGTH - len(tokens))]])
    return row, (torch.arange(LENGTH) < len(tokens)).float()[None]


def network() -> TextUNet:
    torch.manual_seed(0)
    made = TextUNet(TINY, WIDTH, 1)
    for parameter in made.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


@torch.no_grad()
def test_padding_is_not_seen() -> None:
    made, net = encoder(), network()
    x, level = torch.randn(1, 4, 8, 8), torch.tensor([0.5])
    outputs = [net(x, level, *made(*prompt(2, 5, 7, padding=padding))) for padding in (0, 9)]
    torch.testing.assert_close(*outputs, rtol=0.0, atol=1e-6)


@torch.no_grad()
def test_words_and_their_order_are_seen() -> None:
    made, net = encoder(), network()
    x, level = torch.randn(1, 4, 8, 8), torch.tensor([0.5])
    outputs = [net(x, level, *made(*prompt(*tokens))) for tokens in ((2,), (2, 5), (2, 5, 7), (2, 7, 5))]
    for index, output in enumerate(outputs):
        assert output.isfinite().all()
        for other in outputs[:index]:
            assert (output - other).abs().max() > 1e-3


@torch.no_grad()
def test_cross_attention_is_what_the_library_s_is() -> None:
    torch.manual_seed(0)
    made = CrossAttention(16, WIDTH, groups=4)
    torch.nn.init.normal_(made.out.weight)
    x, (context, bias) = torch.randn(2, 16, 4, 4), encoder()(torch.randint(20, (2, LENGTH)), torch.ones(2, LENGTH))
    bias[1, 3:] = -1e4
    keys, values = made.key_value(context).chunk(2, dim=2)
    q, k, v = (
        each.reshape(2, -1, 4, 4).transpose(1, 2)
        for each in (made.query(made.norm(x)).flatten(2).transpose(1, 2), keys, values)
    )
    seen = torch.nn.functional.scaled_dot_product_attention(q, k, v, bias[:, None, None])
    expected = x + made.out(seen.transpose(1, 2).reshape(2, 16, 16).transpose(1, 2).reshape(2, 16, 4, 4))
    torch.testing.assert_close(made(x, context, bias), expected)


def test_at_the_start_no_word_moves_the_map() -> None:
    made, words, x = CrossAttention(16, WIDTH, groups=4), encoder(), torch.randn(1, 16, 4, 4)
    assert (made(x, *words(*prompt(2, 5))) == made(x, *words(*prompt(2, 7)))).all()
