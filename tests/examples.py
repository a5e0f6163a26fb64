"""How much a test draws: the same few examples on every run, or, under GENZOO_EXAMPLES=random, many new ones.

`make fuzz` is the longer command; what it finds is pinned as an example of its own.
"""

from __future__ import annotations

import os
import random

from hypothesis import settings

VARIABLE = "GENZOO_EXAMPLES"
FIXED, RANDOM = "fixed", "random"
FACTOR = 10

settings.register_profile(FIXED, derandomize=True, database=None, deadline=None)
settings.register_profile(RANDOM, max_examples=100 * FACTOR, deadline=None, print_blob=True)
settings.load_profile(os.environ.get(VARIABLE) or FIXED)

at_random = os.environ.get(VARIABLE) == RANDOM


def examples(count: int) -> int:
    """So many, or ten times as many of a random search."""
    return count * FACTOR if at_random else count


def seed() -> int:
    """0, or another one each time of a random search; a test that draws from it names it where it fails."""
    return random.SystemRandom().randrange(1 << 30) if at_random else 0
