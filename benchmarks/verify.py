"""Whether records are what they say: digests and receipts, numbers that follow from others, and what was published.

Nothing is measured again. What a cell's latency is follows from its runs, what a metric's interval is from its values
without each group of images, and what README, docs and cards say between marks from all records together: each is made
again here, by what made it, and a difference is named.
"""

from __future__ import annotations

import difflib
import json
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import receipts
from benchmarks.measure import ratios, rounds
from benchmarks.receipts import described
from benchmarks.records import Record, RecordError
from benchmarks.report import cards, family_tree, overview, pages
from benchmarks.report.family_tree import FamilyTree
from benchmarks.statistics import GROUPS, Estimate, Jackknifed, Root
from benchmarks.templates.marks import replace_marked
from benchmarks.transfers import downloads
from zoo import index, shelf
from zoo.family import Checkpoint
from zoo.store.signing import Trust

CLOSE = 1e-9  # relative: two machines may add in another order
PUBLISHED = ("docs", "records")  # the folder below a checkout whose records its tables are made of
SHOWN = (".md", ".svg")
CHECKPOINTS = shelf.TREE.relative_to(shelf.TREE.parents[1])  # below a checkout


@dataclass(frozen=True)
class Verification:
    """What was looked at, how many of each, and a sentence for all that is wrong."""

    checked: dict[str, int]
    faults: list[str]
    notes: list[str]  # what was not looked at, and why
    unsealed: list[int]  # lines
    signers: list[str]
    head: str

    @property
    def sound(self) -> bool:
        return not self.faults


def verify(path: Path, trust: Trust, *, head: str = "", root: Path | None = None) -> Verification:
    """Everything about a file of records; `root` is the folder of what was published of them.

    Raises RecordError where there is no file, SigningError for a key that cannot be read.
    """
    lines = receipts.lines(path)
    chain = receipts.verify(path, trust)
    checked = Counter({"records": len(lines), "receipts": chain.receipts})
    faults = [line.fault for line in lines if line.fault]
    faults += [f"{path}: {fault}" for fault in chain.faults]
    notes = []
    if chain.receipts or trust:
        faults += [f"{path}:{number} is not sealed" for number in chain.unsealed]
    else:
        notes.append("there are no receipts: a line that was altered together with its digest cannot be noticed")
    if chain.receipts and not trust:
        notes.append("signatures were not checked: name whom you trust with --key")
    if head and head != chain.head:
        faults.append(
            f"{path} ends with the receipt {chain.head[:12] or 'none'}, expected {head[:12]}: its end is gone"
        )
    sound = [line.record for line in lines if line.record]
    for line in lines:
        if line.record:
            found = [*recomputed(line.record)]
            checked["numbers"] += len(found)
            faults += [f"{path}:{line.number} ({described(line.record)}): {each}" for each in found if each]
    if root is not None:
        compared = tables(root, sound)
        checked["published files"] += compared.files
        faults, notes = faults + compared.faults, notes + compared.notes
    return Verification(dict(checked), faults, notes, list(chain.unsealed), list(chain.signers), chain.head)


def published_by(path: Path) -> Path | None:
    """The folder whose README.md and docs/ were made from these records, if they lie in its docs/records."""
    folder = path.resolve().parent
    return folder.parents[1] if folder.parts[-2:] == PUBLISHED else None


def recomputed(record: Record) -> Iterator[str]:
    """For each number of a record that follows from others: a sentence where it does not, else nothing."""
    kind = record["identity"]["kind"]
    try:
        if kind == "cell":
            yield from _latency(record)
        if record.get("left_out"):
            yield from _intervals(record)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, FloatingPointError) as error:
        yield f"what follows from its values cannot be calculated ({type(error).__name__}: {error})"


