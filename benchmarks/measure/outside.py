"""The door under a load generator that others wrote: NVIDIA's AIPerf, its endpoint of image generation.

`python -m benchmarks.measure.outside NAME [--readme docs/serving.md]` opens a door on this host's loopback, runs
`aiperf profile` on it in an environment of its own (`benchmarks/measure/frameworks/aiperf.txt`), and says what AIPerf
found and how it was called. AIPerf counts the words of prompts by a tokenizer, which it would fetch: it gets a file.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.measure import started
from benchmarks.measure.frameworks import environment
from benchmarks.measure.workload import WorkloadError
from benchmarks.templates.marks import replace_marked
from export.gate import require
from serving.bundles import prepare
from zoo import registry
from zoo.datasets import dataset

WORDS, TOKENIZER, FOUND = "words.jsonl", "tokenizer", "found"
RESULT = f"{FOUND}/profile_export_aiperf.json"


def options(name: str, url: str, clients: int, requests: int) -> list[str]:
    """Of `aiperf profile`, in a folder that has WORDS and TOKENIZER."""
    said = {
        "model": name,
        "url": url,
        "endpoint-type": "image-generation",
        "input-file": WORDS,
        "custom-dataset-type": "single-turn",
        "tokenizer": f"./{TOKENIZER}",
        "concurrency": str(clients),
        "request-count": str(requests),
        "ui": "none",
        "artifact-dir": FOUND,
    }
    return ["profile", *(word for key, value in said.items() for word in (f"--{key}", value))]


def write_inputs(folder: Path, prompts: Sequence[str]) -> None:
    """Prompts in turn, and a tokenizer for which a word is a token."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    (folder / WORDS).write_text("".join(json.dumps({"text": prompt}) + "\n" for prompt in prompts))
    (folder / TOKENIZER).mkdir()
    words = {word: index for index, word in enumerate(dict.fromkeys(["[UNK]", *prompts]))}
    Tokenizer(WordLevel(words, unk_token="[UNK]")).save(str(folder / TOKENIZER / "tokenizer.json"))
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    (folder / TOKENIZER / "tokenizer_config.json").write_text(json.dumps(said))


def prompts_of(name: str) -> list[str]:
    """The labels of what a generator was trained on, which the door takes for a prompt."""
    labels = next(iter(dataset(registry.checkpoint(name).dataset).labels.values()), ())
    return [label for label in labels if label.isascii()] or [""]


def line(found: Mapping[str, Any]) -> str:
    """AIPerf's main numbers in a sentence. Raises WorkloadError where it has none."""
    try:
        latency, rate = found["request_latency"], found["request_throughput"]["avg"]
        count = int(found["request_count"]["avg"])
        errors = int(found.get("error_request_count", {"avg": 0})["avg"])
        return (
            f"AIPerf {found['aiperf_version']}: {count:,} requests answered, {errors} errors, {rate:.1f} a second; "
            f"latency p50 {latency['p50']:.1f} ms, p90 {latency['p90']:.1f} ms, p99 {latency['p99']:.1f} ms."
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WorkloadError(f"AIPerf found nothing to tell ({error} is missing): did any request succeed?") from error


def main(
    name: Annotated[str, typer.Argument(help="A generator that is told a label.")] = "ddpm-pd4",
    clients: Annotated[int, typer.Option(min=1)] = 4,
    requests: Annotated[int, typer.Option(min=1)] = 200,
    readme: Annotated[Path | None, typer.Option(help="Write what was found between the marks of this file.")] = None,
) -> None:
    """Measure the door by AIPerf."""
    bundle = require(prepare(name))
    python = environment("aiperf", partial(typer.echo, err=True))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_inputs(folder, prompts_of(name))
        stack.enter_context(started.ended_by_sigterm())
        _, door = stack.enter_context(started.triton_and_door(bundle))
        words = options(name, f"http://{door.address}", clients, requests)
        done = subprocess.run(
            [str(python.parent / "aiperf"), *words], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode or not (folder / RESULT).is_file():
            said = [each for each in (done.stdout + done.stderr).splitlines() if "ERROR" in each]
            raise WorkloadError(f"aiperf ended with {done.returncode}: {said[-1] if said else 'it said nothing'}")
        found = json.loads((folder / RESULT).read_text())
    text = f"```sh\naiperf {shlex.join(words)}\n```\n\n{line(found)}"
    if readme:
        replace_marked(readme, "aiperf", text)
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
