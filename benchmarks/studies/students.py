"""Each distillation against its teacher on the same seeds: whose pictures a student makes, how good and how varied."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np

from benchmarks.measure import samples
from benchmarks.measure.sweep import artifact, in_process
from benchmarks.quality import features
from benchmarks.quality.metrics import frequencies, metric_name
from benchmarks.studies import JUDGE, JUDGES, NETS, Cells, Findings, Study
from export.gate import require
from serving.bundles import prepare
from zoo import registry
from zoo.contract.request import Setting

IMAGES, REFERENCE_STEPS = 1000, 50
KINDS = ("fd", "recall")
METRICS = tuple(metric_name(kind, IMAGES, net) for kind in KINDS for net in NETS)
FD, RECALL = slice(5, 5 + len(NETS)), slice(5 + len(NETS), None)  # columns
PAIRS = (  # a student, its steps, the teacher, its steps: the halvings one by one, then all against the first teacher
    *(("ddpm", steps, "ddpm", REFERENCE_STEPS) for steps in (4, 2, 1)),
    ("ddpm-pd4", 4, "ddpm", REFERENCE_STEPS),
    ("ddpm-pd2", 2, "ddpm-pd4", 4),
    ("ddpm-pd2", 2, "ddpm", REFERENCE_STEPS),
    ("ddpm-pd1", 1, "ddpm-pd2", 2),
    ("ddpm-pd1", 1, "ddpm", REFERENCE_STEPS),
    *(("ddpm-cd", steps, "ddpm", REFERENCE_STEPS) for steps in (4, 2, 1)),
    *(("ddpm-ct", steps, "ddpm", REFERENCE_STEPS) for steps in (4, 2, 1)),
    ("ddgan", 4, "ddpm", REFERENCE_STEPS),
    *(("ddpm-dmd", steps, "ddpm", REFERENCE_STEPS) for steps in (4, 2, 1)),
    *((name, 1, "ddpm", REFERENCE_STEPS) for name in ("ddpm-sid", "ddpm-sida")),
    *((name, steps, "fm", REFERENCE_STEPS) for name in ("fm", "fm-rect", "fm-mean", "fm-imf") for steps in (4, 2, 1)),
    *(("fm-imm", steps, "fm", REFERENCE_STEPS) for steps in (8, 4, 2, 1)),
)
SCORED = ("ddpm-dmd", "ddpm-sid", "ddpm-sida")  # by their teacher's scores, in one step
WHOLE = "fm-imm"  # whose every doubling of steps must pay


def run() -> Findings:
    rows: list[Cells] = []
    class_ids = classes(PAIRS[0][0], IMAGES)
    for student, steps, teacher, teacher_steps in PAIRS:
        made, wanted = images(student, steps, IMAGES), images(teacher, teacher_steps, IMAGES)
        made_seen, wanted_seen = (features.look(each, NETS)[JUDGE].features for each in (made, wanted))
        in_pixels = closeness(made / 255.0, wanted / 255.0, class_ids)
        kept = in_pixels, closeness(made_seen, wanted_seen, class_ids)
        rows.append((student, steps, f"{teacher} at {teacher_steps}", *kept, *distances(student, steps, IMAGES, KINDS)))
    columns = ("student", "steps", "teacher", "distance in pixels", f"distance in {JUDGE} features", *METRICS)
    return Findings(columns, tuple(rows), answer(rows))


@cache
def images(name: str, steps: int, count: int) -> np.ndarray:
    """Those in which a generator is judged, uint8 NHWC."""
    bundle = require(prepare(name))
    return samples.draw(in_process(bundle), Setting(steps), count, artifact(bundle), frequencies=frequencies(JUDGES))


def distances(name: str, steps: int, count: int, kinds: tuple[str, ...] = ("fd",)) -> list[float]:
    """The Fréchet distance of those images in each net, then what else is asked for."""
    bundle = require(prepare(name))
    found = samples.judge(in_process(bundle), Setting(steps), count, artifact(bundle), JUDGES, kinds=kinds)["metrics"]
    return [found[metric_name(kind, count, net)]["value"] for kind in kinds for net in NETS]


def closeness(made: np.ndarray, wanted: np.ndarray, class_ids: np.ndarray) -> float:
    """The mean distance of each seed's pair, in that of strangers: of one class, but not of one seed.

    1 is a student that makes pictures of its own, 0 one that copies its teacher's.
    """
    made, wanted = (each.reshape(len(each), -1).astype(np.float64) for each in (made, wanted))
    pairs = np.linalg.norm(made - wanted, axis=1).mean()
    strangers = np.linalg.norm(wanted[strangers_of(class_ids)] - wanted, axis=1).mean()
    return float(pairs / strangers)


def strangers_of(class_ids: np.ndarray) -> np.ndarray:
    """The next one of the same class, of each: (N,) -> (N,)."""
    found = np.empty(len(class_ids), np.int64)
    for each in np.unique(class_ids):
        rows = np.flatnonzero(class_ids == each)
        found[rows] = np.roll(rows, -1)
    return found


def classes(name: str, count: int) -> np.ndarray:
    """Of those images, (N,)."""
    seeds = range(samples.FIRST_SEED, samples.FIRST_SEED + count)
    asked = samples.conditions(registry.entry(name).spec, seeds, frequencies=frequencies(JUDGES))
    return np.array(asked["class_id"])


def answer(rows: list[Cells]) -> str:
    own = [row for row in rows if row[2] == f"{row[0]} at {REFERENCE_STEPS}"]
    students = [row for row in rows if row not in own and str(row[2]).endswith(f" at {REFERENCE_STEPS}")]
    said = []
    for steps in (1, 2, 4):
        group = [row for row in students if row[1] == steps]
        nearest, best = (min(group, key=lambda row, c=column: row[c])[0] for column in (4, 5))  # type: ignore[misc]
        said.append(f"in {steps} nearest is {nearest} and best {best}")
    return (
        f"Distances are in those of strangers, pictures of one class and two seeds: 0 is the teacher's own picture, 1 "
        f"another one. By number of steps, {'; '.join(said)} (in the {JUDGE}'s features). {scored(rows)}"
        f"{steadily(rows)}Not better, in every net, than the teacher itself in as many steps: "
        f"{', '.join(not_ahead(students, own)) or 'none'}."
    )


def not_ahead(students: list[Cells], own: list[Cells]) -> list[str]:
    """The students, `ddpm-cd in 4`, whose Fréchet distance is above their teacher's in as many steps, in any net."""
    limits = {row[1:3]: numbers(row, FD) for row in own}
    found = []
    for student in students:
        if any(d >= limit for d, limit in zip(numbers(student, FD), limits.get(student[1:3], []), strict=False)):
            found.append(f"{student[0]} in {student[1]}")
    return found


