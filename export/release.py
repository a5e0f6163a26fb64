"""A release: every checkpoint and its bundle, admitted and signed, in one folder for a web server or a mirror.

What the wheel leaves out comes from there by `genzoo pull`. Made again, it sends only what has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from export.exporter import export
from export.gate import require
from export.variant import Variant
from zoo import registry
from zoo.exchange.publish import Pushed, push
from zoo.store.artifact import Kind
from zoo.store.remotes import Remote
from zoo.store.signing import SigningKey


@dataclass(frozen=True)
class Released:
    """A checkpoint in the release, and its bundle."""

    name: str
    checkpoint: Pushed
    bundle: Pushed

    @property
    def new(self) -> bool:
        return self.checkpoint.new or self.bundle.new


def release(names: Iterable[str], remote: Remote, key: SigningKey) -> Iterator[Released]:
    """Publish each checkpoint, then its float32 bundle once the gate admits it; one after the other, so that what was
    interrupted goes on.

    Raises GateError, and what `push` raises.
    """
    for name in names:
        require(export(registry.checkpoint(name)))
        checkpoint = push(name, remote, key=key)
        bundle = push(name, remote, kind=Kind.BUNDLE, variant=Variant().name, key=key)
        yield Released(name, checkpoint, bundle)
