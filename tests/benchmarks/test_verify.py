"""What `genzoo bench verify` finds in records and in what was published of them, and the commands beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import bench_commands, receipts, records, verify
from benchmarks.quality import distances
from benchmarks.records import Record
from benchmarks.report import cards, overview, pages
from benchmarks.report.family_tree import FamilyTree
from genzoo import cli as command_line
from tests.benchmarks.simulated import cell, quality
from tests.zoo.keys import pair
from zoo import registry
from zoo.store.signing import SigningKey, Trust

ROOT = Path(__file__).parents[2]
NOBODY = Trust()
OTHER_DIGITS = str.maketrans("123456789", "234567891")


def genzoo(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(
        command_line.app, [str(word) for word in words], env={"NO_COLOR": "1", "COLUMNS": "200"}
    )
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def resealed(record: Record, **changed: Any) -> Record:
    content = {key: value for key, value in (record | changed).items() if key != "digest"}
    return {**content, "digest": records.identify(content)}


def written(path: Path, *found: Record) -> Path:
    for record in found:
        records.append(path, record)
    return path


@pytest.fixture
def measured() -> Record:
    return cell("gan", [1.0, 1.1, 1.2], reference=[2.0, 2.0, 2.1])


@pytest.fixture
def judged() -> Record:
    random = np.random.default_rng(0)
    features, real = random.normal(0.0, 1.0, (200, 8)), random.normal(0.1, 1.0, (300, 8))
    near, limit = distances.frechet(features, distances.moments(real))
    return quality(
        "gan",
        {"memorised_200_pixels": random.exponential(1.0, 200)},
        shares={"accuracy_200_judge": random.random(200) < 0.9},
        skewed={
            "fd_200_critic": near,
            "fd_inf_200_critic": limit,
            "kd_200_critic": distances.kernel_distance(features, real).times(1000.0),
            "classes_200_judge": distances.effective_number(random.integers(0, 10, 200), 10),
        },
    )


def test_a_cell_follows_from_its_runs(measured: Record) -> None:
    """By hand: medians' geometric mean, throughput and the ratio to the reference of the same round."""
    medians = np.array([np.median(run["latencies_ms"]) for run in measured["runs"]])
    assert measured["latency"]["p50"]["value"] == pytest.approx(np.exp(np.log(medians).mean()))
    ratios = medians / [2.0, 2.0, 2.1]
    assert measured["latency"]["relative"]["value"] == pytest.approx(np.exp(np.log(ratios).mean()))
    assert measured["latency"]["p99"] is None, "99 queries say nothing of the 99th percentile"
    assert [each for each in verify.recomputed(measured) if each] == []


@pytest.mark.parametrize("column", ["p50", "p90", "images_per_second", "relative"])
@pytest.mark.parametrize("part", ["value", "low", "high"])
def test_a_number_that_does_not_follow_is_named(measured: Record, column: str, part: str) -> None:
    altered = dict(measured["latency"][column])
    altered[part] *= 0.99
    [fault] = filter(None, verify.recomputed(resealed(measured, latency={**measured["latency"], column: altered})))
    assert fault.startswith(f"latency {column} is stated as")


def test_a_percentile_of_too_few_queries_and_a_hidden_flag_are_named(measured: Record) -> None:
    [fault] = filter(
        None, verify.recomputed(resealed(measured, latency={**measured["latency"], "p99": measured["latency"]["p90"]}))
    )
    assert fault.startswith("latency p99")
    runs = [{**run, "valid": False, "invalid_because": ["Min queries not met"]} for run in measured["runs"]]
    [fault] = filter(None, verify.recomputed(resealed(measured, runs=runs)))
    assert "'invalid'" in fault


def test_a_latency_without_its_runs_cannot_be_followed(measured: Record) -> None:
    [fault] = verify.recomputed(resealed(measured, runs=[]))
    assert "cannot be calculated" in fault


def test_a_metric_s_interval_follows_from_its_values_without_each_group(judged: Record) -> None:
    assert [each for each in verify.recomputed(judged) if each] == []
    assert len(judged["metrics"]) == 6
    for name in judged["metrics"]:
        narrow = judged["metrics"] | {name: {**judged["metrics"][name], "low": judged["metrics"][name]["value"]}}
        [fault] = filter(None, verify.recomputed(resealed(judged, metrics=narrow)))
        assert fault.startswith(f"{name} is stated as")
        short = judged["left_out"] | {name: judged["left_out"][name][:49]}
        [fault] = filter(None, verify.recomputed(resealed(judged, left_out=short)))
        assert fault == f"{name} has 49 values without a group of images, expected 50"
    for name, root in judged["roots"].items():
        other = judged["roots"] | {name: {**root, "value": 1.1 * root["value"]}}
        faults = [*filter(None, verify.recomputed(resealed(judged, roots=other)))]
        assert faults[0].startswith(f"value of {name} is stated as")


