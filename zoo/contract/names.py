"""What a generator's noises, conditions and sizes may be called: words that nothing else goes by.

A name is an option, a server's input, a tensor of a graph, and a word in the text of which graphs are composed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from zoo.plain import PlainError

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
AXES = frozenset({
    "batch", "draws", "kept", "rows", "terms", "values", "weight_rows",
})  # fmt: skip
# Of requests, their columns and the functions that take them.
REQUEST = frozenset({
    "conditions", "guidance_interval", "guidance_scale", "mixture", "num_steps", "sampler", "seed", "seeds", "self",
    "setting", "sizes", "strength",
})  # fmt: skip
# Of the graphs that `export.compose` makes of a denoiser's; each row of an unrolled one adds its number.
LOOP = frozenset({
    "a", "all", "b", "c_in", "c_next", "c_noise", "c_out", "c_skip", "denoised", "draw", "draws", "e",
    "end_per_term", "ends", "f", "first", "following", "free_part", "fresh", "g", "go_on", "going", "grid",
    "grid_of_output", "grid_of_x", "guidance_weights", "guidance_weights_now", "images", "index", "initial",
    "known", "known_at_level", "known_part", "last_denoised", "last_draw", "last_saved", "last_weight_row",
    "level_per_term", "levels", "m", "mask", "n", "network_x", "next", "noise", "noise_of_known", "one", "output",
    "output_per_term", "p", "predicted", "previous", "row", "rows", "s", "saved", "saved_next", "scaled", "skipped",
    "state", "state_rest", "table", "true", "two", "unmasked", "weight", "weight_row", "weight_rows", "weighted",
    "whole", "x", "x_next", "x_now", "x_per_image", "x_per_term", "zeros",
})  # fmt: skip
PARTS = ("", "_rows", "_rest", "_shape")  # of a condition's tensor in such a graph


def check(names: Iterable[str], taken: frozenset[str]) -> None:
    """Raises PlainError for what is no name, for one that is taken, and for one that comes twice."""
    names = list(names)
    for name in names:
        if not NAME.fullmatch(name):
            raise PlainError(f"{name[:40]!r} is no name: expected a-z, 0-9 and _, a letter first, at most 64")
        if is_taken(name, taken):
            raise PlainError(f"{name} is the name of something else that a generator takes or has: choose another")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise PlainError(f"{' and '.join(twice)} would be the name of two inputs: each name may stand once")


def is_taken(name: str, taken: frozenset[str]) -> bool:
    """Whether a name, or it with the number of a row after it, is among those."""
    return name in taken or re.sub(r"_[0-9]+$", "", name) in taken


def of_a_loop(tensors: Iterable[str]) -> list[str]:
    """All that the tensors of conditions are called in a composed graph."""
    return [f"{tensor}{part}" for tensor in tensors for part in PARTS]
