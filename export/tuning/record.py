"""What was found to be the fastest on this host, kept beside the bundles: tuned/<name>.json.

It counts only where it was made: for this processor and these cores, this bundle, and these versions of what runs it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.bundle import Bundle
from export.changes import why
from export.runtimes import Executor
from export.tiers import EXACT, TIERS, Tier
from export.tuning import host
from export.tuning.candidates import is_peer, keeps
from zoo import files, untrusted
from zoo.contract.layout import BUNDLE_MANIFEST
from zoo.errors import GenzooError
from zoo.plain import PlainError, rebuild

FORMAT = "genzoo-tuned/1"

Allowed = Callable[[Executor], bool]


class TuningError(GenzooError):
    """Nothing was tuned that a request asks for, or it was for another host or other versions."""


def path_of(name: str) -> Path:
    return files.home() / "tuned" / f"{name}.json"


def plain(executor: Executor) -> dict[str, Any]:
    """An executor as JSON has it, without what is usual."""
    usual = dataclasses.asdict(Executor())
    return {
        key: value for key, value in dataclasses.asdict(executor).items() if value != usual[key] or key == "runtime"
    }


@dataclass(frozen=True)
class Tuned:
    """A record: by batch size lines of executors, each with its tier, its time, and why it was kept or not."""

    record: Mapping[str, Any]

    @classmethod
    def read(cls, name: str) -> Tuned | None:
        """What is kept of a generator; None where nothing is, or nothing that can be read."""
        try:
            found = untrusted.read_json(path_of(name))
        except untrusted.UntrustedError:
            return None
        return cls(found) if found.get("format") == FORMAT else None

    def stale(self, bundle: Bundle) -> list[str]:
        """Why it does not count for a bundle here, a clause each; empty where it does."""
        then, now = self.record, decisive(bundle)
        now["versions"] = {name: now["versions"].get(name, "not here") for name in then["versions"]}
        found = why({key: then[key] for key in now}, now)
        for variant, digest in then["bundles"].items():
            if variant != "fp32" and _digest(self.record["name"], variant) != digest:
                found.append(f"its {variant} bundle was another")
        return found

    @property
    def batches(self) -> list[int]:
        return sorted(int(each) for each in self.record["batches"])

    def lines(self, batch: int) -> list[dict[str, Any]]:
        """Of the executors that were measured for a batch size, the fastest first."""
        return [each for each in self.record["batches"][str(batch)]["lines"] if each["relative"]]

    def fastest(self, batch: int, tier: Tier, allowed: Allowed = keeps) -> Executor | None:
        """The fastest executor for a batch size that was tuned, of a tier or a tighter one."""
        order = [each.name for each in TIERS]
        for line in self.lines(batch):
            executor = executor_of(line)
            if line["tier"] and order.index(line["tier"]) <= order.index(tier.name) and allowed(executor):
                return executor
        return None

    def choice(self, tier: Tier, allowed: Allowed = keeps) -> dict[int, Executor]:
        """The fastest executor for each batch size, as far as there is one."""
        found = {batch: self.fastest(batch, tier, allowed) for batch in self.batches}
        return {batch: executor for batch, executor in found.items() if executor is not None}


def _digest(name: str, variant: str) -> str:
    """Of a bundle in the store; empty where there is none."""
    from zoo.exchange import derived

    manifest = derived.bundles() / name / variant / BUNDLE_MANIFEST
    return files.sha256(manifest) if manifest.is_file() else ""


def executor_of(line: Mapping[str, Any]) -> Executor:
    return rebuild(Executor, line["executor"], "executor")


def decisive(bundle: Bundle) -> dict[str, Any]:
    """What a record is bound to."""
    return {"host": host.machine(), "bundle": bundle.digest, "versions": host.versions()}


def nearest(batches: Iterable[int], count: int) -> int:
    """The tuned batch size that stands for `count` images: the nearest by ratio, of two as near the smaller."""
    return min(sorted(batches), key=lambda each: abs(math.log(each / count)))


def chosen(
    bundle: Bundle, tier: Tier = EXACT, *, peers: bool = False, allowed: Allowed = lambda _: True
) -> dict[int, Executor]:
    """By batch size the executors that were tuned for a bundle on this host; `peers`: the best of others' instead.

    Raises TuningError where none was, or what is there does not count.
    """
    found, again = Tuned.read(bundle.name), f"`genzoo tune {bundle.name}` measures"
    if found is None:
        raise TuningError(f"nothing was tuned for {bundle.name} on this host: {again}")
    try:
        if reasons := found.stale(bundle):
            raise TuningError(f"what was tuned for {bundle.name} is stale, {'; '.join(reasons)}: {again} again")
        taken = (
            (lambda each: is_peer(each) and allowed(each)) if peers else (lambda each: keeps(each) and allowed(each))
        )
        executors = found.choice(tier, taken)
    except (KeyError, TypeError, ValueError, AttributeError, PlainError) as error:
        raise TuningError(f"{path_of(bundle.name)} cannot be used, {error}: {again} again") from error
    if not executors:
        raise TuningError(f"no {'peer' if peers else 'executor'} of {bundle.name} is of the tier {tier} here: {again}")
    return executors
