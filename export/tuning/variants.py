"""The bundle that an executor runs: the one that was tuned, or one of fewer bits beside it in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from export.bundle import Bundle, BundleError
from export.runtimes import Executor
from export.tuning.record import TuningError
from export.variant import LoopKind, Precision
from zoo.exchange import derived

NARROW = ("int8", "mixed")  # what a CPU runs


def beside(bundle: Bundle) -> Callable[[Executor], Bundle]:
    """The bundle itself, or the one of fewer bits in the store. Raises TuningError where that is another's."""

    def found(executor: Executor) -> Bundle:
        if executor.bundle_name == Precision.FP32:
            return bundle
        other = Bundle.open(derived.bundles() / bundle.name / executor.bundle_name)
        if other.manifest["checkpoint"] != bundle.manifest["checkpoint"]:
            raise TuningError(f"{other.path} is of other weights than {bundle.path}: `genzoo tune {bundle.name}` again")
        return other

    return found


def searched(bundle: Bundle) -> Iterator[Executor]:
    """An executor for each bundle of the same weights whose layers were chosen one by one, in the store already."""
    folder = derived.bundles() / bundle.name
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not path.name.startswith(tuple(f"{each}-" for each in NARROW)):
            continue
        try:
            other = Bundle.open(path)
        except BundleError:
            continue
        same = other.manifest["checkpoint"] == bundle.manifest["checkpoint"]
        if same and other.manifest["loop"] == LoopKind.ONNX:
            yield Executor(precision=Precision(other.manifest["precision"]), bundle=path.name)
