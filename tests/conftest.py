"""Two toy families and their data set, each in one file written here: everything downstream takes them unedited.

`toy_one_shot`, `toy_diffusion` and `toy_student` are checkpoints of 8x8 images; `toy_bundles` are their exports.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

# Before NumPy and torch are loaded, here and in what the tests start: networks as small as these only wait for each
# other's threads, far longer on a busy machine, and a sum is the same wherever one thread adds it up.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

import tests.examples  # noqa: F401  (every test draws by its profile)
from tests.datasets import stripes
from zoo import registry, shelf
from zoo.datasets import fashion_mnist
from zoo.family import Checkpoint
from zoo.files import HOME_VARIABLE

if TYPE_CHECKING:
    from tests.stand_ins import TensorRT

HOME = os.environ.get(HOME_VARIABLE)

ONE_SHOT = '''
"""A linear map from noise and class to an image."""
from dataclasses import dataclass

import torch
from torch import nn

from zoo.family import Checkpoint, Family, class_conditional
from zoo.contract.graph import Graph
from zoo.images import to_images



@dataclass(frozen=True)
class Config:
    latent: int = 6


class Network(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.classes = nn.Embedding(3, config.latent)
        self.linear = nn.Linear(config.latent, 64)
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.register_buffer("gain", torch.linspace(0.5, 1.0, 64).reshape(1, 8, 8))

    def forward(self, noise, class_ids):
        hidden = self.linear(noise[:, 0] + self.classes(class_ids[:, 0])).reshape(-1, 1, 8, 8)
        return to_images(torch.tanh(self.conv(hidden * self.gain)))


def graphs(module, checkpoint):
    return (Graph("generator", module, checkpoint.spec.inputs, checkpoint.spec.outputs),)


SPEC = class_conditional("toy-linear", "toy_one_shot", (6,), (8, 8, 2), 3)
CHECKPOINTS = (Checkpoint(SPEC, Config(), dataset="toys"),)
FAMILY = Family(build=Network, graphs=graphs, checkpoints=CHECKPOINTS)
'''

DIFFUSION = '''
"""A small latent denoiser with normalization, a matrix product and a class, and a decoder to twice its size."""
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from zoo.family import Checkpoint, Family, class_conditional, denoiser_graph
from zoo.contract.graph import BATCH, Graph, TensorSpec
from zoo.contract.spec import Sampling


@dataclass(frozen=True)
class Config:
    width: int = 8


class Denoiser(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.frequencies = nn.Parameter(torch.linspace(1.0, 5.0, width))
        self.classes = nn.Embedding(4, width)  # the last is the null class
        self.embed = nn.Linear(width, width)
        self.first = nn.Conv2d(2, width, 3, padding=1)
        self.norm = nn.GroupNorm(2, width)
        self.mix = nn.Linear(16, 16, bias=False)
        self.inner = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, x, c_noise, class_ids, c_next=None):
        features = torch.cos(c_noise[:, None] * self.frequencies) + self.classes(class_ids)
        if c_next is not None:
            features = features + torch.sin(c_next[:, None] * self.frequencies)
        h = self.norm(self.first(x)) + F.silu(self.embed(features))[:, :, None, None]
        h = h + self.mix(h.flatten(2)).reshape_as(h)
        return self.last(F.silu(self.inner(F.silu(h))))


class Network(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.denoiser = Denoiser(config.width)
        self.decoder = nn.Sequential(nn.Upsample(scale_factor=2.0), nn.Conv2d(2, 1, 3, padding=1), nn.Tanh())


def graphs(module, checkpoint):
    latents, pixels = (BATCH, 2, 4, 4), (BATCH, 1, 8, 8)
    return (
        denoiser_graph(module.denoiser, checkpoint.spec),
        Graph("decoder", module.decoder, (TensorSpec("latents", "float32", latents),),
              (TensorSpec("pixels", "float32", pixels),)),
    )


def spec(name, sampling):
    return class_conditional(name, "toy_diffusion", (2, 4, 4), (8, 8, 1), 3, sampling)


EVERY = ("ddim", "ddpm", "heun", "dpmpp_2m", "consistency")
CHECKPOINTS = (
    Checkpoint(spec("toy-diffusion", Sampling(samplers=EVERY, num_steps=4, max_guidance_scale=4.0)), Config(),
               dataset="toys"),
    Checkpoint(spec("toy-student", Sampling(samplers=("ddim",), num_steps=2, steps=(2,))), Config(),
               dataset="toys", teacher="toy-diffusion"),
    Checkpoint(spec("toy-steps", Sampling("velocity", "linear", ("ddim",), 3, max_guidance_scale=4.0,
                    whole_steps=True)), Config(), dataset="toys"),
)
FAMILY = Family(build=Network, graphs=graphs, checkpoints=CHECKPOINTS)
'''


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws without a seed of its own is the same on every run, whichever tests ran before."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="module")
def zoo_home() -> Iterator[None]:
    """The home that this run was given, also after the toys took one of their own.

    What is exported of the zoo's own checkpoints there is found again, by other files and by the next run.
    """
    with pytest.MonkeyPatch.context() as patch:
        if HOME is None:
            patch.delenv(HOME_VARIABLE, raising=False)
        else:
            patch.setenv(HOME_VARIABLE, HOME)
        yield


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> TensorRT:
    """A host with a GPU of sm89 and TensorRT-RTX, of stand-ins: the library, to which plans are taught."""
    cuda = pytest.importorskip("cuda.bindings")
    version = pytest.importorskip("tensorrt_rtx").__version__
    from tests import stand_ins

    library = stand_ins.TensorRT("tensorrt_rtx", version)
    monkeypatch.setattr(cuda, "runtime", stand_ins.Cuda())
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", library)
    return library


@pytest.fixture(scope="session")
def toy_families(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """The names of the toy families, in the registry for the whole session, their checkpoints beside the tree."""
    torch = pytest.importorskip("torch")
    import zoo.families

    folder = tmp_path_factory.mktemp("toys")
    (folder / "toy_one_shot.py").write_text(ONE_SHOT)
    (folder / "toy_diffusion.py").write_text(DIFFUSION)
    names = ("toy_one_shot", "toy_diffusion")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo.families, "__path__", [*zoo.families.__path__, str(folder)])
        patch.setattr(registry, "FAMILIES", (*registry.FAMILIES, *names))
        patch.setenv(shelf.TREE_VARIABLE, str(folder / "checkpoints"))
        patch.setenv(fashion_mnist.SOURCE_VARIABLE, fashion_mnist.default_source())
        patch.setenv(HOME_VARIABLE, str(folder / "home"))
        stripes(patch, folder, "toys", (8, 8, 1), 3)
        for name in names:
            family = registry.family(name)
            for checkpoint in family.checkpoints:
                torch.manual_seed(len(checkpoint.name))
                shelf.save(checkpoint, family.build(checkpoint.config).state_dict(), {})
        yield names


@pytest.fixture(scope="session")
def toy_one_shot(toy_families: tuple[str, ...]) -> Checkpoint:
    """A one-shot generator: noise (6,), three classes, images 8x8x2."""
    return registry.family("toy_one_shot").checkpoints[0]


@pytest.fixture(scope="session")
def toy_diffusion(toy_families: tuple[str, ...]) -> Checkpoint:
    """A latent diffusion model with every sampler and guidance: latents 2x4x4, three classes, images 8x8x1."""
    return registry.family("toy_diffusion").checkpoints[0]


@pytest.fixture(scope="session")
def toy_student(toy_families: tuple[str, ...]) -> Checkpoint:
    """The same network for DDIM in exactly two steps."""
    return registry.family("toy_diffusion").checkpoints[1]


@pytest.fixture(scope="session")
def toy_steps(toy_families: tuple[str, ...]) -> Checkpoint:
    """The same network told where its step ends, too."""
    return registry.family("toy_diffusion").checkpoints[2]


@pytest.fixture(scope="session")
def toy_bundles(toy_one_shot: Checkpoint, toy_diffusion: Checkpoint, toy_student: Checkpoint) -> Mapping[str, Path]:
    """The folder of each toy's bundle in float32, by the checkpoint's name."""
    from export.exporter import export

    return {checkpoint.name: export(checkpoint).path for checkpoint in (toy_one_shot, toy_diffusion, toy_student)}
