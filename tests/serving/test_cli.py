"""`genzoo sample`: files, and sentences for what cannot be done."""

from __future__ import annotations

import resource
import shlex
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

import genzoo
from export.bundle import Bundle
from serving.bundles import RefusedError
from serving.cli import app
from serving.client import ServingError
from serving.images import OutputError, grid
from serving.server import TritonServer
from tests.serving.conftest import ONE_SHOT, make_bundle
from zoo import files
from zoo.contract.errors import RequestError
from zoo.errors import GenzooError


def sample(*arguments: object) -> str:
    """Standard output of `genzoo sample`; what it raises is raised."""
    result = CliRunner().invoke(app, ["sample", *map(str, arguments)])
    raised(result)
    return result.output


def raised(result: Result) -> None:
    if result.exception is not None:
        raise result.exception


def test_arrays_are_the_same_through_triton(server: TritonServer, bundles: dict[str, Bundle], tmp_path: Path) -> None:
    options = ("--seeds", "0-69", "--sampler", "heun", "--steps", 3, "--guidance-scale", 2, "--class-ids", "cycle")
    sample(bundles["toy-ddpm"].path, *options, "-o", tmp_path / "here.npz")
    triton = ("--runtime", "triton", "--url", server.grpc_url)
    sample("toy-ddpm", *options, *triton, "-o", tmp_path / "there.npz")
    with np.load(tmp_path / "here.npz") as here, np.load(tmp_path / "there.npz") as there:
        assert set(here) == {"images", "seeds", "class_id"}
        for name in here:
            np.testing.assert_array_equal(here[name], there[name])
        assert (here["images"].dtype, here["images"].shape) == (np.uint8, (70, 8, 8, 1))
        assert here["seeds"].tolist() == list(range(70))
        assert here["class_id"].tolist() == [seed % 10 for seed in range(70)]


