"""Each distillation against its teacher on the same seeds: whose pictures a student makes, and how good they are."""

from __future__ import annotations

from functools import cache

import numpy as np

from benchmarks.measure import samples
from benchmarks.measure.sweep import artifact, in_process
from benchmarks.quality import features
from benchmarks.quality.metrics import metric_name
from benchmarks.studies import JUDGE, JUDGES, NETS, Cells, Findings, Study
from export.gate import require
from serving.bundles import prepare
from zoo.contract.request import Setting

IMAGES, REFERENCE_STEPS, CLASSES = 1000, 50, 10
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
    *((name, steps, "fm", REFERENCE_STEPS) for name in ("fm", "fm-rect", "fm-mean") for steps in (4, 2, 1)),
)


def run() -> Findings:
    rows: list[Cells] = []
    for student, steps, teacher, teacher_steps in PAIRS:
        made, wanted = images(student, steps, IMAGES), images(teacher, teacher_steps, IMAGES)
        seen = (features.look(each, NETS)[JUDGE].features for each in (made, wanted))
        kept = closeness(made / 255.0, wanted / 255.0), closeness(*seen)
        rows.append((student, steps, f"{teacher} at {teacher_steps}", *kept, *distances(student, steps, IMAGES)))
    fd = tuple(metric_name("fd", IMAGES, net) for net in NETS)
    columns = ("student", "steps", "teacher", "distance in pixels", f"distance in {JUDGE} features", *fd)
    return Findings(columns, tuple(rows), answer(rows))


@cache
def images(name: str, steps: int, count: int) -> np.ndarray:
    """Those in which a generator is judged, uint8 NHWC."""
    bundle = require(prepare(name))
    return samples.draw(in_process(bundle), Setting(steps), count, artifact(bundle))


def distances(name: str, steps: int, count: int) -> list[float]:
    """The Fréchet distance of those images in each net."""
    bundle = require(prepare(name))
    found = samples.judge(in_process(bundle), Setting(steps), count, artifact(bundle), JUDGES, kinds=("fd",))["metrics"]
    return [found[metric_name("fd", count, net)]["value"] for net in NETS]


def closeness(made: np.ndarray, wanted: np.ndarray) -> float:
    """The mean distance of each seed's pair, in that of strangers: of one class, but not of one seed.

    1 is a student that makes pictures of its own, 0 one that copies its teacher's. Classes come in turn.
    """
    made, wanted = (each.reshape(len(each), -1).astype(np.float64) for each in (made, wanted))
    pairs = np.linalg.norm(made - wanted, axis=1).mean()
    strangers = np.linalg.norm(np.roll(wanted, CLASSES, axis=0) - wanted, axis=1).mean()
    return float(pairs / strangers)


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
        f"another one. By number of steps, {'; '.join(said)} (in the {JUDGE}'s features). Not better, in both nets, "
        f"than the teacher itself in as many steps: {', '.join(not_ahead(students, own)) or 'none'}."
    )


def not_ahead(students: list[Cells], own: list[Cells]) -> list[str]:
    """The students, `ddpm-cd in 4`, whose Fréchet distance is above their teacher's in as many steps, in either net."""
    distances = {row[1:3]: [float(str(cell)) for cell in row[5:]] for row in own}
    found = []
    for student in students:
        teacher = distances.get(student[1:3], [])
        if any(float(str(cell)) >= limit for cell, limit in zip(student[5:], teacher, strict=False)):
            found.append(f"{student[0]} in {student[1]}")
    return found


STUDY = Study(
    "Does a student make its teacher's pictures from the same seeds, or others as good?",
    tuple(dict.fromkeys(name for student, _, teacher, _ in PAIRS for name in (student, teacher))),
    run,
    {"images": IMAGES, "pairs": PAIRS},
)