def test_all_faults_of_a_file_are_told_not_only_the_first(tmp_path: Path, measured: Record, judged: Record) -> None:
    path = written(tmp_path / "records.jsonl", measured, judged)
    first, second = path.read_text().splitlines()
    wrong = records.canonical(resealed(measured, latency={**measured["latency"], "p50": {"value": 1.0}})).decode()
    path.write_text("\n".join([first.replace('"nfe":1', '"nfe":2'), second, "[]", wrong]) + "\n")
    found = verify.verify(path, NOBODY)
    assert [fault.split(" ")[0] for fault in found.faults] == [f"{path}:1", f"{path}:3", f"{path}:4"]
    assert found.checked["records"] == 4
    assert any("no receipts" in note for note in found.notes)


@pytest.fixture
def published(tmp_path: Path, small_tree: FamilyTree) -> Path:
    """A checkout's pages and two cards, as some records make them."""
    root = tmp_path / "checkout"
    shutil.copytree(ROOT / "docs", root / "docs", ignore=shutil.ignore_patterns("records"))
    shutil.copyfile(ROOT / "README.md", root / "README.md")
    written(root / "docs/records/records.jsonl", *small_tree.records)
    overview.write(root, small_tree)
    pages.write(root, small_tree)
    told = {}
    for name in ("gan", "ddpm"):
        told[name] = {"quality": cards.quality(registry.checkpoint(name), small_tree.records)}
        folder = root / "zoo/checkpoints" / name
        folder.mkdir(parents=True)
        for file, data in cards.contents(registry.checkpoint(name), small_tree.records).items():
            (folder / file).write_bytes(data)
    (root / "zoo/checkpoints/index.json").write_text(json.dumps({"checkpoints": told}))
    return root


def test_what_was_published_is_made_again_byte_for_byte(published: Path, small_tree: FamilyTree) -> None:
    found = verify.tables(published, small_tree.records)
    assert found.faults == []
    assert found.files >= 10
    assert not any("family tree" in note for note in found.notes)


def replaced(path: Path, pattern: str, change: Callable[[str], str]) -> tuple[str, str]:
    """Change the last cell that has digits, of the first table row of several with `pattern`: before and after."""
    lines = path.read_text().splitlines()
    number = next(
        n for n, line in enumerate(lines) if line.startswith("| ") and pattern in line and line.count("|") > 3
    )
    cells = lines[number].split(" | ")
    column = max(n for n, cell in enumerate(cells) if any(c.isdigit() for c in cell))
    before, cells[column] = cells[column], change(cells[column])
    lines[number] = " | ".join(cells)
    path.write_text("\n".join(lines) + "\n")
    return before.strip(" |"), cells[column].strip(" |")


@pytest.mark.parametrize(
    ("file", "row"),
    [("README.md", "`gan`"), ("docs/families/gans.md", "`gan`"), ("zoo/checkpoints/gan/README.md", "gan (NFE 1)")],
)
def test_a_published_number_that_no_record_gives_is_named_with_its_file_and_cell(
    published: Path, small_tree: FamilyTree, file: str, row: str
) -> None:
    before, after = replaced(published / file, row, lambda cell: cell.translate(OTHER_DIGITS))
    faults = verify.tables(published, small_tree.records).faults
    assert len(faults) == 1, faults
    assert faults[0].startswith(f"{file}:")
    assert f": {after} is published, the records give {before}" in faults[0]


def test_a_number_of_the_index_and_a_picture_that_no_record_gives_are_named(
    published: Path, small_tree: FamilyTree
) -> None:
    index, grid = (published / "zoo/checkpoints" / name for name in ("index.json", "gan/grid.png"))
    told = json.loads(index.read_text())
    told["checkpoints"]["gan"]["quality"]["fd"]["critic"] *= 0.9
    index.write_text(json.dumps(told))
    grid.write_bytes(grid.read_bytes() + b".")
    picture, number = verify.tables(published, small_tree.records).faults
    assert picture.startswith("zoo/checkpoints/gan/grid.png: it is another picture")
    assert number.startswith("zoo/checkpoints/index.json: quality of gan: ")


def test_a_record_more_or_less_changes_what_is_published(published: Path, small_tree: FamilyTree) -> None:
    fewer = [each for each in small_tree.records if each["identity"].get("cell", {}).get("generator") != "gan"]
    assert len(fewer) < len(small_tree.records)
    assert any("`gan`" in fault and fault.startswith("README.md:") for fault in verify.tables(published, fewer).faults)


