"""`genzoo deploy plan`: what it says is what a repository has and what the chart takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from export import admission
from export.bundle import Bundle
from export.cuda import Gpu
from export.engine import Library, Target, plan_path, recorded
from export.engine_key import inputs
from export.floors import CONTAINER_FLOOR
from serving import deployment, model_repository
from serving.cli import app
from serving.deployment import DeploymentError
from tests.serving.conftest import ONE_SHOT, make_bundle
from tests.serving.test_deploy import DEPLOY
from zoo import files
from zoo.contract.errors import RequestError
from zoo.exchange import derived
from zoo.registry import UnknownNameError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENZOO_HOME", str(tmp_path / "home"))


def planned(*words: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["deploy", "plan", *map(str, words), "--json"])
    if result.exception:
        raise result.exception
    return dict(json.loads(result.stdout))


def built(bundle: Bundle, target: Target) -> Path:
    """A plan as full TensorRT records it; its bytes are nobody's."""
    path = plan_path(bundle, bundle.entry, target, Library.FULL)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a plan" * 50_000)
    made_from = {**inputs(bundle, bundle.entry, target, Library.FULL), "version": "10.9.0.34"}
    record = {"name": bundle.name, "file": path.name, "sha256": files.sha256(path), "inputs": made_from}
    files.write_json(derived.built(files.sha256(path)), record)
    return path


def test_its_files_are_those_of_the_repository(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    told = planned(*(bundle.path for bundle in bundles.values()))
    repository = model_repository.write(bundles.values(), tmp_path / "models")
    there = {
        str(path.relative_to(repository.path)): path.stat().st_size
        for path in repository.path.rglob("*")
        if path.is_file()
    }
    assert {path: size for model in told["models"] for path, size in model["files"].items()} == there
    assert told["shared_memory"] == repository.shared_memory
    assert told["container"].endswith(f"tritonserver:{CONTAINER_FLOOR}-py3")
    assert {model["gate"] for model in told["models"]} == {"was admitted by the gate"}
    assert not list((tmp_path / "home" / "serving").iterdir()), "nothing is left of the look"


def test_memory_is_that_of_the_parts(bundles: dict[str, Bundle]) -> None:
    alone, both = planned(bundles["toy-gan"].path), planned(*(bundle.path for bundle in bundles.values()))
    assert both["host"] > alone["host"] > alone["shared_memory"]
    gpu = [model["gpu"]["any GPU"] for model in both["models"]]
    assert both["gpu"]["any GPU"] == deployment.CONTEXT + sum(each["weights"] + each["activations"] for each in gpu)
    assert [each["source"] for each in gpu] == ["estimated", "estimated"]
    on_cpu = planned(bundles["toy-gan"].path, "--cpu")
    assert (on_cpu["gpu"], on_cpu["gpus"], on_cpu["values"]["gpus"]) == ({}, 0, 0)


def test_what_an_engine_holds_is_what_the_gate_wrote_down(toy_bundles: Mapping[str, Path]) -> None:
    bundle = Bundle.open(next(iter(toy_bundles.values())))
    plan = built(bundle, Target.SM89)
    words = (bundle.path, "--engine", "sm89", "--engine", "sm120", "--gpus", "0,1", "--instances", 2)
    before = planned(*words)
    [model] = before["models"]
    assert model["runs_on"] == "engines for sm89 by tensorrt 10.9.0.34"
    assert model["missing"] == ["sm120"]
    assert model["gpu"]["sm89"]["weights"] == 2 * plan.stat().st_size
    assert model["gpu"]["sm89"]["source"].startswith("estimated")
    assert before["ungated"] == [*([] if bundle.admitted else [bundle.name]), f"{bundle.name} for sm89"]
    found = recorded(plan)
    assert found
    admission.record(found, Gpu("a GPU", "sm89", "580"), True, "admitted", {"activation_bytes": 7_000_000})
    after = planned(*words)
    [model] = after["models"]
    assert model["gpu"]["sm89"]["activations"] == 14_000_000
    assert model["gpu"]["sm89"]["source"] == "by tensorrt, before the gate on sm89"
    assert f"{bundle.name} for sm89" not in after["ungated"]
    assert after["gpus"] == 2


def test_the_values_are_those_of_the_chart(toy_bundles: Mapping[str, Path], tmp_path: Path) -> None:
    words = [str(path) for path in toy_bundles.values()]
    words += ["--engine", "sm89", "--engine", "sm90", "--replicas", "3", "-o", str(tmp_path / "values.yaml")]
    result = CliRunner().invoke(app, ["deploy", "plan", *words])
    assert result.exit_code == 0, result.output
    assert f"--values {tmp_path}/values.yaml" in result.stdout
    mine = yaml.safe_load((tmp_path / "values.yaml").read_text())
    values = yaml.safe_load((DEPLOY / "chart" / "values.yaml").read_text()) | mine
    jsonschema.validate(values, json.loads((DEPLOY / "chart" / "values.schema.json").read_text()))
    assert [each["nodeSelector"]["nvidia.com/gpu.compute.major"] for each in mine["generations"]] == ["8", "9"]
    assert {each["replicas"] for each in mine["generations"]} == {3}
    again = CliRunner().invoke(app, ["deploy", "plan", *words])
    assert isinstance(again.exception, DeploymentError)
    assert "values.yaml exists: give a new file" in str(again.exception)


def test_a_form_is_by_rows_where_it_can_be(toy_bundles: Mapping[str, Path]) -> None:
    """On a CPU, of what takes any number of steps; a student of two steps and a GAN are batches."""
    forms = {
        words: {model["name"]: model["form"] for model in planned(*toy_bundles.values(), *words)["models"]}
        for words in (("--cpu",), ())
    }
    takes_any = {
        bundle.name
        for bundle in map(Bundle.open, toy_bundles.values())
        if bundle.spec.sampling and not bundle.spec.sampling.steps
    }
    assert takes_any
    assert {name for name, form in forms["--cpu",].items() if form == "by rows"} == takes_any
    assert set(forms[()].values()) == {"fused"}


def test_what_the_gate_did_not_admit_is_told(tmp_path: Path) -> None:
    told = planned(make_bundle(tmp_path / "toy-gan", ONE_SHOT, admitted=None).path)
    assert told["ungated"] == ["toy-gan"]
    assert told["models"][0]["gate"] == "has not been before the gate"


@pytest.mark.parametrize(
    ("words", "kind", "sentence"),
    [
        (("no-such-generator",), UnknownNameError, "unknown checkpoint 'no-such-generator'"),
        (("gan", "--cpu", "--engine", "sm89"), DeploymentError, "leave --cpu or --engine out"),
        (("gan", "--tier", "45dB"), DeploymentError, "give --cpu too"),
        (("gan", "--gpus", "0"), RequestError, "give --engine TARGET too"),
        (("gan", "--engine", "sm89", "--tier", "45dB"), RequestError, "leave --runtime, --engine"),
    ],
)
def test_what_cannot_be_is_one_sentence(words: tuple[str, ...], kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        planned(*words)


def test_values_go_nowhere_else(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    words = ["deploy", "plan", str(bundles["toy-gan"].path), "--values", str(tmp_path / "none" / "values.yaml")]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, DeploymentError)
    assert "cannot be written (No such file or directory)" in str(result.exception)
