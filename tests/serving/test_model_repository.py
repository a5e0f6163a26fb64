"""What may be published, and that it is whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from export.bundle import Bundle
from export.runtimes import Executor
from serving import model_repository
from serving.model_repository import RepositoryError
from tests.serving.conftest import ITERATIVE, ONE_SHOT, make_bundle
from zoo import files


def test_the_layout_is_that_of_production(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    repository = model_repository.write(bundles.values(), tmp_path / "models")
    found = {str(path.relative_to(repository.path)) for path in repository.path.rglob("*") if path.is_file()}
    assert found == {
        "toy-gan/config.pbtxt",
        "toy-gan/configs/cpu.pbtxt",
        "toy-gan/1/model.py",
        "toy-gan_generator/config.pbtxt",
        "toy-gan_generator/1/model.onnx",
        "toy-gan_generator/1/model.safetensors",
        "toy-ddpm/config.pbtxt",
        "toy-ddpm/configs/cpu.pbtxt",
        "toy-ddpm/1/model.py",
        "toy-ddpm_sampler/config.pbtxt",
        "toy-ddpm_sampler/1/model.onnx",
        "toy-ddpm_sampler/1/model.safetensors",
    }
    weights = repository.path / "toy-ddpm_sampler/1/model.safetensors"
    assert weights.stat().st_nlink == 1, "ONNX Runtime refuses external data with several hard links"
    assert files.sha256(weights) == bundles["toy-ddpm"].manifest["weights"]["sha256"]
    assert not [path for path in repository.path.rglob("*") if path.is_symlink()]


@pytest.mark.parametrize(("admitted", "state"), [(None, "has not been before the gate"), (False, "was refused")])
def test_a_bundle_that_was_not_admitted_is_refused(tmp_path: Path, admitted: bool | None, state: str) -> None:
    bundle = make_bundle(tmp_path / "bundle", ONE_SHOT, admitted=admitted)
    with pytest.raises(RepositoryError, match=f"toy-gan {state}"):
        model_repository.write([bundle], tmp_path / "models")
    assert not (tmp_path / "models").exists()
    assert model_repository.write([bundle], tmp_path / "models", allow_unadmitted=True).models[0].spec == ONE_SHOT


def test_an_altered_bundle_loses_its_verdict(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", ONE_SHOT)
    manifest = bundle.path / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    with pytest.raises(RepositoryError, match="toy-gan has not been before the gate"):
        model_repository.write([Bundle.open(bundle.path)], tmp_path / "models")


@pytest.mark.parametrize("name", ["../outside", "two words", "x;id", "Gan\xe9", ""])
def test_a_name_that_is_no_plain_word_is_refused(bundles: dict[str, Bundle], tmp_path: Path, name: str) -> None:
    """It becomes a folder's name, and a word in the line by which Triton starts a model's process."""
    bundle = bundles["toy-gan"]
    renamed = Bundle(bundle.path, bundle.manifest | {"spec": bundle.manifest["spec"] | {"name": name}})
    with pytest.raises(RepositoryError, match="a name has letters, digits, _ and - only"):
        model_repository.write([renamed], tmp_path / "models")
    assert list(tmp_path.iterdir()) == []


def test_nothing_half_written_is_left(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    gone = shutil.copytree(bundles["toy-ddpm"].path, tmp_path / "gone")
    bundle = Bundle.open(gone)
    shutil.rmtree(gone)
    with pytest.raises(FileNotFoundError):
        model_repository.write([bundles["toy-gan"], bundle], tmp_path / "models", allow_unadmitted=True)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_and_a_name_used_twice_are_refused(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="exists"):
        model_repository.write(bundles.values(), tmp_path)
    with pytest.raises(RepositoryError, match="two bundles have one name"):
        model_repository.write([bundles["toy-gan"]] * 2, tmp_path / "models")


def test_an_unrolled_graph_is_asked_for_its_own_steps_only(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", ITERATIVE)
    unrolled = Bundle(bundle.path, bundle.manifest | {"steps": 3})
    (model,) = model_repository.write([unrolled], tmp_path / "models", allow_unadmitted=True).models
    assert model.spec.sampling is not None
    assert (model.spec.sampling.num_steps, model.spec.sampling.steps) == (3, (3,))


def test_a_host_loop_cannot_be_served(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", ITERATIVE)
    with pytest.raises(RepositoryError, match="export it with --loop onnx"):
        model_repository.write(
            [Bundle(bundle.path, bundle.manifest | {"entry": "step"})], tmp_path / "m", allow_unadmitted=True
        )


def test_what_was_tuned_lies_in_the_public_model_for_a_cpu(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    tuned = {"toy-ddpm": {"exact": {1: Executor(threads=1), 16: Executor(threads=2, parts=2)}}}
    repository = model_repository.write(bundles.values(), tmp_path / "models", tuned=tuned)
    public = repository.path / "toy-ddpm"
    assert Bundle.open(public / "1/bundles/fp32").digest == bundles["toy-ddpm"].digest
    on_cpu = (public / "configs/cpu.pbtxt").read_text()
    assert r"\"exact\": {\"1\": {\"runtime\": \"onnxruntime\", \"threads\": 1}" in on_cpu
    assert "tuned" not in (public / "config.pbtxt").read_text(), "native backends run what they run"
    assert not (repository.path / "toy-gan/1/bundles").exists()
    assert repository.packages == ()


def test_the_memory_that_its_processes_share_is_known(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    """64 images of 8x8 pixels: of one call, and of up to 1,000 steps of a sampler that draws noise in each."""
    alone = model_repository.write([bundles["toy-gan"]], tmp_path / "one")
    public = 64 * (8 + 8 + 8 * 8)  # seed, class, image
    graph = 64 * (8 * 8 * 4 + 8 + 8 * 8)  # noise, class, images
    assert alone.shared_memory - model_repository.FIRST_SHARED_MEMORY == 2 * public + graph
    both = model_repository.write(bundles.values(), tmp_path / "both")
    assert both.shared_memory - alone.shared_memory > 64 * 1000 * 8 * 8 * 4
