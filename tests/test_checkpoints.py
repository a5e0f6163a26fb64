"""Every checkpoint of the zoo, as it is in the tree: card, gate, engines, and one image a seed on every runtime."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.bundle import Bundle
from export.runners import TorchRunner, bundle_generator
from serving import model_repository
from serving.bundles import prepare, prepare_all
from tests.examples import at_random
from zoo import registry, shelf
from zoo.contract.request import SampleRequest, Setting
from zoo.family import Checkpoint

pytestmark = pytest.mark.usefixtures("zoo_home")
NAMES = [checkpoint.name for checkpoint in registry.checkpoints()]
SEEDS = tuple(range(24))


def structure(checkpoint: Checkpoint) -> tuple[object, ...]:
    """What makes graphs others, and not only larger, with other weights or told more."""
    spec, sampling = checkpoint.spec, checkpoint.spec.sampling
    return spec.family, bool(spec.noise), sampling and (sampling.columns, sampling.encodes_images)


# One of each structure, the last: no graph is like another's. `make fuzz`, before a release, asks all of all.
STRUCTURES = sorted({repr(structure(each)): each.name for each in registry.checkpoints()}.values())
# What is put before the gate, served and built costs ten times an export: something of each branch, as in the demo.
EXPORTED = NAMES if at_random else sorted(registry.DEMO)

# To the bit, but for what a kernel's order of summation makes impossible: ONNX Runtime's MLAS GEMM takes another path
# for one row (GEMV) than for many, and the class, style and noise-level layers are such products.
BATCH_PIXELS = 0.001
RUNTIME_PIXELS = 0.002


@pytest.fixture(scope="module")
def bundle_of(request: pytest.FixtureRequest, zoo_home: None) -> Callable[[str], Bundle]:
    """Bundles by name, those that tests of this run take made side by side, and judged where a test asks for it."""
    own = [item for item in request.session.items if item.getparent(pytest.Module) is request.node]
    taken = [item for item in own if request.fixturename in getattr(item, "fixturenames", ())]
    judged = {item.callspec.params["name"] for item in taken if item.get_closest_marker("longer")}
    for judge in (True, False):
        names = dict.fromkeys(item.callspec.params["name"] for item in taken)
        prepare_all([name for name in names if (name in judged) == judge], judge=judge)
    return cache(lambda name: prepare(name, judge=name in judged))


def differing(first: np.ndarray, second: np.ndarray) -> float:
    """The share of pixels that differ; fails where one differs by more than one grey level."""
    difference = np.abs(first.astype(int) - second.astype(int))
    assert difference.max() <= 1
    return float((difference > 0).mean())


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_can_be_trusted(name: str) -> None:
    checkpoint, config = registry.checkpoint(name), shelf.config(name)
    shelf.verified_weights(name)
    assert config["weights"]["bytes"] <= 8_000_000
    assert config["licence"] == checkpoint.licence
    assert config["training"]["curves"]
    if checkpoint.teacher:
        assert config["teacher"] == {
            "name": checkpoint.teacher,
            "sha256": shelf.config(checkpoint.teacher)["weights"]["sha256"],
        }
    card = (shelf.directory(name) / "README.md").read_text()
    assert card.startswith("---\n")
    for expected in ("license:", "datasets:", f"genzoo train {name}", "## Known faults", config["weights"]["sha256"]):
        assert expected in card
    assert (shelf.directory(name) / "grid.png").is_file()


@pytest.mark.longer
@pytest.mark.parametrize("name", EXPORTED)
def test_the_gate_admits_it(name: str, bundle_of: Callable[[str], Bundle]) -> None:
    bundle = bundle_of(name)
    assert bundle.admitted, bundle.verdict
    beside = bundle.manifest.get("assets", {})  # examples of pictures are arrays too
    weights = [path for path in bundle.path.glob("*.safetensors") if path.name not in beside]
    assert len(weights) == 1
    assert all(path.stat().st_size < 1_000_000 for path in bundle.path.glob("*.onnx"))


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_seed_is_an_image_at_any_batch_size_and_order(name: str, bundle_of: Callable[[str], Bundle]) -> None:
    bundle = bundle_of(name)
    generator = bundle_generator(bundle).with_spec(bundle.spec.at_any_steps())
    steps = bundle.spec.sampling and min(4, bundle.spec.sampling.num_steps)
    together = generator.sample(SampleRequest(SEEDS, setting=Setting(steps)))
    for size in (1, 5):
        parts = generator.sample(SampleRequest(SEEDS, setting=Setting(steps)), batch_size=size)
        assert differing(together, parts) <= BATCH_PIXELS
    backwards = generator.sample(SampleRequest(SEEDS[::-1], setting=Setting(steps)))[::-1]
    assert differing(together, backwards) <= BATCH_PIXELS


@pytest.mark.longer
@pytest.mark.parametrize("name", EXPORTED)
def test_torch_and_onnx_runtime_agree(name: str, bundle_of: Callable[[str], Bundle]) -> None:
    bundle, checkpoint = bundle_of(name), registry.checkpoint(name)
    spec = bundle.spec.at_any_steps()
    request = SampleRequest(SEEDS, setting=Setting(spec.sampling and min(8, spec.sampling.num_steps)))
    reference = TorchRunner(checkpoint).generator.with_spec(spec).sample(request)
    exported = bundle_generator(bundle).with_spec(spec).sample(request)
    assert differing(reference, exported) <= RUNTIME_PIXELS
    assert len({image.tobytes() for image in exported}) == len(SEEDS)


@pytest.fixture(scope="module")
def served(bundle_of: Callable[[str], Bundle], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one real server with every checkpoint that this run exports."""
    from serving.server import TritonServer

    folder = tmp_path_factory.mktemp("served")
    repository = model_repository.write([bundle_of(name) for name in EXPORTED], folder / "models")
    with TritonServer(repository, folder / "triton.log") as server:
        yield server.grpc_url
    shutil.rmtree(folder)


@pytest.mark.longer
@pytest.mark.parametrize("name", EXPORTED)
def test_triton_serves_the_same_images(name: str, bundle_of: Callable[[str], Bundle], served: str) -> None:
    from serving.client import TritonRunner

    bundle, runner = bundle_of(name), TritonRunner(served, name)
    tensors = {"seed": np.arange(8, dtype=np.uint64)}
    if bundle.spec.sampling and not bundle.spec.sampling.steps:
        tensors["num_steps"] = np.array([4, 6] * 4, np.int32)
    here = bundle_generator(bundle).run(**tensors)["image"]
    assert differing(runner.run(**tensors)["image"], here) <= RUNTIME_PIXELS


@pytest.mark.longer
@pytest.mark.parametrize("name", EXPORTED)
def test_an_engine_builds_without_a_gpu_and_lands_in_a_repository(
    name: str, bundle_of: Callable[[str], Bundle], tmp_path: Path
) -> None:
    from export import engine
    from export.engine_build import build

    bundle = bundle_of(name)
    for graph in engine.graphs_to_build(bundle):
        built = build(bundle, graph)
        assert built.path.stat().st_size > 100_000
        assert engine.recorded(built.path) is not None
    repository = model_repository.write([bundle], tmp_path / "models", engines={name: [built]}, allow_unadmitted=True)
    text = (repository.path / f"{name}_{bundle.entry}" / "config.pbtxt").read_text()
    config = text_format.Parse(text, ModelConfig())
    assert (config.backend, config.default_model_filename) == ("tensorrt_rtx", "portable.plan")
