"""What is served: a bundle for each name, exported and put before the gate where that has not happened yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from export.bundle import MANIFEST, Bundle


def prepare(source: str, report: Callable[[str], None] = lambda _: None) -> Bundle:
    """The bundle of a checkpoint's name, up to date; or the bundle in the folder `source`, as it is.

    A folder needs neither torch nor the zoo's families. Whether the gate admitted it is the repository's question.
    """
    if (Path(source) / MANIFEST).is_file():
        return Bundle.open(source)
    from export import exporter, gate
    from zoo import registry

    checkpoint = registry.checkpoint(source)
    bundle, _ = exporter.cached(checkpoint, exporter.resolve(checkpoint, exporter.Variant()))
    if bundle is None:
        report(f"exporting {source}")
        bundle = exporter.export(checkpoint)
    if bundle.verdict is None:
        report(f"{source} before the gate")
        gate.gate(bundle)
    return bundle
