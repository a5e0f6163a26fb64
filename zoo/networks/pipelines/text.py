"""Text encoders of imported pipelines: tokens and their mask -> what a denoiser is told.

Sources: Radford et al. 2021 (CLIP); Raffel et al. 2020 (T5); Podell et al. 2023 (two encoders, the last layer but one);
Esser et al. 2024 (three encoders, CLIP's padded to T5's width); Xie et al. 2024 (a language model). The networks are
transformers' own.

Shapes: B batch, L tokens, D width. A mask is 1 where a token is of the text, its ends included, 0 where it fills up.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MARKS = 2  # tokens of CLIP around every text: its beginning and its end


def filled(tokens: Tensor, mask: Tensor, pad: int) -> Tensor:
    """(B, L) with the token that an encoder was trained to see behind a text."""
    return torch.where(mask > 0, tokens, torch.full_like(tokens, pad))


class LastLayer(nn.Module):
    """`forward(tokens, mask)` -> context (B, L, D): the last layer of one CLIP encoder, normalized."""

    def __init__(self, encoder: nn.Module, pad: int) -> None:
        super().__init__()
        self.encoder, self.pad = encoder, pad

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        found: Tensor = self.encoder(filled(tokens, mask, self.pad)).last_hidden_state
        return found


class LastButOne(nn.Module):
    """`forward(tokens, mask)` -> context (B, L, sum of D), pooled (B, P): of CLIP encoders that share a vocabulary.

    The context is each one's last layer but one, pooled the projections of those that have one. With `zeros`, those of
    an empty text are 0.
    """

    def __init__(self, encoders: Sequence[nn.Module], pads: Sequence[int], zeros: bool) -> None:
        super().__init__()
        self.encoders, self.pads, self.zeros = nn.ModuleList(encoders), tuple(pads), zeros

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        contexts, pooled = [], []
        for encoder, pad in zip(self.encoders, self.pads, strict=True):
            found = encoder(filled(tokens, mask, pad), output_hidden_states=True)
            contexts.append(found.hidden_states[-2])
            if (projected := getattr(found, "text_embeds", None)) is not None:
                pooled.append(projected)
        context, projection = torch.cat(contexts, -1), torch.cat(pooled, -1)
        if not self.zeros:
            return context, projection
        said = (mask.sum(1, keepdim=True) > MARKS).to(context.dtype)  # (B, 1)
        return context * said[:, :, None], projection * said


class Masked(nn.Module):
    """`forward(tokens, mask)` -> context (B, L, D), and the mask again: T5, which looks at nothing that fills up."""

    def __init__(self, encoder: nn.Module, pad: int) -> None:
        super().__init__()
        self.encoder, self.pad = encoder, pad

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        # Of four axes, as it is added to the attention's scores; one of two would be asked for its values.
        unseen = (1.0 - mask)[:, None, None, :] * torch.finfo(mask.dtype).min
        found = self.encoder(filled(tokens, mask, self.pad), attention_mask=unseen.expand(-1, 1, mask.shape[1], -1))
        return found.last_hidden_state, mask * 1.0  # an output is no input


class Instructed(nn.Module):
    """`forward(tokens, mask)` -> context (B, T, D), mask (B, T): the first and the last T - 1 of a language model's.

    A position is how many tokens of the text stand before it, so that those of one without an instruction may stand
    where they would behind one. The model's window must hold all tokens.
    """

    def __init__(self, model: nn.Module, pad: int, told: int) -> None:
        super().__init__()
        self.model, self.pad, self.told = model, pad, told

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        length = mask.shape[1]
        earlier = torch.ones(length, length, dtype=mask.dtype).tril()
        unseen = (1.0 - earlier[None, None] * mask[:, None, None, :]) * torch.finfo(mask.dtype).min  # (B, 1, L, L)
        found = self.model(
            filled(tokens, mask, self.pad),
            attention_mask={"full_attention": unseen, "sliding_attention": unseen},
            position_ids=(mask.cumsum(1) - 1.0).clamp(min=0.0).to(torch.int64),
            use_cache=False,
        ).last_hidden_state
        rest = length - self.told + 1
        return torch.cat([found[:, :1], found[:, rest:]], 1), torch.cat([mask[:, :1], mask[:, rest:]], 1)


class PooledAndWords(nn.Module):
    """`forward(tokens, mask, tokens_2, mask_2)` -> context (B, L2, D), pooled (B, P): T5's, and CLIP's of the end."""

    def __init__(self, pooling: nn.Module, words: nn.Module, pads: Sequence[int]) -> None:
        super().__init__()
        self.pooling, self.words, self.pads = pooling, words, tuple(pads)

    def forward(self, tokens: Tensor, mask: Tensor, tokens_2: Tensor, mask_2: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.pooling(filled(tokens, mask, self.pads[0])).pooler_output
        return self.words(filled(tokens_2, mask_2, self.pads[1])).last_hidden_state, pooled


class Alone(nn.Module):
    """`forward(tokens, mask)` -> context (B, L + L2, D), pooled (B, P): CLIP's, and zeros where T5's would be."""

    def __init__(self, pictures: nn.Module, width: int, words: int) -> None:
        super().__init__()
        self.pictures, self.width, self.words = pictures, width, words

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        context, pooled = self.pictures(tokens, mask)
        missing = (0, self.width - context.shape[-1], 0, self.words)
        return nn.functional.pad(context, missing), pooled


class Joined(nn.Module):
    """`forward(tokens, mask, tokens_2, mask_2)` -> context (B, L + L2, D), pooled (B, P): CLIP's, then T5's."""

    def __init__(self, pictures: nn.Module, words: nn.Module, pad: int) -> None:
        super().__init__()
        self.pictures, self.words, self.pad = pictures, words, pad

    def forward(self, tokens: Tensor, mask: Tensor, tokens_2: Tensor, mask_2: Tensor) -> tuple[Tensor, Tensor]:
        context, pooled = self.pictures(tokens, mask)
        words = self.words(filled(tokens_2, mask_2, self.pad)).last_hidden_state
        padded = nn.functional.pad(context, (0, words.shape[-1] - context.shape[-1]))
        return torch.cat([padded, words], 1), pooled
