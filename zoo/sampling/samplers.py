"""Samplers as tables: every explicit sampler used here is linear in what it has seen.

With D the denoised estimate of this row, P that of the row before and S a saved state,

    x' = a x + b D + p P + s S + n noise
    S' = e x + f D + g S
    P' = D

so a sampler is a plain function from sigmas to rows of coefficients, in float64. The network's preconditioning is
further columns, and the scale of the initial noise is folded into the first row. A network that predicts for a whole
step has one column more, the level at which the step ends. One row is one network call: a table's length is its NFE.
`walk` is the reference: a few lines that torch, NumPy and the exported graph agree on.

Where a part of the image is given, `known`, and `mask` is 1 there, the part is at the noise level of each row's end:

    x' = mask (known + m noise) + (1 - mask) x'

(Lugmayr et al. 2022, RePaint, equation 8), m being that level: the noise is the one that the row draws, and where none
is drawn the first, as on the straight way from that noise to the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from zoo.sampling.parameterization import Parameterization
from zoo.sampling.schedules import SIGMA_MAX

COLUMNS = ("c_in", "c_skip", "c_out", "c_noise", "a", "b", "p", "s", "n", "e", "f", "g")
X_COLUMNS = [COLUMNS.index(name) for name in ("c_in", "c_skip", "a", "e")]  # those that multiply x

FARTHEST = 2.0 * SIGMA_MAX  # from such a level a step down to the image is no line
LEAST_RATIO = 0.5  # of two steps in log sigma: from a shorter one no line is drawn through a longer one

Rows = list[dict[str, float]]  # one row: its `sigma` and the non-zero coefficients of the two updates


@dataclass(frozen=True)
class Sampler:
    """A way from noise to an image: its rows for a grid of levels, and what its paper says of it."""

    rows: Callable[[np.ndarray], Rows]  # sigmas, decreasing to 0 -> rows
    order: int | None  # halving the steps' length divides the error by 2 ** order; None: it follows no one path
    stochastic: bool  # it adds noise on the way
    paper: str

    @property
    def kind(self) -> str:
        return "stochastic" if self.stochastic else f"order {self.order}"


def ddim(sigmas: np.ndarray) -> Rows:
    """Song et al. 2021 (DDIM), equation 12 at eta = 0; in these coordinates also Euler's method."""
    return [
        {"sigma": now, "a": following / now, "b": 1.0 - following / now, "m": following}
        for now, following in pairwise(sigmas)
    ]


def ddim_eps(sigmas: np.ndarray) -> Rows:
    """The same for a denoiser that knows where a step ends and keeps the network's noise, whatever its estimate is
    clipped to (diffusers without `use_clipped_model_output`): its D is that of the step, which may have no length."""
    return [row | {"b": row["b"] or 1.0} for row in ddim(sigmas)]


def ddpm(sigmas: np.ndarray) -> Rows:
    """Ho et al. 2020 (DDPM), equations 6 and 7: a draw from the posterior q(x' | x, D)."""
    return [
        {
            "sigma": now,
            "a": (following / now) ** 2,
            "b": 1.0 - (following / now) ** 2,
            "n": following * np.sqrt(1.0 - (following / now) ** 2),
            "m": following,
        }
        for now, following in pairwise(sigmas)
    ]


def ddpm_large(sigmas: np.ndarray) -> Rows:
    """Ho et al. 2020, section 3.2: the noise of the step forward, beta, in place of the posterior's; none last."""
    rows = ddpm(sigmas)
    for row, (now, following) in zip(rows, pairwise(sigmas), strict=True):
        level = np.sqrt((now**2 - following**2) * (1.0 + following**2) / (1.0 + now**2))
        row["n"] = level if following > 0 else 0.0
    return rows


def heun(sigmas: np.ndarray) -> Rows:
    """Karras et al. 2022, algorithm 1: two rows a step; one for the last, and for steps from where no image is left.

    S keeps x + h d / 2.
    """
    rows: Rows = []
    for now, following in pairwise(sigmas):
        h = (following - now) / now
        if now > FARTHEST and following > 0:
            rows.append({"sigma": now, "a": 1.0 + h, "b": -h, "m": following})
            continue
        rows.append({"sigma": now, "a": 1.0 + h, "b": -h, "e": 1.0 + h / 2, "f": -h / 2, "m": following})
        if following > 0:
            half = (following - now) / (2 * following)
            rows.append({"sigma": following, "a": half, "b": -half, "s": 1.0, "m": following})
    return rows


def heun_capped(sigmas: np.ndarray) -> Rows:
    """The same, with no more than the whole weight on the second estimate.

    With r = following / now a step of Heun's is x' = r x + (1 - r) ((1 - w) D + w D2), w = 1 / (2 r): where a level is
    more than halved it goes past D2, and multiplies D2's error. Here w is at most 1, from where it is.
    """
    rows: Rows = []
    for now, following in pairwise(sigmas):
        left = following / now
        if now > FARTHEST or not 0.0 < left < 0.5:
            rows += heun(np.array([now, following]))
            continue
        rows.append({"sigma": now, "a": left, "b": 1.0 - left, "e": left, "m": following})
        rows.append({"sigma": following, "b": 1.0 - left, "s": 1.0, "m": following})
    return rows


def dpmpp_2m(sigmas: np.ndarray) -> Rows:
    """Lu et al. 2022 (DPM-Solver++), algorithm 2, first order at both ends, and where it would look too far ahead."""
    rows: Rows = []
    for index, (now, following) in enumerate(pairwise(sigmas)):
        gain = 1.0 - following / now  # -expm1(-h), h the step in log(1 / sigma)
        row = {"sigma": now, "a": following / now, "b": gain, "m": following}
        if index and following > 0:
            r = np.log(sigmas[index - 1] / now) / np.log(now / following)
            if r >= LEAST_RATIO:
                row |= {"b": gain * (1.0 + 1.0 / (2.0 * r)), "p": -gain / (2.0 * r)}
        rows.append(row)
    return rows


