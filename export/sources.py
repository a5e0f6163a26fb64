"""What code decides a bundle's bytes: the import closure of what an export runs, by its digests.

It is read from the sources, and goes no further than the rooms that make graphs: how a file is found, kept or sent
changes none.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

from zoo import files

ROOMS = ("export", "zoo.contract", "zoo.sampling", "zoo.family", "zoo.families", "zoo.networks", "zoo.images")
PACKAGES = ("diffusers", "transformers")  # which build networks, where a family imports them

Import = tuple[str, tuple[str, ...]]  # a module, and the names taken from it


def digests(*roots: str) -> dict[str, str]:
    """The sha256, shortened, of the file of each module that these modules lead to, by its path in the house."""
    return {
        f"{name.replace('.', '/')}.py": _read(path, path.stat().st_mtime_ns)[0]
        for name, path in sorted(_closure(roots).items())
    }


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
        spec = _spec(module) if f"{module}.".startswith(ROOMS) or module == "zoo" else None
        if spec and spec.submodule_search_locations is not None:
            yield from _files((f"{module}.{name}", ()) for name in names)
        elif spec and spec.origin and module.startswith(ROOMS):
            yield module, Path(spec.origin)


def _spec(module: str) -> ModuleSpec | None:
    """Where a module is; families are looked up anew, for they may come from elsewhere."""
    return find_spec(module) if module.startswith("zoo.families") else _spec_of_ours(module)


_spec_of_ours = cache(find_spec)


def _imports(path: Path) -> tuple[Import, ...]:
    return _read(path, path.stat().st_mtime_ns)[1]


@lru_cache(maxsize=1024)
def _read(path: Path, modified: int) -> tuple[str, tuple[Import, ...]]:
    """A file's sha256, shortened, and its imports."""
    return files.sha256(path)[:16], _parsed(path)


def _parsed(path: Path) -> tuple[Import, ...]:
    """Every import of a file, wherever in it."""
    found: list[Import] = []
    for node in _statements(ast.parse(path.read_text()).body):
        if isinstance(node, ast.Import):
            found += [(alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, tuple(alias.name for alias in node.names)))
    return tuple(found)


def _statements(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """All statements, however deeply nested; an expression holds no import, and most of a file is expressions."""
    for node in body:
        yield node
        for inside in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from _statements(getattr(node, inside, ()))