def _latency(record: Record) -> Iterator[str]:
    """Percentiles, throughput, the ratio to the reference and their intervals, and what is flagged, from the runs."""
    scenario = str(record["identity"]["cell"]["scenario"])
    expected = rounds.summary(scenario, record["runs"])
    for name in dict.fromkeys((*expected, *record["latency"])):
        yield _differs(f"latency {name}", record["latency"].get(name), expected.get(name))
    noisy = [run["noisy"] for run in rounds.judged_noise(record["runs"])]
    yield _differs("which runs are noisy", [run["noisy"] for run in record["runs"]], noisy)
    flags = rounds.flags(scenario, record["runs"], record["served"])
    yield _differs("flags", sorted(record["flags"]), sorted(flags))


def _intervals(record: Record) -> Iterator[str]:
    """Of every metric, from its values without each group of images."""
    for name, stated in record["metrics"].items():
        left_out = np.array(record["left_out"].get(name, ()), dtype=np.float64)
        if left_out.shape != (GROUPS,):
            yield f"{name} has {left_out.size} values without a group of images, expected {GROUPS}"
            continue
        root = record.get("roots", {}).get(name)
        if root is not None:
            yield _differs(f"value of {name}", float(stated["value"]), Root.from_json(root).metric())
        expected = [asdict(each.estimate()) for each in _jackknifed(float(stated["value"]), left_out, name, root)]
        found = [_differs(name, stated, each) for each in expected]
        yield "" if "" in found else found[0]


def _jackknifed(value: float, left_out: np.ndarray, name: str, root: Any) -> Iterator[Jackknifed]:
    """A metric with the root that its interval follows from; without one as a mean, and as the share that it may be."""
    if root is not None:
        yield Jackknifed(value, left_out, root=Root.from_json(root))
        return
    yield Jackknifed(value, left_out)
    if 0.0 <= value <= 1.0:
        yield Jackknifed(value, left_out, _count(name))


def _count(name: str) -> int:
    """How many images a metric's name says that it is of: 2,000 of `fd_2k_critic`."""
    words = [word for word in name.split("_") if word.removesuffix("k").isdigit()]
    return int(words[0].removesuffix("k")) * (1000 if words[0].endswith("k") else 1) if words else 0


def _differs(name: str, stated: Any, expected: Any) -> str:
    if _same(stated, expected):
        return ""
    return f"{name} is stated as {_short(stated)}, its values give {_short(expected)}"


def _same(stated: Any, expected: Any) -> bool:
    if isinstance(stated, Mapping) and isinstance(expected, Mapping):
        return stated.keys() == expected.keys() and all(_same(stated[key], expected[key]) for key in stated)
    if isinstance(stated, (int, float)) and isinstance(expected, (int, float)):
        return math.isclose(stated, expected, rel_tol=CLOSE, abs_tol=1e-12)
    return bool(stated == expected)


def _short(value: Any) -> str:
    if isinstance(value, Mapping) and {"value", "low", "high"} <= value.keys():
        return str(Estimate(*(float(value[key]) for key in ("value", "low", "high"))))
    return "nothing" if value is None else str(value)


@dataclass(frozen=True)
class Tables:
    """Published files against what the records make of them."""

    files: int
    faults: list[str]
    notes: list[str]


def tables(root: Path, found: Sequence[Record]) -> Tables:
    """Every table and picture of README.md, docs/ and the cards below `root`, made again from records."""
    notes, made = list[str](), dict[Path, bytes]()
    with tempfile.TemporaryDirectory(prefix="genzoo-verify-") as folder:
        copy = Path(folder)
        for path in _published(root):
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / path, copy / path)
        for path in _write_tables(copy, found, notes):
            made[path] = (copy / path).read_bytes()
    made |= _cards(root, found, notes)
    faults = [each for path, data in made.items() for each in _changed(root, path, data)]
    return Tables(len(made), [*faults, *_index(root, found)], notes)


def _changed(root: Path, path: Path, expected: bytes) -> list[str]:
    published = (root / path).read_bytes() if (root / path).is_file() else b""
    if published == expected:
        return []
    if path.suffix not in SHOWN:
        return [f"{path}: it is another picture than the records hold"]
    return differences(str(path), published.decode(errors="replace"), expected.decode())


