"""Mixed traffic: images of different samplers, guidance, steps and edits in one execution, or grouped by setting.

In this process the same random batches run both ways, in turns, and each round gives a ratio. Through Triton each of
some clients asks for one image after the other; batches are what the server makes of them. What a network call costs
beyond its images is found from the time of a call at several batch sizes: it is `CALL_COST` of `zoo.contract.feeds`,
which decides who shares an execution.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count

import numpy as np

from benchmarks.measure.sweep import endpoints, in_process
from benchmarks.statistics import Estimate, percentile
from benchmarks.studies import Cells, Findings, Study
from export.gate import require
from export.tuning.turns import interleaved
from serving import interface
from serving.bundles import prepare
from zoo.contract.feeds import CALL_COST, Runner, Tensors, feeds
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest, Setting
from zoo.contract.spec import GeneratorSpec

CHECKPOINT = "ddpm"
BATCH, BATCHES, ROUNDS = 16, 2, 9  # images of a batch, batches of a turn, turns
CLIENTS, SECONDS, REPETITIONS = 16, 3.0, 5
SIZES, CALLS, CALL_ROUNDS = (1, 2, 4, 8, 16), (1, 5), 11  # of the time of a call: images, and rows of two tables


@dataclass(frozen=True)
class Form:
    """How an image is asked for, and whether it begins with a picture, half of which may be kept."""

    setting: Setting
    image: bool = False
    mask: bool = False


PLAIN = Form(Setting(4))
SAMPLERS = tuple(Form(Setting(4, sampler)) for sampler in ("ddim", "ddpm", "dpmpp_2m"))
GUIDANCE = (PLAIN, Form(Setting(4, guidance_scale=2.0)))
STEPS = tuple(Form(Setting(steps)) for steps in (4, 5, 6, 8))
EDITS = (PLAIN, Form(Setting(5, strength=0.8), image=True), Form(Setting(4), image=True, mask=True))
MIXES = {
    "same": (PLAIN,),
    "samplers": SAMPLERS,
    "guidance": GUIDANCE,
    "steps": STEPS,
    "edits": EDITS,
    "everything": tuple(dict.fromkeys((*SAMPLERS, *GUIDANCE, *STEPS, *EDITS))),
}


@dataclass(frozen=True)
class Asker:
    """Makes requests of one image; what is edited is the generator's own image of seed 0."""

    spec: GeneratorSpec
    picture: np.ndarray
    mask: np.ndarray

    @classmethod
    def of(cls, generator: Generator) -> Asker:
        [picture] = generator.sample(SampleRequest((0,), setting=PLAIN.setting))
        mask = np.zeros((*picture.shape[:2], 1), np.uint8)
        mask[len(mask) // 2 :] = 255
        return cls(generator.spec, picture, mask)

    def columns(self, form: Form, seed: int) -> Tensors:
        given = {"image": (self.picture,)} if form.image else {}
        given |= {"mask_image": (self.mask,)} if form.mask else {}
        return interface.tensors(self.spec, SampleRequest((seed,), given, form.setting))


def run() -> Findings:
    bundle = require(prepare(CHECKPOINT))
    generator = in_process(bundle)
    asker = Asker.of(generator)
    here = {mix: compared(generator, asker, forms) for mix, forms in MIXES.items()}
    cost = call_cost(generator)
    with endpoints("triton", [bundle]) as connect:
        there = served(connect(bundle), asker, MIXES)
    rows: list[Cells] = []
    for mix, forms in MIXES.items():
        ours, theirs = here[mix], there[mix]
        rate = theirs.images_per_second
        slowdown = percentile(rate / there["same"].images_per_second, 50)
        executions = f"{ours.executions:g} of {ours.groups:g}"
        p50, p99 = (str(percentile(theirs.latencies_ms, q)) for q in (50, 99))
        timings = (round(ours.images_per_second, 1), str(ours.ratio), str(percentile(rate, 50)), str(slowdown))
        rows.append((mix, len(forms), executions, *timings, p50, p99))
    return Findings(COLUMNS, tuple(rows), _answer(rows, cost))


COLUMNS = (
    "mix",
    "settings",
    f"executions of {BATCH} images, of so many groups",
    "images/s in process",
    "times as fast as grouped by setting",
    f"images/s, Triton, {CLIENTS} clients",
    "of what one setting gets there",
    "p50 ms",
    "p99 ms",
)


@dataclass(frozen=True)
class Compared:
    """Random batches of a mix as one run, against a run for each setting; the means of a batch."""

    executions: float
    groups: float
    images_per_second: float
    ratio: Estimate


def compared(generator: Generator, asker: Asker, forms: Sequence[Form], rounds: int = ROUNDS) -> Compared:
    batches = [_batch(asker, forms, seed) for seed in range(BATCHES)]
    whole = [interface.merged(generator.spec, [part for group in batch for part in group]) for batch in batches]
    parts = [interface.merged(generator.spec, group) for batch in batches for group in batch]
    contenders = {"together": partial(_run_all, generator, whole), "apart": partial(_run_all, generator, parts)}
    times = interleaved(contenders, rounds)
    executions = sum(len(generator.feeds.executions(each)) for each in whole)
    rate = 1000.0 * BATCHES * BATCH / float(np.median(times["together"]))
    ratio = percentile(times["apart"] / times["together"], 50)
    return Compared(executions / BATCHES, len(parts) / BATCHES, rate, ratio)


def _batch(asker: Asker, forms: Sequence[Form], seed: int) -> list[list[Tensors]]:
    """The requests of a batch, each of a form drawn at random, grouped by form."""
    drawn = np.random.default_rng(seed).integers(len(forms), size=BATCH)
    seeds = count(BATCH * seed)
    return [
        [asker.columns(forms[each], next(seeds)) for _ in range(number)]
        for each, number in enumerate(np.bincount(drawn))
        if number
    ]


def _run_all(generator: Generator, batches: Sequence[Tensors]) -> None:
    for batch in batches:
        generator.run(**batch)


def call_cost(generator: Generator, rounds: int = CALL_ROUNDS) -> Estimate:
    """What a network call takes beyond its images, in the time of one image.

    The time of a call is the difference of two tables' by that of their rows, so that what is done once an image is no
    part of it; over batch sizes it is fitted by cost + images x time, each error relative to what was measured.
    """
    few, many = CALLS
    contenders: dict[tuple[int, int], Callable[[], object]] = {}
    for size in SIZES:
        for rows in CALLS:
            tensors = feeds(generator.spec, SampleRequest(tuple(range(size)), setting=Setting(rows)))
            contenders[size, rows] = partial(generator.runner.run, **tensors)
    named = {f"{size} {rows}": contender for (size, rows), contender in contenders.items()}
    times = interleaved(named, rounds)
    calls = np.array([(times[f"{size} {many}"] - times[f"{size} {few}"]) / (many - few) for size in SIZES])
    return percentile(np.array([fitted(SIZES, each) for each in calls.T]), 50)


def fitted(sizes: Sequence[int], times: np.ndarray) -> float:
    """c / d of the nearest c + d x size to `times`, in relative errors."""
    terms = np.stack([np.ones(len(sizes)), np.asarray(sizes, float)], 1)
    (cost, image), *_ = np.linalg.lstsq(terms / times[:, None], np.ones(len(sizes)))
    return float(cost / image)


@dataclass(frozen=True)
class Served:
    """What clients saw: the time of each request, and images a second of each repetition."""

    latencies_ms: np.ndarray
    images_per_second: np.ndarray


def served(
    endpoint: Runner,
    asker: Asker,
    mixes: Mapping[str, Sequence[Form]],
    repetitions: int = REPETITIONS,
    seconds: float = SECONDS,
    clients: int = CLIENTS,
) -> dict[str, Served]:
    """Each mix in turn, again and again; the first turn of each is a warm-up."""
    found: dict[str, list[tuple[np.ndarray, float]]] = {mix: [] for mix in mixes}
    for turn in range(-1, repetitions):
        for mix, forms in mixes.items():
            measured = _clients(endpoint, asker, forms, seconds, clients)
            if turn >= 0:
                found[mix].append(measured)
    return {
        mix: Served(np.concatenate([latencies for latencies, _ in each]), np.array([rate for _, rate in each]))
        for mix, each in found.items()
    }


def _clients(
    endpoint: Runner, asker: Asker, forms: Sequence[Form], seconds: float, clients: int
) -> tuple[np.ndarray, float]:
    """Milliseconds of each request, and images a second."""
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        client = partial(_client, endpoint, asker, forms, began + seconds)
        latencies = [each for found in pool.map(client, range(clients)) for each in found]
    return np.array(latencies), len(latencies) / (time.perf_counter() - began)


def _client(endpoint: Runner, asker: Asker, forms: Sequence[Form], end: float, number: int) -> list[float]:
    drawn, latencies = np.random.default_rng(number), []
    while (began := time.perf_counter()) < end:
        form, seed = forms[int(drawn.integers(len(forms)))], int(drawn.integers(1 << 30))
        endpoint.run(**asker.columns(form, seed))
        latencies.append(1000.0 * (time.perf_counter() - began))
    return latencies


def _answer(rows: Sequence[Cells], cost: Estimate) -> str:
    ratio, slowdown = (
        COLUMNS.index("times as fast as grouped by setting"),
        COLUMNS.index("of what one setting gets there"),
    )
    said = "; ".join(f"{row[0]} {row[ratio]} and {row[slowdown]}" for row in rows[1:])
    return (
        f"Images a second of a mixed batch over those of a run for each setting, and through Triton over those of one "
        f"setting: {said}. A network call costs {cost} images' time beyond its images (`CALL_COST` is {CALL_COST:g})."
    )


STUDY = Study(
    "What is gained where images of different samplers, guidance, numbers of steps and edits share an execution?",
    (CHECKPOINT,),
    run,
    {
        "mixes": {mix: [asdict(form) for form in forms] for mix, forms in MIXES.items()},
        "batch": BATCH,
        "batches": BATCHES,
        "rounds": ROUNDS,
        "clients": CLIENTS,
        "seconds": SECONDS,
        "repetitions": REPETITIONS,
        "call_cost": CALL_COST,
    },
)
