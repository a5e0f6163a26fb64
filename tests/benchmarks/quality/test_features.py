"""The shipped feature nets: verified, accurate, and the same in ONNX Runtime as in torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality import features, judges
from benchmarks.quality.features import FeatureNetError

NETS = judges.of("fashion_mnist").names


@pytest.mark.parametrize("net", NETS)
def test_references_are_what_the_net_sees(net: str, pictures: tuple[np.ndarray, np.ndarray]) -> None:
    images, class_ids = pictures
    seen, reference = features.load(net)(images[:200]), features.reference(net)
    np.testing.assert_allclose(seen.features, reference.test.features[:200], atol=2e-2)
    np.testing.assert_array_equal(reference.truth[:200], class_ids[:200])
    assert reference.test.features.shape[0] == 10_000
    assert reference.train.covariance.shape == (seen.features.shape[1],) * 2


def test_the_judge_is_right_often_enough() -> None:
    reference = features.reference("classifier")
    accuracy = float((reference.test.predicted == reference.truth).mean())
    assert accuracy >= 0.91
    assert accuracy == pytest.approx(features.config("classifier")["training"]["test_accuracy"])


@pytest.mark.parametrize("net", NETS)
def test_weights_are_those_of_the_torch_network(net: str, pictures: tuple[np.ndarray, np.ndarray]) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    from benchmarks.quality.judges.fashion_mnist.training import DESIGNS

    network = DESIGNS[net].network().eval()
    weights = load_file(judges.folder(net) / "model.safetensors")
    missing, unexpected = network.load_state_dict({k: v.float() for k, v in weights.items()}, strict=False)
    assert not unexpected
    assert all(part in ("num_batches_tracked", "weight", "bias") for part in {key.split(".")[-1] for key in missing})
    with torch.inference_mode():
        expected = network(torch.from_numpy(pictures[0][:50]))[0].numpy()
    np.testing.assert_allclose(features.load(net)(pictures[0][:50]).features, expected, atol=1e-3)


@pytest.mark.parametrize("file", ["model.onnx", "model.safetensors", "reference.safetensors"])
def test_an_altered_file_is_refused(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / judges.dataset_of("critic") / "critic"
    shutil.copytree(judges.folder("critic"), folder)
    monkeypatch.setattr(judges, "FOLDER", tmp_path)
    assert features.config("critic")["files"][file]
    data = bytearray((folder / file).read_bytes())
    data[-1] ^= 1
    (folder / file).write_bytes(data)
    with pytest.raises(FeatureNetError, match=f"{file} has sha256"):
        features.config("critic")


def test_a_missing_net_names_the_command_that_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judges, "FOLDER", tmp_path)
    with pytest.raises(FeatureNetError, match="genzoo train-features critic"):
        features.config("critic")


@pytest.mark.parametrize("net", NETS)
def test_cards_tell_the_measured_numbers(net: str) -> None:
    card = (judges.folder(net) / "README.md").read_text()
    config = json.loads((judges.folder(net) / "config.json").read_text())
    assert f"{config['parameters']:,}" in card
    assert config["files"]["model.safetensors"][:16] in card