def test_a_grid_is_a_picture(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    sample(bundles["toy-gan"].path, "--seeds", "0-4", "--class-ids", "3", "-o", tmp_path / "deep" / "grid.png")
    with Image.open(tmp_path / "deep" / "grid.png") as picture:
        assert (picture.size, picture.mode) == ((28, 18), "L")


def test_frames_are_rows_from_seed_to_seed(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    sample(bundles["toy-gan"].path, "--seeds", "0-2", "--frames", "4", "-o", tmp_path / "way.png")
    with Image.open(tmp_path / "way.png") as picture:
        assert picture.size == (4 * 10 - 2, 2 * 10 - 2)
    with pytest.raises(RequestError, match="--frames makes a picture in this process"):
        sample(bundles["toy-gan"].path, "--frames", "4", "-o", tmp_path / "way.npz")


def test_what_the_gate_refused_is_taken_with_ungated_only(tmp_path: Path) -> None:
    refused, output = make_bundle(tmp_path / "bundle", ONE_SHOT, admitted=False), tmp_path / "x.png"
    repository = CliRunner().invoke(app, ["repository", str(refused.path), "-o", str(tmp_path / "models")])
    sentence = "toy-gan fp32 was refused: generator is wrong; export it again, or .* --ungated"
    for command in (partial(sample, refused.path, "-o", output), partial(raised, repository)):
        with pytest.raises(RefusedError, match=sentence):
            command()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    sample(refused.path, "--ungated", "-o", output)
    result = CliRunner().invoke(app, ["repository", str(refused.path), "--ungated", "-o", str(tmp_path / "models")])
    assert (result.exit_code, output.is_file(), (tmp_path / "models" / "toy-gan").is_dir()) == (0, True, True)
    assert "toy-gan was refused by the gate, and is taken ungated" in result.stderr


def test_what_nobody_judged_is_sampled_and_not_served(tmp_path: Path) -> None:
    unjudged = make_bundle(tmp_path / "bundle", ONE_SHOT, admitted=None)
    sample(unjudged.path, "-o", tmp_path / "x.png")
    with pytest.raises(RefusedError, match=r"has not been before the gate, .* run `genzoo gate .*bundle`"):
        raised(CliRunner().invoke(app, ["serve", str(unjudged.path)]))


def test_the_next_command_after_a_repository_can_be_given_where_one_is(
    bundles: dict[str, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my folder").mkdir()
    monkeypatch.chdir(tmp_path / "my folder")
    said = CliRunner().invoke(app, ["repository", str(bundles["toy-gan"].path), "-o", "models"]).stdout
    models, *_, compose, _, build = shlex.split(said.split("next: ")[1])
    assert models == f"MODELS={tmp_path}/my folder/models"
    assert Path(compose).is_file()
    assert build == "--build"
    monkeypatch.setattr(files, "checkout", lambda: None)
    said = CliRunner().invoke(app, ["repository", str(bundles["toy-gan"].path), "-o", "again"]).stdout
    assert "next: in a checkout of genzoo, MODELS=" in said


def test_images_of_one_colour_are_not_written(tmp_path: Path) -> None:
    damaged = make_bundle(tmp_path / "bundle", ONE_SHOT, scale=float("nan"), admitted=None)
    with pytest.raises(OutputError, match=r"toy-gan made nothing but images of one colour .*`genzoo gate toy-gan`"):
        sample(damaged.path, "-o", tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()
    sample(damaged.path, "--ungated", "-o", tmp_path / "x.png")
    with pytest.raises(OutputError, match="of one colour"):
        genzoo.load(str(damaged.path)).sample(range(3))
    assert not genzoo.load(str(damaged.path), ungated=True).sample(range(3)).any()


def test_the_grid_holds_every_image_in_reading_order() -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    picture = grid(images, columns=3)
    assert picture.shape == (6, 10, 3)
    assert picture[0, ::4, 0].tolist() == [0, 1, 2]
    assert picture[4, ::4, 0].tolist() == [3, 4, 255]


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (("-o", "x.jpg"), OutputError, "end it in .png"),
        (("--class-ids", ",".join("0" * 65)), RequestError, "65 class_id for 64 seeds"),
        (("--class-ids", "0,x"), RequestError, "class_id 'x': expected 0 to 9"),
        (("--class-ids", "10"), RequestError, "class_id 10 is outside 0 to 9"),
        (("--seeds", "9-1"), RequestError, "write one seed, a range or a list"),
        (("--set", "class_id"), RequestError, "--set 'class_id': write NAME=VALUE"),
        (("--set", "class_id=1", "--class-ids", "2"), RequestError, "class_id is given by --set and by an option"),
        (("--set", "class=1"), RequestError, "takes no class: did you mean class_id"),
        (("--set", "class_id=1", "--mix", "class_id=1*2"), RequestError, "class_id is set and mixed"),
        (("--mix", "class_id=0.5.5*1"), RequestError, "write NAME=WEIGHT"),
        (("--mix", "class_id=0*1"), RequestError, "with a sum above 0"),
        (("--mask", "mask.png"), RequestError, "mask_image: mask.png cannot be read"),
        (("--strength", "0.5"), RequestError, "strength was given and no image"),
        (("--size", "16x16"), RequestError, "size '16x16': toy-ddpm makes images of 8x8 only"),
        (("--guidance-interval", "0.2"), RequestError, "write two noise levels"),
        (("--steps", "0"), RequestError, "num_steps 0 is outside"),
        (("--sampler", "euler"), RequestError, "has no sampler 'euler'"),
        (("--guidance-scale", "99"), RequestError, "must be between 0 and 8"),
        (("--url", "127.0.0.1:1"), RequestError, "--url is for --runtime triton"),
        (("--runtime", "triton", "--url", "127.0.0.1:1"), ServingError, "no Triton server answers"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_no_file(
    bundles: dict[str, Bundle],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    error: type[GenzooError],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=sentence):
        sample(bundles["toy-ddpm"].path, "-o", "x.png", *arguments)
    assert not list(tmp_path.iterdir())


def test_a_file_that_the_disk_cannot_hold_is_not_left_half_written(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            sample(bundles["toy-gan"].path, "-o", tmp_path / "x.npz")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
