"""What a load generator of others is given, and what is read of what it found; it has an environment of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from benchmarks.measure import frameworks, outside
from benchmarks.measure.workload import WorkloadError

# As AIPerf 0.13.0 wrote it, but for what is not read.
FOUND = {
    "aiperf_version": "0.13.0",
    "request_latency": {"unit": "ms", "avg": 174.3, "p50": 186.6, "p90": 250.8, "p99": 296.5},
    "request_throughput": {"unit": "requests/sec", "avg": 19.96},
    "request_count": {"unit": "requests", "avg": 40.0},
}


def test_its_numbers_are_told_in_a_sentence() -> None:
    said = outside.line(FOUND)
    assert said.startswith("AIPerf 0.13.0: 40 requests answered, 0 errors, 20.0 a second; latency p50 186.6 ms")
    assert "3 errors" in outside.line(FOUND | {"error_request_count": {"avg": 3.0}})
    with pytest.raises(WorkloadError, match="nothing to tell"):
        outside.line({"aiperf_version": "0.13.0"})


def test_it_gets_prompts_that_the_door_takes_and_a_tokenizer_that_is_a_file(tmp_path: Path) -> None:
    prompts = outside.prompts_of("ddpm-pd4")
    assert "boot" in [prompt.lower() for prompt in prompts] or "Ankle boot" in prompts
    outside.write_inputs(tmp_path, prompts)
    assert [json.loads(each)["text"] for each in (tmp_path / outside.WORDS).read_text().splitlines()] == prompts
    tokenizer = Tokenizer.from_file(str(tmp_path / outside.TOKENIZER / "tokenizer.json"))
    assert tokenizer.encode(prompts[0]).ids == [1]
    words = outside.options("ddpm-pd4", "http://127.0.0.1:1", 4, 40)
    assert f"./{outside.TOKENIZER}" in words
    assert "aiperf==0.13.0" in (frameworks.HERE / "aiperf.txt").read_text().splitlines()
