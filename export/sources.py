"""What code decides a bundle's bytes: the import closure of what an export runs, by its digests.

It is read from the sources, and goes no further than the rooms that make graphs: how a file is found, kept or sent
changes none.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from zoo import files

ROOMS = ("export", "zoo.contract", "zoo.sampling", "zoo.family", "zoo.families", "zoo.networks", "zoo.images")
PACKAGES = ("diffusers", "transformers")  # which build networks, where a family imports them

Import = tuple[str, tuple[str, ...]]  # a module, and the names taken from it


def digests(*roots: str) -> dict[str, str]:
    """The sha256, shortened, of the file of each module that these modules lead to, by its path in the house."""
    return {f"{name.replace('.', '/')}.py": files.sha256(path)[:16] for name, path in sorted(_closure(roots).items())}


def packages(*roots: str) -> tuple[str, ...]:
    """Which of PACKAGES are imported by the modules that these modules lead to."""
    found = {module.split(".")[0] for path in _closure(roots).values() for module, _ in _imports(path)}
    return tuple(name for name in PACKAGES if name in found)


def _closure(roots: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    waiting = dict(_files((root, ()) for root in roots))
    while waiting:
        name, path = waiting.popitem()
        found[name] = path
        waiting |= {other: file for other, file in _files(_imports(path)) if other not in found}
    return found


def _files(imports: Iterator[Import] | tuple[Import, ...]) -> Iterator[tuple[str, Path]]:
    """The modules of our rooms among some imports, without the packages around them."""
    for module, names in imports:
        spec = find_spec(module) if f"{module}.".startswith(ROOMS) or module == "zoo" else None
        if spec and spec.submodule_search_locations is not None:
            yield from _files((f"{module}.{name}", ()) for name in names)
        elif spec and spec.origin and module.startswith(ROOMS):
            yield module, Path(spec.origin)


def _imports(path: Path) -> tuple[Import, ...]:
    return _parsed(path, files.sha256(path))


@lru_cache(maxsize=256)
def _parsed(path: Path, digest: str) -> tuple[Import, ...]:
    """Every import of a file, wherever in it."""
    found: list[Import] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, tuple(alias.name for alias in node.names)))
    return tuple(found)
