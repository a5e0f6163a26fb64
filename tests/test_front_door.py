"""`import genzoo`: the README's lines do what they say, and make the bytes that the command makes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import genzoo
from genzoo import cli
from zoo import index

pytestmark = pytest.mark.usefixtures("zoo_home")
ROOT = Path(__file__).parents[1]
RELEASE = ROOT / "tests/fixtures/first_formats/remote"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a small generator is as a bundle only."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENZOO_HOME", str(folder))
        patch.delenv("GENZOO_CHECKPOINTS", raising=False)
        assert genzoo.pull("tiny", str(RELEASE), bundle=True).is_dir()
    return folder


@pytest.fixture
def pulled(home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of that generator on its host."""
    monkeypatch.setenv("GENZOO_HOME", str(home))
    monkeypatch.delenv("GENZOO_CHECKPOINTS", raising=False)
    return "tiny"


def test_the_readme_s_lines_make_the_command_s_bytes(tmp_path: Path) -> None:
    [block] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    script = f"""
import sys
import genzoo
assert not {{"torch", "onnxruntime", "numpy", "typer"}} & set(sys.modules), "import genzoo is quick"
{block}
import numpy as np
np.save({str(tmp_path / "library.npy")!r}, images)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env=environment)
    words = ["sample", "ddpm-pd4", "--seeds", "0-15", "--class-ids", "9", "-o", str(tmp_path / "command.npz")]
    assert CliRunner().invoke(cli.app, words).exit_code == 0
    images = np.load(tmp_path / "library.npy")
    assert images.shape == (16, 32, 32, 1)
    assert images.dtype == np.uint8
    assert images.tobytes() == np.load(tmp_path / "command.npz")["images"].tobytes()


def test_names_are_the_zoo_s() -> None:
    assert set(index.records()) <= set(genzoo.names())


def test_a_seed_is_an_image_however_it_is_asked_for(pulled: str) -> None:
    generator = genzoo.load(pulled)
    together = generator.sample(range(40), class_id=[3, 1])
    assert together[[7]].tobytes() == generator.sample([7], class_id=1).tobytes()
    assert genzoo.sample(pulled, [7], 1, num_steps=4).tobytes() == together[[7]].tobytes()
    assert generator.sample([7], 1, sampler="heun", num_steps=3).tobytes() != together[[7]].tobytes()


def test_numpy_s_numbers_are_numbers(pulled: str) -> None:
    generator = genzoo.load(pulled)
    expected = generator.sample(range(3), class_id=4)
    assert generator.sample(np.arange(3), class_id=np.int64(4)).tobytes() == expected.tobytes()
    assert generator.sample(np.arange(3), class_id=np.array([4])).tobytes() == expected.tobytes()


def test_a_server_gives_the_same_images() -> None:
    here = genzoo.load("ddpm-pd4")
    expected = here.sample(range(3), class_id="boot")
    with genzoo.serve("ddpm-pd4", ungated=True) as server:
        served = genzoo.load("ddpm-pd4", url=server.grpc_url)
        assert served.spec == here.spec
        assert served.sample(range(3), class_id="boot").tobytes() == expected.tobytes()


def test_a_bundle_of_the_first_format_is_served(pulled: str) -> None:
    expected = genzoo.load(pulled).sample(range(3), class_id=[2, 0, 1], num_steps=4)
    with genzoo.serve(pulled, ungated=True) as server:
        served = genzoo.load(pulled, url=server.grpc_url).sample(range(3), class_id=[2, 0, 1], num_steps=4)
    assert served.tobytes() == expected.tobytes()


def test_an_extra_that_is_missing_is_named(pulled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(genzoo.GenzooError, match=r"torch is not installed: .*genzoo\[export\]"):
        genzoo.load("vae", runtime="torch")
    monkeypatch.setitem(sys.modules, "zoo.exchange.pull", None)
    with pytest.raises(ModuleNotFoundError):
        genzoo.pull("tiny", str(RELEASE))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: genzoo.load("ddpm-pd"), "unknown checkpoint 'ddpm-pd': did you mean"),
        (lambda: genzoo.load("tiny", runtime="onnx"), "unknown runtime 'onnx'"),
        (lambda: genzoo.load("tiny", runtime="triton"), "give url, as `genzoo.serve` yields it"),
        (lambda: genzoo.load("tiny").sample([0], class_id=10), "class_id 10 is outside 0 to 9"),
        (lambda: genzoo.load("tiny").sample([0], class_id=[1, 2]), "2 class_id for 1 seeds"),
        (lambda: genzoo.load("tiny").sample([-1]), "seed -1 is outside 0 to 2**64 - 1"),
        (lambda: genzoo.load("tiny").sample([]), "no seed was given"),
        (lambda: genzoo.load("tiny").sample([1.5]), "seed 1.5 is no whole number"),
        (lambda: genzoo.load("tiny").sample(["7"]), "seed '7' is no whole number"),
        (lambda: genzoo.load("tiny").sample([0], class_id="9"), "class_id '9' is no whole number"),
        (lambda: genzoo.serve().__enter__(), "name at least one"),
        (lambda: genzoo.pull("tiny"), "no remote was named"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(pulled: str, call, sentence: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(genzoo.GenzooError) as caught:
        call()
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