def scored(rows: list[Cells]) -> str:
    """The recall of those who learn in one step by their teacher's scores: under an adversary, without, and both."""
    found = {row[0]: numbers(row, RECALL) for row in rows if row[0] in SCORED and row[1] == 1}
    said = "; ".join(f"{name} {', '.join(f'{each:.1%}' for each in recall)}" for name, recall in found.items())
    return f"Recall in {', '.join(NETS)} of those that learn by scores, in 1: {said}. " if found else ""


def steadily(rows: list[Cells]) -> str:
    """Whether a student of whole steps gains with each doubling of them: in which nets."""
    ordered = sorted((row for row in rows if row[0] == WHOLE), key=lambda row: int(str(row[1])))
    if not ordered:
        return ""
    columns = zip(NETS, zip(*(numbers(row, FD) for row in ordered), strict=True), strict=True)
    falling = [net for net, column in columns if all(after < d for d, after in pairwise(column))]
    steps = ", ".join(str(row[1]) for row in ordered)
    return f"{WHOLE} in {steps} steps has a smaller distance each time in: {', '.join(falling) or 'no net'}. "


def numbers(row: Cells, columns: slice) -> list[float]:
    return [float(str(cell)) for cell in row[columns]]


STUDY = Study(
    "Does a student make its teacher's pictures from the same seeds, or others as good?",
    tuple(dict.fromkeys(name for student, _, teacher, _ in PAIRS for name in (student, teacher))),
    run,
    {"images": IMAGES, "pairs": PAIRS},
)
