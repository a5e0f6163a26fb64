"""What is served: a bundle for each name, exported and put before the gate where that has not happened yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from export.bundle import MANIFEST, Bundle


def prepare(source: str, report: Callable[[str], None] = lambda _: None, *, gate: bool = True) -> Bundle:
    """The bundle of a checkpoint's name, up to date; or the bundle in the folder `source`, as it is.

    `gate` puts a bundle that has no verdict before the gate, and raises GateError for one that was refused. A folder
    needs neither torch nor the zoo's families; the repository asks for its verdict.
    """
    if (Path(source) / MANIFEST).is_file():
        return Bundle.open(source)
    from export import exporter
    from export.variant import Variant
    from zoo import registry

    try:
        checkpoint = registry.checkpoint(source)
    except (registry.UnknownNameError, ModuleNotFoundError):
        placed = exporter.folder(source, Variant())  # a pulled bundle whose checkpoint, or torch, is not here
        if (placed / MANIFEST).is_file():
            return Bundle.open(placed)
        raise
    bundle, _ = exporter.cached(checkpoint, Variant())
    if bundle is None:
        report(f"exporting {source}")
        bundle = exporter.export(checkpoint)
    if not gate:
        return bundle
    from export.gate import require

    if bundle.verdict is None:
        report(f"{source} goes before the gate")
    return require(bundle)
