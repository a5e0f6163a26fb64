"""Linear attention of imported networks is diffusers', and 0 where theirs is by a number that a graph loses."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers")

from diffusers.models import attention_processor as theirs

from zoo.networks.pipelines.linear_attention import THEIRS, attend, exported

KINDS = {
    "tokens": (lambda: theirs.Attention(8, heads=2, dim_head=4, processor=theirs.SanaLinearAttnProcessor2_0()), (9, 8)),
    "a picture": (lambda: theirs.SanaMultiscaleLinearAttention(8, 8, attention_head_dim=4), (8, 3, 5)),
    "a small picture": (
        lambda: theirs.SanaMultiscaleLinearAttention(
            8, 8, attention_head_dim=4, norm_type="rms_norm", residual_connection=True
        ),
        (8, 2, 2),
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_it_is_that_of_diffusers(name: str) -> None:
    torch.manual_seed(0)
    make, shape = KINDS[name]
    layer, given = make().eval(), torch.randn(2, *shape)
    with torch.inference_mode():
        expected = layer(given)
        assert type(exported(layer).processor) in THEIRS.values()
        torch.testing.assert_close(layer(given), expected, rtol=1e-4, atol=1e-5)


def test_where_no_key_answers_it_is_nothing() -> None:
    query = torch.tensor([[[[1.0, -1.0], [1.0, -1.0]]]])  # the second asks for nothing
    assert attend(query, torch.ones(1, 1, 2, 2), torch.full((1, 1, 2, 2), 3.0)).tolist() == [[[[3.0, 0.0], [3.0, 0.0]]]]
    assert attend(query, -torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).eq(0.0).all()
