"""A bundle is read only if every file is where and what its manifest says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export import exporter
from export.bundle import Bundle, BundleError
from export.exporter import ExportError, cached, export, resolve
from export.variant import LoopKind, Variant
from tests.examples import examples
from zoo.family import Checkpoint
from zoo.files import sha256


@pytest.fixture
def copy(toy_bundles: Mapping[str, Path], tmp_path: Path) -> Path:
    shutil.copytree(toy_bundles["toy-student"], tmp_path / "copy")
    return tmp_path / "copy"


def edit(folder: Path, file: str) -> None:
    """Make the manifest name another file for the sampler."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["graphs"]["sampler"]["file"] = file
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("file", ["/etc/hostname", "../sampler.onnx", "a/../sampler.onnx", "deep/sampler.onnx", ".."])
def test_a_path_outside_the_folder_is_refused(copy: Path, file: str) -> None:
    edit(copy, file)
    with pytest.raises(BundleError, match="must lie in the bundle's own folder"):
        Bundle.open(copy)


def test_a_link_is_refused(copy: Path) -> None:
    (copy / "sampler.onnx").rename(copy / "elsewhere.onnx")
    (copy / "sampler.onnx").symlink_to("elsewhere.onnx")
    with pytest.raises(BundleError, match="not a plain file"):
        Bundle.open(copy)


@pytest.mark.parametrize("file", ["sampler.onnx", "model.safetensors"])
def test_altered_bytes_are_refused(copy: Path, file: str) -> None:
    data = bytearray((copy / file).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / file).write_bytes(data)
    with pytest.raises(BundleError, match=f"{file} has sha256 .* altered"):
        Bundle.open(copy)


def test_what_is_no_bundle_is_refused_in_one_sentence(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(BundleError, match="is not a bundle"):
        Bundle.open(tmp_path)
    (copy / "manifest.json").write_text('{"format": "genzoo-bundle/1"}')
    with pytest.raises(BundleError, match="lacks 'graphs'"):
        Bundle.open(copy)
    (copy / "manifest.json").write_text('{"format": "genzoo-bundle/99"}')
    with pytest.raises(BundleError, match="expected 'genzoo-bundle/2'; `genzoo export NAME`"):
        Bundle.open(copy)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("num_classes", "ten", "spec.num_classes is 'ten', expected int"),
        ("image_shape", [32, 32], "spec.image_shape has 2 items, expected 3"),
        ("latent_shape", [1 << 30], "is 1073741824, at most 65536 is built"),
        ("surprise", 1, "spec has 'surprise', which is none of"),
        ("sampling", {"samplers": ["magic"]}, "its sampling is unknown here"),
    ],
)
def test_a_spec_that_no_generator_has_is_refused_in_one_sentence(
    copy: Path, field: str, value: object, expected: str
) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["spec"][field] = value
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=f"manifest.json cannot be used, .*{re.escape(expected)}"):
        Bundle.open(copy)


def test_an_asset_is_no_code_that_a_server_runs(copy: Path) -> None:
    """It would lie beside the public model's own, as model.py."""
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "model.py").write_text("print('owned')")
    manifest["assets"] = {"model.py": sha256(copy / "model.py")}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"its asset 'model.py' is none: expected a name like tokenizer.json"):
        Bundle.open(copy)


def test_a_graph_has_a_name_that_a_folder_can_have(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["graphs"]["encode_/../../outside"] = manifest["graphs"]["sampler"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"its graph 'encode_/../../outside' is none"):
        Bundle.open(copy)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 50_000, "[]", '"x"', "1" * 10_000, "\ud800", ""])
def test_a_manifest_that_is_no_object_is_refused_in_one_sentence(copy: Path, text: str) -> None:
    (copy / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BundleError, match="is not a bundle"):
        Bundle.open(copy)
    (copy / "gate.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert Bundle(copy, {}).verdict is None


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 1 << 40), st.text(max_size=4), st.just(0.5), st.lists(st.integers()),
    st.sampled_from([{}, [[]], "sampler.onnx", "model.safetensors", "\0", "..", {"file": "sampler.onnx"}]),
)  # fmt: skip


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_manifest_is_refused_in_words_or_can_be_read(copy: Path, original: str, data: st.DataObject) -> None:
    place = manifest = json.loads(original)
    for _ in range(data.draw(st.integers(1, 5))):
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
        if not isinstance(place[key], dict | list) or not place[key]:
            break
        parent, place = place, place[key]
    else:
        place, key = parent, key
    place[key] = data.draw(ODD)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    try:
        bundle = Bundle.open(copy)
    except BundleError:
        return
    assert bundle.max_batch >= 1
    assert all(isinstance(each.dtype, str) for graph in bundle.graphs for each in bundle.inputs(graph))
    assert bundle.served_spec.name == bundle.name
    assert isinstance(bundle.encoders, tuple)


@pytest.fixture
def original(copy: Path) -> str:
    return (copy / "manifest.json").read_text()


def test_a_verdict_counts_only_for_the_files_that_it_judged(copy: Path) -> None:
    bundle = Bundle.open(copy)
    (copy / "gate.json").write_text(json.dumps({"bundle": bundle.digest, "admitted": True}))
    assert bundle.admitted
    (copy / "gate.json").write_text(json.dumps({"bundle": "0" * 64, "admitted": True}))
    assert not bundle.admitted


def test_reading_needs_neither_torch_nor_onnx(copy: Path) -> None:
    code = f"""
import sys
sys.modules.update(dict.fromkeys(("torch", "onnx", "onnx_ir", "tensorrt_rtx")))
from export.bundle import Bundle
from export.runners import bundle_runner
from zoo.contract.generator import Generator
from zoo.contract.request import SampleRequest
bundle = Bundle.open({str(copy)!r})
print(Generator(bundle.spec, bundle_runner(bundle)).sample(SampleRequest((1, 2))).shape)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(2, 8, 8, 1)"


def test_an_export_is_made_again_only_when_an_input_changed(
    toy_student: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = export(toy_student)
    written = (bundle.path / "manifest.json").stat().st_mtime_ns
    assert (export(toy_student).path / "manifest.json").stat().st_mtime_ns == written
    inputs = exporter.inputs(toy_student, Variant())
    changed = {**inputs, "versions": {**inputs["versions"], "torch": "9.9"}, "checkpoint": "f" * 64}
    monkeypatch.setattr(exporter, "inputs", lambda checkpoint, variant: changed)
    found, changes = cached(toy_student, Variant())
    assert found is None
    assert changes == [
        f"checkpoint was {inputs['checkpoint'][:12]}, is {'f' * 12}",
        f"versions.torch was {inputs['versions']['torch']}, is 9.9",
    ]


def test_variants_without_meaning_are_refused(toy_one_shot: Checkpoint, toy_diffusion: Checkpoint) -> None:
    with pytest.raises(ExportError, match="neither a loop nor steps"):
        resolve(toy_one_shot, Variant(LoopKind.HOST))
    with pytest.raises(ExportError, match="give --steps only with --loop unrolled"):
        resolve(toy_diffusion, Variant(steps=3))
