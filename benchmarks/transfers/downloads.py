"""What a download takes: the same files from the same server on loopback, by several programs in turn.

Every contender is a whole process from start to exit, timed from outside. Each round runs all of them, forwards and
backwards in turn, so that a neighbour that wakes up meets them all; a round gives a ratio, the median is published.
genzoo verifies and syncs to disk; aria2c verifies and does not sync; hf download does neither.

What verification must cost at least is measured too: the hashes of this processor, the processor seconds of the server
beside those of the program, and so what of both cores was idle and could hide it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import environment, records
from benchmarks.measure.workload import WorkloadError
from benchmarks.records import Record
from benchmarks.statistics import Estimate, percentile
from benchmarks.transfers.hub_server import REPOSITORY
from zoo.store.artifact import CHUNK_BYTES, File, Kind, Manifest, describe
from zoo.store.digests import HASHERS

SMALL_BYTES, PIECE, HASHED_CHUNKS = 100_000, 1 << 24, 100
LINKS = (5, 1)  # Gbit/s, between what loopback carries and what a site has
MEMORY = Path("/dev/shm")
GENZOO, UNVERIFIED, HF, ARIA2 = "genzoo", "genzoo, unverified", "hf download", "aria2c"


@dataclass(frozen=True)
class Run:
    """One process, from start to exit."""

    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float
    bytes_above_interpreter: int | None = None  # what genzoo's own process says


Contender = Callable[[Path], Run]


def measure(size: int, count: int, rounds: int) -> Record:
    """The whole comparison as one record. Raises WorkloadError."""
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".pulls-") as disk:
        workloads = {
            f"1 file of {_words(size)}": make(Path(disk) / "one", [size]),
            f"{count:,} files of {_words(SMALL_BYTES)}": make(Path(disk) / "many", [SMALL_BYTES] * count),
        }
        for workload, manifest in workloads.items():
            for place, folder in places(Path(disk), 2 * size):
                with server(Path(disk) / manifest.name) as serving:
                    lines += compare(contenders(manifest, serving, Path(disk)), folder, workload, place, rounds)
        workload, manifest = next(iter(workloads.items()))
        for link in LINKS:
            with server(Path(disk) / manifest.name, link * 125_000_000) as serving:
                ours = {name: run for name, run in contenders(manifest, serving, Path(disk)).items() if GENZOO in name}
                lines += compare(ours, Path(disk) / "target", workload, f"disk, over {link} Gbit/s", min(rounds, 3))
    identity = {
        "protocol": {"size": size, "files": count, "rounds": rounds, "chunk_bytes": CHUNK_BYTES},
        "machine": environment.machine(),
    }
    about = {"hash_bytes_per_s": hash_speeds(), "tools": tools(), "environment": environment.describe()}
    return records.make("pulls", identity, lines=lines, **about)


def make(folder: Path, sizes: Sequence[int]) -> Manifest:
    """Files of random bytes in a folder, and the manifest over them beside it."""
    folder.mkdir()
    entries: list[File] = []
    for number, size in enumerate(sizes):
        path = folder / f"{number:05d}.safetensors"
        with path.open("wb") as file:
            for start in range(0, size, PIECE):
                file.write(os.urandom(min(PIECE, size - start)))
        entries.append(describe(path, path.name))
    manifest = Manifest(folder.name, Kind.CHECKPOINT, 1, "none", tuple(entries))
    folder.with_suffix(".json").write_bytes(manifest.to_bytes())
    return manifest


def places(disk: Path, needed: int) -> Iterator[tuple[str, Path]]:
    """Where downloads go: the disk of the current folder, and memory where there is enough."""
    yield "disk", disk / "target"
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > needed:
        with tempfile.TemporaryDirectory(dir=MEMORY, prefix="genzoo-pulls-") as folder:
            yield "memory", Path(folder) / "target"


@dataclass(frozen=True)
class Server:
    url: str
    process: int

    @property
    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime, proc(5)


@contextmanager
def server(folder: Path, bytes_per_s: int = 0) -> Iterator[Server]:
    """A Hub of one repository in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.transfers.hub_server", str(folder), str(bytes_per_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Server(process.stdout.readline().strip(), process.pid)
        finally:
            process.terminate()


