"""Programs of one size, called with any."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from export.runtimes.modules import InRows, side_by_side


@pytest.mark.parametrize(("count", "fixed", "called"), [(4, True, [4]), (3, True, [4]), (9, True, [4, 4, 4])])
def test_a_program_of_one_size_is_filled_up(count: int, fixed: bool, called: list[int]) -> None:
    sizes: list[int] = []

    def program(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        assert len(x) == len(y)
        return x + y[:, None]

    x, y = torch.arange(2 * count).reshape(count, 2), torch.arange(count)
    assert torch.equal(InRows(program, 4, fixed=fixed)(x, y), x + y[:, None])
    assert sizes == called


def test_native_code_is_given_what_lies_side_by_side() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        assert x.is_contiguous()
        return x

    column = torch.arange(12).reshape(4, 3)[:, 1]
    assert torch.equal(InRows(program, 4)(column), torch.tensor([1, 4, 7, 10]))
    assert side_by_side(column[:1]).stride() == (1,), "torch would compile anew for another stride of one row"


def test_a_program_of_at_most_some_rows_takes_fewer() -> None:
    sizes: list[int] = []

    def program(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return 2 * x

    for count in (1, 4, 6):
        assert torch.equal(InRows(program, 4)(torch.ones(count)), torch.full((count,), 2.0))
    assert sizes == [1, 4, 4, 2]
