"""A new family is one file and one word: a toy written here goes through everything without an edit anywhere else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import zoo.families
from genzoo import cli as command_line
from tests import datasets
from zoo import registry, shelf
from zoo.files import HOME_VARIABLE

FAMILY_FILE = '''
"""Stripes whose direction is the class and whose brightness is the noise."""
from dataclasses import dataclass

import torch
from torch import nn

from zoo.family import Checkpoint, Family, class_conditional
from zoo.contract.graph import Graph
from zoo.images import to_images



@dataclass(frozen=True)
class Config:
    latent: int = 16


class Stripes(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.patterns = nn.Embedding(10, 1024)
        self.linear = nn.Linear(config.latent, 1024)

    def forward(self, noise, class_ids):
        pixels = self.patterns(class_ids[:, 0]) + 0.3 * self.linear(noise[:, 0])
        return to_images(torch.tanh(pixels).reshape(-1, 1, 32, 32))


def graphs(module, checkpoint):
    return (Graph("generator", module, checkpoint.spec.inputs, checkpoint.spec.outputs),)


SPEC = class_conditional("stripes", "toy_stripes", (16,), (32, 32, 1), 10)
FAMILY = Family(build=Stripes, graphs=graphs, checkpoints=(Checkpoint(SPEC, Config(), dataset="stripes"),))
'''


@pytest.fixture
def stripes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_stripes.py").write_text(FAMILY_FILE)
    datasets.stripes(monkeypatch, tmp_path)
    monkeypatch.setattr(zoo.families, "__path__", [*zoo.families.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "FAMILIES", (*registry.FAMILIES, "toy_stripes"))
    monkeypatch.setenv(shelf.TREE_VARIABLE, str(tmp_path / "checkpoints"))
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    [checkpoint] = registry.family("toy_stripes").checkpoints
    shelf.save(checkpoint, registry.family("toy_stripes").build(checkpoint.config).state_dict(), {"curves": []})


def run(*words: str) -> str:
    result = CliRunner().invoke(command_line.app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.usefixtures("stripes")
def test_a_new_family_goes_through_the_whole_house(tmp_path: Path) -> None:
    assert "stripes" in [row["name"] for row in json.loads(run("list", "--json"))]
    run("export", "stripes")
    run("gate", "stripes")
    run("build", "stripes")
    images = {}
    for runtime in ("torch", "onnxruntime", "triton"):
        out = tmp_path / f"{runtime}.npz"
        run("sample", "stripes", "--seeds", "0-11", "--runtime", runtime, "-o", str(out))
        images[runtime] = np.load(out)["images"].astype(int)
    assert np.abs(images["torch"] - images["onnxruntime"]).max() <= 1
    assert np.array_equal(images["triton"], images["onnxruntime"])
    runtimes = ("--runtime", "onnxruntime", "--runtime", "triton")
    told = run("bench", "stripes", *runtimes, "--quick", "--samples", "100", "--reference", "stripes")
    assert "quality not judged: there are no judges of stripes" in told, "they are no clothes, for all their size"
    run("report")
    assert "stripes" in (tmp_path / "results" / "report.html").read_text()