def contenders(manifest: Manifest, serving: Server, disk: Path) -> dict[str, Contender]:
    """Every program that is installed, by name."""
    described, files = str(disk / f"{manifest.name}.json"), f"{serving.url}/{REPOSITORY}/resolve/main"
    client = [sys.executable, "-m", "benchmarks.transfers.pull_client", described, files]
    found: dict[str, Contender] = {
        GENZOO: lambda target: run(serving, [*client, str(target)]),
        UNVERIFIED: lambda target: run(serving, [*client, str(target), "unverified"]),
    }
    if hf := shutil.which("hf", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"):
        quiet = {"HF_ENDPOINT": serving.url, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        found[HF] = lambda target: run(serving, [hf, "download", REPOSITORY], {**quiet, "HF_HOME": str(target)})
    if aria2c := shutil.which("aria2c"):
        inputs = disk / f"{manifest.name}.aria2"
        entries = (f"{files}/{f.path}\n out={f.path}\n checksum=sha-256={f.sha256}\n" for f in manifest.files)
        inputs.write_text("".join(entries))
        parallel = ["-j", "8", "-x", "8", "-s", "8", "-k", "4M", "--file-allocation=none"]
        found[ARIA2] = lambda target: run(serving, [aria2c, "-q", "-i", str(inputs), "-d", str(target), *parallel])
    return found


def run(serving: Server, command: Sequence[str], environ: Mapping[str, str] | None = None) -> Run:
    """Raises WorkloadError where the program fails."""
    began, before = time.perf_counter(), serving.cpu_seconds
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **(environ or {})}
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace").strip()
    if process.returncode:
        raise WorkloadError(f"{command[0]} failed with {process.returncode}: {text[-300:]}")
    ours = "benchmarks.transfers.pull_client" in command
    peak = json.loads(text.splitlines()[-1])["bytes_above_interpreter"] if ours else None
    return Run(seconds, usage.ru_utime + usage.ru_stime, serving.cpu_seconds - before, peak)


def compare(
    programs: Mapping[str, Contender], target: Path, workload: str, place: str, rounds: int
) -> list[dict[str, Any]]:
    """A line a program: seconds, processor seconds, and the ratio of its time to genzoo's."""
    runs: dict[str, list[Run]] = {name: [] for name in programs}
    for turn in range(-1, rounds):  # the first one warms up
        for name in list(programs) if turn % 2 else reversed(list(programs)):
            shutil.rmtree(target, ignore_errors=True)
            os.sync()
            found = programs[name](target)
            if turn >= 0:
                runs[name].append(found)
    shutil.rmtree(target, ignore_errors=True)
    return [_line(workload, place, name, runs) for name in programs]


def _line(workload: str, place: str, name: str, runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    seconds = {key: np.array([found.seconds for found in values]) for key, values in runs.items()}
    peaks = [found.bytes_above_interpreter for found in runs[name] if found.bytes_above_interpreter is not None]
    return {
        "workload": workload,
        "place": place,
        "program": name,
        "seconds": asdict(percentile(seconds[name], 50)),
        "cpu_seconds": float(np.median([found.cpu_seconds for found in runs[name]])),
        "server_cpu_seconds": float(np.median([found.server_cpu_seconds for found in runs[name]])),
        "ratio": asdict(percentile(seconds[name] / seconds[GENZOO], 50)),
        "bytes_above_interpreter": max(peaks, default=None),
    }


def hash_speeds() -> dict[str, float]:
    """Bytes a second that one core hashes, of chunks as they lie after they were received; the best of several."""
    chunk, found = os.urandom(CHUNK_BYTES), {}
    for name, hasher in HASHERS.items():
        times = []
        for _ in range(HASHED_CHUNKS):
            began = time.thread_time()
            hasher(chunk)
            times.append(time.thread_time() - began)
        found[name] = CHUNK_BYTES / min(times)
    return found


def tools() -> dict[str, str]:
    found = {}
    for name in ("hf", "aria2c"):
        if path := shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"):
            told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
            found[name] = told.splitlines()[0].strip() if told else "unknown"
    return found


def markdown(record: Record) -> str:
    """The record as a table: a ratio above 1 means that genzoo is quicker."""
    machine, protocol = record["identity"]["machine"], record["identity"]["protocol"]
    peak = max(line["bytes_above_interpreter"] or 0 for line in record["lines"])
    speeds = ", ".join(f"{name} {speed / 1e9:.1f} GB/s" for name, speed in record["hash_bytes_per_s"].items())
    head = ["files", "to", "program", "seconds", "processor seconds", "of the server", "its time / genzoo's"]
    rows = [
        f"{machine['cpu']}, {machine['cores']} cores, loopback, median of {protocol['rounds']} interleaved rounds. "
        f"genzoo verifies and syncs to disk, aria2c verifies and does not sync, hf download does neither. "
        f"genzoo's memory: at most {peak / 1e6:.0f} MB above the interpreter. One core hashes: {speeds}.",
        "",
        "| " + " | ".join(head) + " |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    for line in record["lines"]:
        seconds, ratio = line["seconds"], line["ratio"]
        shown = "" if line["program"] == GENZOO else str(Estimate(**ratio))
        cells = [
            line["workload"],
            line["place"],
            line["program"],
            str(Estimate(**seconds)),
            f"{line['cpu_seconds']:.2f}",
            f"{line['server_cpu_seconds']:.2f}",
            shown,
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _words(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:g} {unit}"
    return f"{size} bytes"
