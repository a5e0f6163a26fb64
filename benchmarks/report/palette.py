"""Every family's colour and mark: told apart in light and dark, without seeing colours, and in print.

A mark is a closed polygon of equal area, so that the page's script and the server's pictures draw the same one. Where
colours and marks have all been given, they begin again at different times: a pair of both never comes twice before
COLOURS x MARKS families are there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from zoo import registry

Polygon = tuple[tuple[float, float], ...]  # of area 1 around (0, 0), y downwards

# Light and dark, each at least 3:1 against the paper and the panel of its theme (WCAG 2.2, 1.4.11).
COLOURS = (
    ("#0072b2", "#56b4e9"),
    ("#c95600", "#ff8c42"),
    ("#00795b", "#2fc79a"),
    ("#882255", "#e07bb0"),
    ("#3d2c9e", "#9d8df1"),
    ("#76740a", "#d9d04a"),
    ("#c2378a", "#ff9fd6"),
    ("#8c510a", "#d8a25a"),
    ("#56657a", "#a9b8cc"),
    ("#b2182b", "#ff7a7a"),
    ("#117e8c", "#4fd3e0"),
    ("#8e44c9", "#c89bff"),
    ("#3f6212", "#8fce5a"),
    ("#7d5064", "#d9b8c6"),
    ("#2b6cff", "#8ab4ff"),
)


def _star(points: int, inner: float = 1.0, turned: float = 0.0) -> Polygon:
    """A regular polygon, or with `inner` below 1 a star."""
    corners = [
        (inner if index % 2 else 1.0, math.pi * (index / points + turned - 0.5))
        for index in range(2 * points)
        if inner < 1.0 or index % 2 == 0
    ]
    return _of_area_1([(radius * math.cos(angle), radius * math.sin(angle)) for radius, angle in corners])


def _plus(turned: float = 0.0) -> Polygon:
    arm, wide = 1.0, 0.36
    quarter = [(wide, -arm), (wide, -wide), (arm, -wide)]
    corners = []
    for turn in range(4):
        angle = math.pi * (0.5 * turn + turned)
        corners += [
            (x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)) for x, y in quarter
        ]
    return _of_area_1(corners)


def _of_area_1(corners: Sequence[tuple[float, float]]) -> Polygon:
    following = [*corners[1:], corners[0]]
    area = abs(sum(x * v - u * y for (x, y), (u, v) in zip(corners, following, strict=True))) / 2.0
    return tuple((round(x / math.sqrt(area), 3), round(y / math.sqrt(area), 3)) for x, y in corners)


MARKS: tuple[Polygon, ...] = (
    _star(16),  # a circle, as far as the eye tells
    _star(3),
    _star(4, turned=0.25),
    _star(4),
    _star(5, inner=0.42),
    _star(3, turned=1.0),
    _plus(),
    _star(6),
    _star(4, inner=0.38),
    _plus(turned=0.25),
    _star(3, turned=0.5),
    _of_area_1([(-1, -1), (1, -1), (0.25, 0), (1, 1), (-1, 1), (-0.25, 0)]),  # an hourglass
    _star(3, turned=-0.5),
    _star(5),
    _of_area_1([(-1, -1), (0, -0.25), (1, -1), (1, 1), (0, 0.25), (-1, 1)]),
    _star(8, inner=0.45),
    _of_area_1([(-1, -1), (0, -0.3), (1, -1), (1, 0.1), (0, 0.8), (-1, 0.1)]),  # a chevron, down
    _of_area_1([(-1, -1), (-0.3, -1), (-0.3, 0.3), (1, 0.3), (1, 1), (-1, 1)]),  # an L
    _of_area_1([(-1, -1), (1, -1), (1, -0.35), (0.35, -0.35), (0.35, 1), (-0.35, 1), (-0.35, -0.35), (-1, -0.35)]),
    _of_area_1([(-0.4, -1), (1, -1), (0.4, 1), (-1, 1)]),  # a slanted square
    _of_area_1([(0, -1), (1, 0.2), (0.4, 0.2), (0.4, 1), (-0.4, 1), (-0.4, 0.2), (-1, 0.2)]),  # an arrow, up
    _of_area_1([(-0.5, -0.8), (0.5, -0.8), (1, 0.8), (-1, 0.8)]),
    _of_area_1([(-1, -1), (-0.4, -1), (0, -0.2), (0.4, -1), (1, -1), (0.3, 1), (-0.3, 1)]),  # a tulip
    _of_area_1([(-1, -0.4), (0.2, -0.4), (0.2, -1), (1, 0), (0.2, 1), (0.2, 0.4), (-1, 0.4)]),  # an arrow, to the right
    _of_area_1([(-0.9, 1), (-0.9, -0.2), (0, -1), (0.9, -0.2), (0.9, 1)]),  # a house
    _of_area_1([(-1, -1), (0.4, -1), (1, 1), (-0.4, 1)]),  # a square that is slanted the other way
)


@dataclass(frozen=True)
class Look:
    """How a family is drawn, and what it is called."""

    family: str
    light: str
    dark: str
    mark: Polygon

    @property
    def id(self) -> str:
        """As a class of a style sheet, whatever a record calls it."""
        return "family-" + re.sub(r"[^A-Za-z0-9]+", "-", self.family)

    @property
    def words(self) -> str:
        return self.family.replace("_", " ")

    def path(self, x: float = 0.0, y: float = 0.0, size: float = 9.0) -> str:
        """The mark as an SVG path around (x, y), as large as a square of `size` pixels."""
        return "M" + "L".join(f"{x + size * u:.1f},{y + size * v:.1f}" for u, v in self.mark) + "Z"


def look(family: str) -> Look:
    """By a family's place in the registry: adding one moves the others' looks only where it is put before them."""
    known = registry.FAMILIES
    index = known.index(family) if family in known else len(known) + sum(map(ord, family))
    light, dark = COLOURS[index % len(COLOURS)]
    return Look(family, light, dark, MARKS[index % len(MARKS)])
