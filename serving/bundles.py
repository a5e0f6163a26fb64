"""What is served: a bundle for each name, exported and put before the gate where that has not happened yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from export.bundle import MANIFEST, Bundle


def prepare(source: str, report: Callable[[str], None] = lambda _: None, *, gate: bool = True) -> Bundle:
    """The bundle of a checkpoint's name, up to date; or the bundle in the folder `source`, as it is.

    `gate` puts a bundle that has no verdict before the gate; whether it was admitted is the repository's question.
    A folder needs neither torch nor the zoo's families.
    """
    if (Path(source) / MANIFEST).is_file():
        return Bundle.open(source)
    from export import exporter
    from export.variant import Variant
    from zoo import registry

    checkpoint = registry.checkpoint(source)
    bundle, _ = exporter.cached(checkpoint, Variant())
    if bundle is None:
        report(f"exporting {source}")
        bundle = exporter.export(checkpoint)
    if gate and bundle.verdict is None:
        from export import gate as gates

        report(f"{source} goes before the gate")
        gates.gate(bundle)
    return bundle
