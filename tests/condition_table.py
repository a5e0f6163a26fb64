"""What each checkpoint takes, as docs/conditions.md shows it: `python -m tests.condition_table` writes it there.

It is read from the zoo's index, without torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.templates.marks import replace_marked
from zoo import index, registry
from zoo.contract.conditions import Condition
from zoo.contract.request import why_no_edits
from zoo.contract.spec import GeneratorSpec

PAGE, MARK = Path(__file__).parents[1] / "docs" / "conditions.md", "checkpoints"
HEAD = ("checkpoint", "conditions", "steps", "guidance up to", "image-to-image and inpainting", "pixels")


def table() -> str:
    """A row of each checkpoint of the tree, in Markdown."""
    rows = [HEAD, tuple("---" for _ in HEAD), *(row(registry.entry(name).spec) for name in sorted(index.records()))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def row(spec: GeneratorSpec) -> tuple[str, ...]:
    conditions = ", ".join(shown(spec, each) for each in spec.conditions) or "none"
    edits = "yes" if spec.edits else f"no: {why_no_edits(spec)}"
    height, width, _ = spec.default_image_shape
    sizes = ", ".join(f"{axis.name} {axis.minimum} to {axis.maximum}" for axis in spec.axes)
    return f"`{spec.name}`", conditions, steps(spec), guidance(spec), edits, sizes or f"{height}x{width}"


def shown(spec: GeneratorSpec, condition: Condition) -> str:
    kind = "" if condition.kind == condition.name else f", a {condition.kind}"
    return f"`{condition.name}`{kind}{', mixes' if condition.guided and spec.sampling else ''}"


def steps(spec: GeneratorSpec) -> str:
    if spec.sampling is None:
        return "one call"
    return " or ".join(map(str, spec.sampling.steps)) or f"any up to {spec.sampling.most_steps:,}"


def guidance(spec: GeneratorSpec) -> str:
    most = spec.sampling.max_guidance_scale if spec.sampling and spec.guided else 1.0
    return f"{most:g}" if most > 1.0 else "none"


def page_says() -> Iterator[str]:
    """The lines between the marks."""
    rest = PAGE.read_text().split(f"<!-- {MARK}:begin -->")[1]
    yield from rest.split(f"<!-- {MARK}:end -->")[0].strip().splitlines()


if __name__ == "__main__":
    replace_marked(PAGE, MARK, table())