def consistency(sigmas: np.ndarray) -> Rows:
    """Song et al. 2023 (consistency models), algorithm 1: denoise completely, then add the next level's noise."""
    return [{"sigma": now, "b": 1.0, "n": following, "m": following} for now, following in pairwise(sigmas)]


SAMPLERS: dict[str, Sampler] = {
    "ddim": Sampler(ddim, 1, False, "Song et al. 2021, arXiv:2010.02502"),
    "ddim_eps": Sampler(ddim_eps, 1, False, "Song et al. 2021, arXiv:2010.02502"),
    "ddpm": Sampler(ddpm, None, True, "Ho et al. 2020, arXiv:2006.11239"),
    "ddpm_large": Sampler(ddpm_large, None, True, "Ho et al. 2020, arXiv:2006.11239"),
    "heun": Sampler(heun, 2, False, "Karras et al. 2022, arXiv:2206.00364"),
    "heun_capped": Sampler(heun_capped, 2, False, "Karras et al. 2022, arXiv:2206.00364"),
    "dpmpp_2m": Sampler(dpmpp_2m, 2, False, "Lu et al. 2022, arXiv:2211.01095"),
    "consistency": Sampler(consistency, None, True, "Song et al. 2023, arXiv:2303.01469"),
}
WHOLE_STEP = "ddim_eps"  # among those of a network of timesteps, the one that says where a step ends
DDIM = ("ddim", WHOLE_STEP)
AT = "@"  # between a sampler and the spacing that it is to walk, in place of the generator's own


def parted(name: str) -> tuple[str, str | None]:
    """A sampler and its spacing, of `dpmpp_2m@karras`; None where it names none."""
    sampler, at, spacing = name.partition(AT)
    return sampler, spacing if at else None


def sampler_table(
    sampler: Sampler,
    sigmas: np.ndarray,
    parameterization: Parameterization,
    start: float | None = None,
    columns: tuple[str, ...] = COLUMNS,
) -> np.ndarray:
    """The table of one sampler on one schedule: float64 (NFE, len(columns)), for unit initial noise.

    `start` is the scale of the first x; None takes the first sigma.
    """
    rows = sampler.rows(np.asarray(sigmas, np.float64))
    levels = parameterization(np.array([row["sigma"] for row in rows]))
    table = np.zeros((len(rows), len(columns)))
    for column, name in enumerate(columns):
        if name == "c_next":
            table[:-1, column] = levels.c_noise[1:]
        elif name.startswith("c_"):
            table[:, column] = getattr(levels, name)
        else:
            table[:, column] = [row.get(name, 0.0) for row in rows]
    table[0, X_COLUMNS] *= sigmas[0] if start is None else start
    return table


def is_stochastic(table: np.ndarray) -> bool:
    """Whether any row adds noise; without, one draw per image is enough."""
    return bool(np.any(table[..., COLUMNS.index("n")]))


def padded(table: np.ndarray, rows: int) -> np.ndarray:
    """The table with rows at its end that change nothing, (rows, columns)."""
    idle = np.zeros((rows - len(table), table.shape[1]), table.dtype)
    idle[:, COLUMNS.index("a")] = 1.0
    idle[:, COLUMNS.index("c_noise")] = table[-1, COLUMNS.index("c_noise")]  # a level that the network knows
    return np.concatenate([table, idle])


def walk(
    table: Any,
    noise: Any,
    network: Callable[..., Any],
    columns: tuple[str, ...] = COLUMNS,
    given: tuple[Any, Any] | None = None,
    memory: tuple[Any, Any] = (0.0, 0.0),
) -> Iterator[tuple[Any, Any, Any]]:
    """Walk a table: (x, denoised, saved) after each row.

    `table` is (NFE, columns) for all images, or (B, NFE, columns) with rows for each, of the `columns` named; `noise`
    (draws, B, ...) holds the initial state and then one draw a row, the last draw again where there are fewer;
    `network(c_in x, c_noise)` is F, its `c_noise` a number or (B,), and `c_next` after it where the table has that
    column. `given` is (known, mask), each as x or broadcast to it; `memory` what a row before
    the first left: its estimate, and what it saved. Arrays may be NumPy's or torch's.
    """
    x, (previous, saved) = noise[0], memory
    for index in range(table.shape[-2]):
        row = table[..., index, :]
        times = [row[..., columns.index(name)] for name in ("c_noise", "c_next") if name in columns]
        if row.ndim > 1:  # one coefficient an image
            row = row.swapaxes(0, 1).reshape(row.shape[1], row.shape[0], *[1] * (x.ndim - 1))
        c_in, c_skip, c_out, _, a, b, p, s, n, e, f, g = row[: len(COLUMNS)]
        denoised = c_skip * x + c_out * network(c_in * x, *times)
        draw = noise[min(index + 1, len(noise) - 1)]
        x, saved, previous = (
            a * x + b * denoised + p * previous + s * saved + n * draw,
            e * x + f * denoised + g * saved,
            denoised,
        )
        if given is not None:
            known, mask = given
            x = mask * (known + row[columns.index("m")] * draw) + (1.0 - mask) * x
        yield x, denoised, saved


def execute(table: Any, noise: Any, network: Callable[..., Any], columns: tuple[str, ...] = COLUMNS) -> Any:
    """The last x of `walk`."""
    *_, (x, _, _) = walk(table, noise, network, columns)
    return x
