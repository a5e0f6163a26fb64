"""What is served: a bundle for each name, exported and put before the gate where that has not happened yet."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from export.bundle import Bundle, BundleError
from serving import guardian
from zoo.contract.layout import BUNDLE_MANIFEST
from zoo.errors import GenzooError, StoreError

if TYPE_CHECKING:
    from zoo.family import Checkpoint

Report = Callable[[str], None]


class RefusedError(GenzooError):
    """A bundle that the gate refused, or that it cannot judge here; the message names its reason."""


def prepare(source: str, report: Report = lambda _: None, *, judge: bool = True, ungated: bool = False) -> Bundle:
    """The bundle of a checkpoint's name, up to date; or the bundle in the folder `source`, as it is.

    What the gate refused raises RefusedError, unless `ungated`. `judge` puts a bundle without a verdict before the
    gate, for which torch and the checkpoint must be here; a bundle that has one needs neither.
    """
    bundle, checkpoint = _found(source)
    if bundle is None:
        from export import exporter

        report(f"exporting {source}")
        assert checkpoint is not None
        bundle = exporter.export(checkpoint)
    if ungated:
        if not bundle.admitted:
            report(f"{bundle.name} {standing(bundle)}, and is taken ungated")
        return bundle
    if bundle.verdict is None and judge:
        report(f"{source} goes before the gate")
        _judge(bundle)
    if bundle.verdict is None or bundle.admitted:
        return bundle
    raise RefusedError(f"{bundle.verdict['message']}; export it again, or take it as it is with --ungated")


def standing(bundle: Bundle) -> str:
    """What the gate said of it, in words."""
    if bundle.admitted:
        return "was admitted by the gate"
    return "was refused by the gate" if bundle.verdict else "has not been before the gate"


def _judge(bundle: Bundle) -> None:
    """The gate's verdict, beside the bundle. Raises RefusedError where there is nothing to judge it by."""
    from zoo.registry import UnknownNameError

    try:
        from export.gate import gate

        gate(bundle)
    except (UnknownNameError, ModuleNotFoundError) as error:
        raise RefusedError(
            f"{bundle.name} has not been before the gate, which needs its checkpoint and torch ({error}): pull its "
            f"bundle with its publisher's --key, whose verdict counts, or run `genzoo gate {bundle.path}` where they "
            f"are, or take it as it is with --ungated"
        ) from error


def prepare_all(
    sources: Iterable[str], report: Report = lambda _: None, *, judge: bool = True, ungated: bool = False
) -> list[Bundle]:
    """`prepare` of each; export and gate use one thread, so those that wait for them run side by side, one a core."""
    sources = list(sources)
    waiting = [source for source in dict.fromkeys(sources) if not ungated and _waits(source, judge)]
    if len(waiting) > 1:
        _side_by_side(waiting, judge, report)
    return [prepare(source, report, judge=judge, ungated=ungated) for source in sources]


def _side_by_side(sources: Sequence[str], judge: bool, report: Report) -> None:
    """Ctrl-C reaches every process of a terminal: here it ends the workers, which do not see it themselves."""
    context, workers = multiprocessing.get_context("spawn"), min(len(sources), len(os.sched_getaffinity(0)))
    before = multiprocessing.active_children()
    with ProcessPoolExecutor(workers, context, _begin) as pool:
        try:
            with _interrupts_held():
                made = {pool.submit(_prepare, source, judge): source for source in sources}
            for future in as_completed(made):
                future.result()
                report(f"{made[future]} is exported{' and admitted' if judge else ''}")
        except BaseException:
            for child in set(multiprocessing.active_children()).difference(before):
                child.terminate()
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes that begin in the block never see Ctrl-C; this one does after it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    signal.signal(signal.SIGTERM, _leave)
    guardian.end_with_parent(signal.SIGTERM)


def _leave(number: int, frame: object) -> None:
    """A worker that is told to end removes first what it has half written; from here on it has nothing to say."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # native code that was interrupted may end it with a traceback
    sys.exit(128 + number)


def _prepare(source: str, judge: bool) -> None:
    try:
        prepare(source, judge=judge)
    except SystemExit as ended:  # a pool takes it for a result, and waits for the next task
        os._exit(int(str(ended.code)))


def _waits(source: str, judge: bool) -> bool:
    """Whether a name lacks a bundle that is up to date, or the verdict that it shall have."""
    bundle, checkpoint = _found(source)
    return checkpoint is not None and (bundle is None or (judge and bundle.verdict is None))


def _found(source: str) -> tuple[Bundle | None, Checkpoint | None]:
    """The bundle that is there and up to date, and the checkpoint that a new one is made of: at least one of them."""
    if (Path(source) / BUNDLE_MANIFEST).is_file():
        return Bundle.open(source), None
    from export import exporter
    from export.variant import Variant
    from zoo import registry

    try:
        checkpoint = registry.checkpoint(source)
        return exporter.cached(checkpoint, Variant())[0], checkpoint
    except (registry.UnknownNameError, StoreError, ModuleNotFoundError) as error:
        placed = exporter.folder(source, Variant())  # a pulled bundle whose checkpoint, or torch, is not here
        if (placed / BUNDLE_MANIFEST).is_file():
            return Bundle.open(placed), None
        if not isinstance(error, ModuleNotFoundError):
            raise
        registry.record(source)  # a name that nobody knows is refused as such
        raise BundleError(
            f"{source} has no bundle here, and {error.name}, which makes one, is not installed: "
            f"`genzoo pull {source} --bundle` fetches it, --from or $GENZOO_REMOTE say where"
        ) from error