def _cards(root: Path, found: Sequence[Record], notes: list[str]) -> dict[Path, bytes]:
    """The cards of the checkpoints of a tree, with their pictures, as far as they are on record."""
    made, unmeasured = dict[Path, bytes](), list[str]()
    for checkpoint in _in_tree(root):
        try:
            card = cards.contents(checkpoint, found)
        except RecordError:
            unmeasured.append(checkpoint.name)
        else:
            made |= {CHECKPOINTS / checkpoint.name / name: data for name, data in card.items()}
    if unmeasured:
        notes.append(f"{len(unmeasured)} cards were not made again, as of {unmeasured[0]}: not on record")
    return made


def _index(root: Path, found: Sequence[Record]) -> Iterator[str]:
    """What the index of a tree tells of quality otherwise than the records."""
    path = CHECKPOINTS / index.PATH.name
    if not (root / path).is_file():
        return
    told = json.loads((root / path).read_text())["checkpoints"]
    for checkpoint in _in_tree(root):
        published = told.get(checkpoint.name, {}).get("quality")
        try:
            expected = cards.quality(checkpoint, found)
        except RecordError:
            continue
        if not _same(published, expected):
            yield f"{path}: quality of {checkpoint.name}: {published} is published, the records give {expected}"


def _in_tree(root: Path) -> list[Checkpoint]:
    return [each for each in family_tree.trained() if (root / CHECKPOINTS / each.name).is_dir()]


def _published(root: Path) -> Iterator[Path]:
    """What may hold numbers of records, relative to `root`."""
    for path in (root / "README.md", *sorted((root / "docs").rglob("*"))):
        if path.suffix in SHOWN and path.is_file():
            yield path.relative_to(root)


def _write_tables(root: Path, found: Sequence[Record], notes: list[str]) -> Iterator[Path]:
    """Put all that records say into the files below `root`, as the commands do; the paths, relative to it."""
    try:
        tree = FamilyTree.of(family_tree.trained(), found)
    except RecordError as error:
        notes.append(f"the family tree was not made again: {error}")
    else:
        for path in (*overview.write(root, tree), *pages.write(root, tree)):
            yield path.relative_to(root)
    for kind, mark, text in (("ratio", "ratios", ratios.markdown), ("pulls", "pulls", downloads.markdown)):
        mine = [record for record in found if record["identity"]["kind"] == kind]
        for path in [each for each in _published(root) if f"<!-- {mark}:begin -->" in (root / each).read_text()]:
            if mine:
                replace_marked(root / path, mark, text(mine[-1]))
                yield path
            else:
                notes.append(f"{path}: the table {mark!r} was not made again, no such record is there")


def differences(name: str, published: str, expected: str) -> list[str]:
    """A sentence for each line that differs; of a row of a table, for each of its cells."""
    before, after, found = published.splitlines(), expected.splitlines(), list[str]()
    for tag, first, last, start, end in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        old, new = before[first:last], after[start:end]
        for number, (one, other) in enumerate(zip(old, new, strict=False), first):
            found += [f"{name}:{number + 1}: {each}" for each in _cells(before, number, one, other)]
        found += [f"{name}:{first + len(new) + 1}: no record gives {_cut(each)}" for each in old[len(new) :]]
        found += [f"{name}:{last + 1}: it lacks what the records give, {_cut(each)}" for each in new[len(old) :]]
    return found


def _cells(lines: Sequence[str], number: int, published: str, expected: str) -> Iterator[str]:
    """What differs of one line, by the columns of the table that it is a row of."""
    one, other = _row(published), _row(expected)
    if not one or len(one) != len(other):
        yield f"{_cut(published)} is published, the records give {_cut(expected)}"
        return
    while number > 0 and _row(lines[number - 1]):
        number -= 1
    head = _row(lines[number])
    for column, (a, b) in enumerate(zip(one, other, strict=True)):
        if a != b:
            where = f"{one[0]}, {head[column] if column < len(head) else column + 1}"
            yield f"{where}: {a or 'nothing'} is published, the records give {b or 'nothing'}"


def _row(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")] if line.startswith("|") else []


def _cut(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
