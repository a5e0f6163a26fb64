"""What a container serves, brought by itself: bundles and engines from mirrors, and a model repository of them.

What was pulled is kept below $GENZOO_HOME, which may be a volume of many pods: a store for many processes. Where no
mirror answers, what is there, verified again, is served. A repository is the pod's own, and new at each start.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import GenzooError

if TYPE_CHECKING:
    from zoo.store.artifact import Kind

FOLDER = "fetched"  # in the place of models

log = logging.getLogger(__name__)


class FetchError(GenzooError):
    """A container was not told all that it needs to fetch what it serves."""


@dataclass(frozen=True)
class Wish:
    """Generators, mirrors, the file of the publisher's public key, and targets of engines: none run on ONNX Runtime."""

    names: tuple[str, ...]
    mirrors: tuple[str, ...]
    key: Path | None
    engines: tuple[str, ...]


def parted(options: Sequence[str]) -> tuple[Wish | None, list[str]]:
    """What is to be fetched, if anything, and the options that are Triton's. Raises FetchError."""
    parser = argparse.ArgumentParser(prog="python3 -m serving.entrypoint", add_help=False, allow_abbrev=False)
    parser.add_argument("--fetch", action="append", default=[])
    parser.add_argument("--from", action="append", default=[], dest="mirrors")
    parser.add_argument("--key", type=Path)
    parser.add_argument("--engine", action="append", default=[])
    found, others = parser.parse_known_args(list(options))
    if not found.fetch:
        if found.mirrors or found.key or found.engine:
            raise FetchError("--from, --key and --engine are of what is fetched: name generators, --fetch=NAME")
        return None, others
    if found.key is None:
        raise FetchError("--fetch needs --key, the publisher's public key: what nobody has signed is not served")
    return Wish(tuple(dict.fromkeys(found.fetch)), tuple(found.mirrors), found.key, tuple(found.engine)), others


def repository(wish: Wish, place: Path) -> Path:
    """The new model repository of what was wished for, in the folder `place`. Raises GenzooError."""
    from export.engine import Target
    from serving.engines import Wanted
    from serving.generators import Prepared
    from zoo.store.artifact import Kind

    unknown = [name for name in wish.engines if name not in list(Target)]
    if unknown:
        raise FetchError(f"no engine is for {unknown[0]!r}: choose of {', '.join(Target)}")
    bundles = [str(_pulled(wish, name, Kind.BUNDLE, "fp32")) for name in wish.names]
    for name in wish.names:
        for target in wish.engines:
            _pulled(wish, name, Kind.ENGINE, target)
    engines = Wanted.of([Target(name) for name in wish.engines], None, None, 1)
    path = place / FOLDER
    shutil.rmtree(path, ignore_errors=True)  # of a container that ended in this pod
    Prepared(engines, report=log.warning).repository(bundles, path)
    return path


def _pulled(wish: Wish, name: str, kind: Kind, variant: str) -> Path:
    """Where it is now. Raises GenzooError."""
    from zoo.exchange import pull as pulling
    from zoo.shelf import blob_store
    from zoo.store import signing
    from zoo.store.offers import Policy, PullError

    store, policy = blob_store(), Policy(signing.trusted([wish.key] if wish.key else []), require_signature=True)
    try:
        found = pulling.pull(name, pulling.mirrors(wish.mirrors), store, policy, kind=kind, variant=variant)
    except (GenzooError, OSError) as error:
        try:
            found = pulling.held(name, store, policy, kind=kind, variant=variant)
        except PullError:
            raise error from None
        log.warning("%s %s version %d is served as it is here: %s", name, variant, found.ref.version, error)
    else:
        log.warning("%s %s version %d: %d bytes fetched", name, variant, found.ref.version, found.fetched)
    return found.path
