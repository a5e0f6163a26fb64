"""Which measured points are worth choosing: nothing else is both as fast and as good."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]  # (latency, distance): less is better in both


def dominates(a: Point, b: Point) -> bool:
    """Whether a is at least as good as b in both and better in one."""
    return a[0] <= b[0] and a[1] <= b[1] and a != b


def front(points: Sequence[Point]) -> list[int]:
    """The indices of the points that no other dominates, by rising latency."""
    kept = [i for i, point in enumerate(points) if not any(dominates(other, point) for other in points)]
    return sorted(kept, key=lambda index: points[index])
