"""MaskGIT: all codes of a picture guessed at once, the surest kept, the others guessed again (arXiv:2202.04200).

Source: Chang et al. 2022. The generator is one execution: noise -> a loop of a few calls of a transformer that sees the
codes kept so far, in any order -> the decoder. As with an autoregressive prior a draw is discrete, so where two codes
or two confidences come closer than two runtimes' roundings, they may part company.

Shapes: B batch, T codes of a picture, K codes of the book, W width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from zoo.contract.graph import Graph
from zoo.family import Branch, Checkpoint, Family, Recipe, System, class_conditional
from zoo.images import to_images
from zoo.networks.codes import Tokenizer, TokenizerConfig
from zoo.networks.transformer import Transformer

DATASET = "fashion_mnist"  # of every checkpoint here
SURE = 1e9  # the confidence in a code that is kept
SMALLEST = 1e-6  # of a uniform number whose logarithm is taken


@dataclass(frozen=True)
class MaskGITConfig(TokenizerConfig):
    width: int = 128
    heads: int = 4
    layers: int = 6
    num_classes: int = 10
    calls: int = 8  # of the transformer, for a picture
    temperature: float = 3.0  # of the noise on confidences, in the first call; it falls to 0 in the last


class MaskedTransformer(nn.Module):
    """`forward(codes, class_ids)`: (B, T), (B,) int64 -> logits (B, T, K); the code K is the mask."""

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.codes + 1, config.width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.transformer = Transformer(
            config.side**2, config.codes, config.width, config.heads, config.layers, config.num_classes
        )

    def forward(self, codes: Tensor, class_ids: Tensor) -> Tensor:
        return cast(Tensor, self.transformer(self.embedding(codes), class_ids))


def masked_after(calls: int, length: int) -> list[int]:
    """How many codes are still masked after each call: the cosine schedule (section 3.3), each call keeps some."""
    left = [math.floor(length * math.cos(math.pi / 2 * (call + 1) / calls)) for call in range(calls)]
    return [min(count, length - 1 - call) for call, count in enumerate(left[:-1])] + [0]


def uniform(noise: Tensor) -> Tensor:
    """Standard normal -> uniform in (0, 1)."""
    return (0.5 * (1.0 + torch.erf(noise * math.sqrt(0.5)))).clamp(SMALLEST, 1.0 - SMALLEST)


def pick(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """A draw by the inverse of the distribution function: (..., K), (...) in (0, 1) -> (...) int64."""
    count = probabilities.shape[-1]
    below = torch.ones(count, count, device=probabilities.device).triu()
    reached = (probabilities @ below < uniforms[..., None]).sum(-1)
    return reached.clamp(max=count - 1)


def least(confidence: Tensor, count: Tensor) -> Tensor:
    """Which `count`, (1,), of each row's (B, T) are the smallest; equal ones in their order."""
    places = torch.arange(confidence.shape[1], device=confidence.device)
    own, other = confidence[:, :, None], confidence[:, None, :]
    before = (other < own) | ((other == own) & (places[None, None, :] < places[None, :, None]))
    return before.sum(2) < count


class MaskGIT(Tokenizer):
    """`forward(noise, class_ids)`: (B, 1, calls, T, 2), (B, 1) int64 -> uint8 NHWC [0, 255]."""

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__(config)
        self.config = config
        self.prior = MaskedTransformer(config)

    def draw(self, noise: Tensor, class_ids: Tensor, temperature: float) -> Tensor:
        """(B, calls, T, 2) normal, one number for the code and one for the confidence -> codes (B, T)."""
        calls, length = noise.shape[1], noise.shape[2]
        left = torch.tensor(masked_after(calls, length), device=noise.device)
        heat = temperature * (1.0 - torch.arange(1, calls + 1, device=noise.device) / calls)
        state = (
            torch.zeros(1, dtype=torch.int64, device=noise.device),  # the call
            torch.full((noise.shape[0], length), self.codes, device=noise.device),
        )

        def step(call: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
            log_probabilities = self.prior(codes, class_ids).log_softmax(-1)
            numbers = uniform(noise.index_select(1, call)[:, 0])
            masked = codes == self.codes
            guessed = torch.where(masked, pick(log_probabilities.exp(), numbers[..., 0]), codes)
            known = log_probabilities.gather(2, guessed[..., None])[..., 0]
            gumbel = -torch.log(-torch.log(numbers[..., 1]))
            confidence = torch.where(masked, known + heat.index_select(0, call) * gumbel, SURE)
            again = least(confidence, left.index_select(0, call))
            return call + 1, torch.where(again, self.codes, guessed)

        if torch.compiler.is_exporting():
            from torch._higher_order_ops.while_loop import while_loop

            return cast(Tensor, while_loop(lambda call, _: (call < calls).reshape(()), step, state)[1])  # type: ignore[no-untyped-call]
        for _ in range(calls):
            state = step(*state)
        return state[1]

    def forward(self, noise: Tensor, class_ids: Tensor) -> Tensor:
        codes = self.draw(noise[:, 0], class_ids[:, 0], self.config.temperature)
        return cast(Tensor, to_images(self.of_codes(codes)))


def graphs(module: MaskGIT, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (Graph("generator", module, checkpoint.spec.inputs, checkpoint.spec.outputs),)


CHECKPOINTS = (
    Checkpoint(
        spec=class_conditional("maskgit", "maskgit", (8, 64, 2), (32, 32, 1), 10),
        dataset=DATASET,
        config=MaskGITConfig(),
        recipe=Recipe(
            "masked_codes",
            images=48_000,
            batch_size=64,
            learning_rate=1.5e-3,
            ema_images=10_000,
            seed=51,
            options={"smoothing": 0.1},
            minutes=12.0,
        ),
        teacher="vqvae",
        paper="Chang et al. 2022, arXiv:2202.04200",
        description="MaskGIT on the codes of `vqvae`: all 64 guessed in 8 calls, where its prior takes 64.",
        faults=(
            "Its transformer saw less than one epoch: sandals and bags break into pieces, and some clothes have holes.",
            "Fine prints and seams are lost between the codes, as in those of `vqvae`.",
        ),
        systems=(
            System("MaskGIT", Branch.AUTOENCODERS, "Chang et al. 2022, arXiv:2202.04200", "ImageNet 256 FID 6.18 in 8"),
        ),
    ),
)

FAMILY = Family(build=MaskGIT, graphs=graphs, checkpoints=CHECKPOINTS)
