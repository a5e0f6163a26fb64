"""The whole chain of progressive distillation (Salimans & Ho 2022): what each halving keeps of its teacher, and loses.

Every student is put beside its own teacher, beside the first teacher, which takes as many steps as it is given, and
beside that teacher's DDIM in as few steps as the student.
"""

from __future__ import annotations

from benchmarks.quality.metrics import metric_name
from benchmarks.studies import NETS, Cells, Findings, Study
from benchmarks.studies.students import classes, closeness, distances, images

IMAGES, FIRST, FIRST_STEPS = 500, "ddpm-s", 1000  # 1,024 is more than a request may ask for
STEPS = tuple(2**exponent for exponent in reversed(range(10)))
UNDISTILLED = 32  # steps, at most, at which DDIM is shown for comparison: above, it is near its limit


def run() -> Findings:
    limit, class_ids = images(FIRST, FIRST_STEPS, IMAGES) / 255.0, classes(FIRST, IMAGES)
    rows: list[Cells] = [(FIRST, FIRST_STEPS, None, None, *distances(FIRST, FIRST_STEPS, IMAGES))]
    before = limit
    for steps in STEPS:
        name = student(steps)
        made = images(name, steps, IMAGES) / 255.0
        kept = closeness(made, before, class_ids), closeness(made, limit, class_ids)
        rows.append((name, steps, *kept, *distances(name, steps, IMAGES)))
        before = made
    for steps in (each for each in STEPS if each <= UNDISTILLED):
        made = images(FIRST, steps, IMAGES) / 255.0
        apart = closeness(made, limit, class_ids)
        rows.append((f"{FIRST}, DDIM", steps, None, apart, *distances(FIRST, steps, IMAGES)))
    fd = tuple(metric_name("fd", IMAGES, net) for net in NETS)
    columns = ("generator", "steps", "distance to its teacher", f"distance to {FIRST_STEPS:,} steps", *fd)
    return Findings(columns, tuple(rows), answer(rows))


def student(steps: int) -> str:
    return f"{FIRST}-pd{steps}"


def answer(rows: list[Cells]) -> str:
    """Where the students part from the first teacher, and from which number of steps on they beat its DDIM."""
    chain = [row for row in rows if row[0] == student(int(str(row[1])))]
    plain = {row[1]: row for row in rows if row[0] == f"{FIRST}, DDIM"}
    worst = max(chain, key=lambda row: float(str(row[2])))
    ahead = [row[1] for row in chain if row[1] in plain and all(row[c] < plain[row[1]][c] for c in (4, 5))]  # type: ignore[operator]
    beats = ", ".join(str(steps) for steps in ahead) or "no number of"
    return (
        f"Distances in pixels are in those of strangers, pictures of one class and two seeds. The halving that loses "
        f"most is the one that ends at {worst[1]} ({float(str(worst[2])):.2f} from its teacher). In both nets students "
        f"beat the first teacher's DDIM in {beats} steps."
    )


STUDY = Study(
    "What does each halving of progressive distillation keep of its teacher?",
    (FIRST, *(student(steps) for steps in STEPS)),
    run,
    {"images": IMAGES, "first_steps": FIRST_STEPS, "undistilled": UNDISTILLED},
)
