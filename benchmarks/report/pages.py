"""The pages of the family tree's branches: prose is written by hand, numbers stand between marks and come from records.

`docs/families/<branch>.md` has every measured setting of its checkpoints, what papers report, what training took and
what was studied; `docs/families/README.md` has the branches side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.records import Record
from benchmarks.report.family_tree import FamilyTree
from benchmarks.report.findings import concerning
from benchmarks.report.overview import (
    accuracy,
    against,
    baselines,
    compared,
    cost,
    distances,
    elsewhere,
    markdown,
    percent,
    timed,
)
from benchmarks.report.summary import Row, Section, listed
from benchmarks.templates.marks import replace_marked
from zoo import shelf
from zoo.family import Branch, Checkpoint

FOLDER, MARK = Path("docs/families"), "numbers"


def write(root: Path, tree: FamilyTree) -> list[Path]:
    """Write the numbers of each page below `root`; the paths. Raises MarkError where a page lacks its marks."""
    pages = {"README": index(tree)} | {branch.page: numbers(branch, tree) for branch in Branch}
    written = []
    for name, text in pages.items():
        written.append(root / FOLDER / f"{name}.md")
        replace_marked(written[-1], MARK, text)
    return written


def numbers(branch: Branch, tree: FamilyTree) -> str:
    """All that a branch's page says in numbers, in Markdown."""
    machine = tree.section.machine
    parts = [
        f"Measured on {machine['cpu']}, {machine['cores']} cores, {tree.section.count:,} images each, 95 % intervals; "
        "*reported* is what the system's own paper says, on its own data.",
        measured(branch, tree),
        *descriptions(tree.members(branch)),
        trained(tree.members(branch)),
    ]
    return "\n\n".join([*parts, *studied(tree.members(branch), tree.records)])


def measured(branch: Branch, tree: FamilyTree) -> str:
    """A line for each setting on record, and for each system that is not; the floor last."""
    section, verdicts = tree.section, against(tree)
    nets = section.opinions
    head = ["asked as", "system", "NFE", timed(section), f"ms ({section.runtime}, p50)", *(f"FD {net}" for net in nets)]
    head += [*(f"recall {net}" for net in nets), "class accuracy", compared(section), "reported"]
    places = {(place.checkpoint.name, place.setting): place for place in tree.branch(branch)}
    rows = []
    for row in tree.rows(branch):
        place = places.get((row.generator, row.setting))
        system, reported = (place.system.title, place.system.reported) if place else ("", "")
        cells = [f"`{row.title}`", system, *cost(row, section), _milliseconds(row, section), *_scores(row, section)]
        rows.append([*cells, accuracy(row), verdicts.get(row.title, ""), reported])
    for place in tree.branch(branch):
        if place.row is None:
            blank = [f"not measured: `{tree.command(place)}`", *[""] * (2 * len(nets) + 3)]
            rows.append([f"`{place.title}`", place.system.title, f"{place.nfe:,}", *blank, place.system.reported])
    rows += [[f"*{words}*", "", "", "", "", *of, *[""] * (len(nets) + 3)] for words, of in baselines(section)[:1]]
    return "\n\n".join([markdown(head, rows, words=2), *elsewhere(tree, tree.branch(branch))])


def _milliseconds(row: Row, section: Section) -> str:
    p50 = row.percentile(section.runtime) if section.runtime else None
    return str(p50) if p50 else ""


def descriptions(checkpoints: Iterable[Checkpoint]) -> Iterator[str]:
    """What each checkpoint is, and what the eye finds wrong with its images."""
    yield "What the checkpoints are, with the faults that were seen in their images, and what it took to train them:"
    yield "\n".join(" ".join([f"- `{each.name}`: {each.description}", *each.faults]) for each in checkpoints)


def trained(checkpoints: Iterable[Checkpoint]) -> str:
    """What the published weights are and what making them took, from their training records."""
    head = ["checkpoint", "made from", "parameters", "weights, MB", "images seen", "core minutes", "on unseen pictures"]
    rows = []
    for each in checkpoints:
        config = shelf.config(each.name)
        training = config["training"]
        held_out = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in training.get("held_out", {}).items())
        teacher = f"`{each.teacher}`" if each.teacher else ""
        cells = [f"[`{each.name}`](../../zoo/checkpoints/{each.name}/)", teacher, f"{config['parameters']:,}"]
        minutes = training.get("core_minutes") or training["minutes"] * training.get("threads", 1)
        cells += [f"{config['weights']['bytes'] / 1e6:.1f}", f"{training['images']:,}", f"{minutes:.0f}"]
        rows.append([*cells, held_out])
    return markdown(head, rows, words=2)


def studied(checkpoints: Iterable[Checkpoint], records: Iterable[Record]) -> list[str]:
    """What the studies of these weights answered, the newest of each."""
    records, found = list(records), {}
    for each in checkpoints:
        for record in concerning(each.name, shelf.config(each.name)["weights"]["sha256"], records):
            found[record["identity"]["study"]] = record
    return [f"**{record['question']}** {record['answer']} (`genzoo study {name}`)" for name, record in found.items()]


def index(tree: FamilyTree) -> str:
    """The branches side by side: of each, the system that comes nearest to real pictures, in each net's features."""
    names, rows = tree.section.opinions, []
    head = ["family", "nearest, says the", "NFE", timed(tree.section), *(f"FD {net}" for net in names)]
    head += [f"recall {net}" for net in names]
    for branch in Branch:
        nearest: dict[str, tuple[Row, list[str]]] = {}
        for net in names:
            judged = [
                (distance.value, place.system.title, place.row)
                for place in tree.branch(branch)
                if place.row and place.row.dataset == tree.section.dataset and (distance := place.row.metric("fd", net))
            ]
            if judged:
                _, title, row = min(judged, key=lambda each: each[0])
                nearest.setdefault(f"{title}, `{row.title}`", (row, []))[1].append(net)
        for system, (row, nets) in nearest.items():
            cells = [f"[{branch}]({branch.page}.md)", f"{listed(nets)}: {system}"]
            rows.append([*cells, *cost(row, tree.section), *_scores(row, tree.section)])
    rows += [[f"*{words}*", "", "", "", *of, *[""] * len(names)] for words, of in baselines(tree.section)[:1]]
    return markdown(head, rows, words=2)


def _scores(row: Row, section: Section) -> list[str]:
    """Distances, then recalls, by each of the section's opinions; nothing of another data set."""
    recalls = (row.metric("recall", net) if row.dataset == section.dataset else None for net in section.opinions)
    return [*distances(row, section), *map(percent, recalls)]