def test_the_published_tables_are_those_of_the_published_records() -> None:
    """Of the tree itself: README, docs and cards against docs/records, as far as these go."""
    released = ROOT / bench_commands.RELEASED
    found = verify.verify(released, NOBODY, root=verify.published_by(released))
    assert found.faults == []


def test_the_command_says_what_is_wrong_and_fails(tmp_path: Path, measured: Record, judged: Record) -> None:
    path, alice = written(tmp_path / "my records.jsonl", measured, judged), pair(tmp_path, "alice")
    code, told = genzoo("bench", "verify", path)
    assert code == 0
    assert "there are no receipts" in told
    assert "no fault" in told
    code, told = genzoo("bench", "sign", path, "--sign-key", alice.private)
    assert code == 0
    assert "2 records were sealed" in told
    [head] = [word for line in told.splitlines() if line.startswith("next: ") for word in line.split()][-1:]
    code, told = genzoo("bench", "verify", path, "--key", alice.public, "--head", head)
    assert code == 0
    assert "signed by alice (key " in told
    code, told = genzoo("bench", "verify", path, "--json")
    said = json.loads(told)
    assert (code, said["sound"], said["signers"], said["head"]) == (0, True, [], head)
    assert "signatures were not checked: name whom you trust with --key" in said["notes"]
    records.append(path, cell("vae", [1.0, 1.1]))
    code, told = genzoo("bench", "verify", path, "--key", alice.public)
    assert code == 1
    assert f"{path}:3 is not sealed" in told
    assert f"next: genzoo bench sign '{path}' --sign-key KEY" in told


def test_a_cut_end_is_noticed_by_the_head_that_was_published(tmp_path: Path, measured: Record, judged: Record) -> None:
    path, alice = written(tmp_path / "records.jsonl", measured), pair(tmp_path, "alice")
    receipts.sign(path, SigningKey(alice.private))
    whole = [each.read_bytes() for each in (path, receipts.path_of(path))]
    records.append(path, judged)
    head = receipts.sign(path, SigningKey(alice.private)).head
    path.write_bytes(whole[0])
    receipts.path_of(path).write_bytes(whole[1])
    trust = Trust((alice.public,), named=True)
    assert verify.verify(path, trust).sound, "two whole files of an earlier day"
    [fault] = verify.verify(path, trust, head=head).faults
    assert "its end is gone" in fault


def test_a_release_is_checked_against_and_a_loss_fails(tmp_path: Path) -> None:
    fast = written(tmp_path / "fast.jsonl", cell("gan", [1.0, 1.01, 1.02]))
    slow = written(tmp_path / "slow.jsonl", cell("gan", [2.0, 2.01, 2.02]))
    code, told = genzoo("bench", "check", slow, "--against", fast)
    assert code == 1
    assert "gan on onnxruntime, single-stream: time 1.01 -> 2.01, more than 3% worse" in told
    assert genzoo("bench", "check", fast, "--against", slow)[0] == 0
    code, told = genzoo("bench", "compare", fast, slow)
    assert code == 0
    assert "latency: 0 of 2 numbers are indistinguishable" in told
    assert "worse" in told
    code, told = genzoo("bench", "compare", fast, fast)
    assert "2 of 2 numbers are indistinguishable; --all shows them" in told
    assert "gan on onnxruntime" not in told
    assert "gan on onnxruntime" in genzoo("bench", "compare", fast, fast, "--all")[1]
    said = json.loads(genzoo("bench", "compare", fast, slow, "--json")[1])
    assert {each["word"] for each in said["latency"]} == {"worse"}
    assert set(said["agreement"].values()) == {0.0}


@pytest.fixture
def commands() -> list[str]:
    return [str(command.name or command.callback.__name__) for command in bench_commands.group.registered_commands]


def test_no_checkpoint_is_called_like_a_command_of_bench(commands: list[str]) -> None:
    assert set(commands) == {"run", "verify", "sign", "compare", "check"}
    assert not set(commands) & set(registry.names())


def test_a_name_or_an_option_means_to_measure(tmp_path: Path) -> None:
    for words in (["no-such"], ["--tree", "no-such"], ["run", "no-such"]):
        with pytest.raises(registry.UnknownNameError, match="no-such"):
            genzoo("bench", *words, "--records", tmp_path / "records.jsonl")


def test_help_of_bench_has_what_run_takes_and_the_other_commands(commands: list[str]) -> None:
    code, told = genzoo("bench", "--help")
    assert code == 0
    assert "--samples" in told
    assert all(f" {command} " in told for command in commands)
    for command in commands:
        code, told = genzoo("bench", command, "--help")
        assert code == 0
        assert "--json" in told, command
        assert f"genzoo bench {command}" in told.replace("root bench", "genzoo bench")
