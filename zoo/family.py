"""A family turns a checkpoint into named graphs; this is all that the rest of genzoo knows about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import StrEnum
from typing import Any

from zoo.contract.conditions import Condition, class_id
from zoo.contract.graph import BATCH, Graph, TensorSpec
from zoo.contract.request import Setting
from zoo.contract.spec import GeneratorSpec, Noise, Sampling


@dataclass(frozen=True)
class Recipe:
    """How a checkpoint was trained: the kind of training is a file in `zoo/training/`, with `options` of its own."""

    kind: str
    images: int  # training images seen
    batch_size: int = 128
    learning_rate: float = 1e-3
    ema_images: int = 50_000  # the half-life of the weights' moving average
    seed: int = 0
    options: Any = field(default_factory=dict)  # plain JSON values
    minutes: float = 0.0  # the budget on two cores


class Branch(StrEnum):
    """A branch of the family tree, in the order in which it is shown; its page is docs/families/`page`.md."""

    GANS = "GANs"
    AUTOENCODERS = "Autoencoders"
    NORMALIZING_FLOWS = "Normalizing flows"
    DIFFUSION = "Diffusion and flow matching"
    FEW_STEPS = "Few-step generators"
    TRANSLATION = "Image translation"

    @property
    def page(self) -> str:
        return self.value.lower().replace(" ", "-")


@dataclass(frozen=True)
class System:
    """A system of the field's history, and how a checkpoint is asked to be it."""

    title: str
    branch: Branch
    paper: str  # authors, year and identifier: "Ho et al. 2020, arXiv:2006.11239"
    reported: str = ""  # what the paper reports, with its data set: "CIFAR-10 FID 3.17 in 1,000 steps"
    setting: Setting = Setting()

    @property
    def authors(self) -> str:
        return self.paper.rpartition(", ")[0][:-5]

    @property
    def year(self) -> int:
        return int(self.paper.rpartition(", ")[0][-4:])

    @property
    def published(self) -> tuple[int, str]:
        """In the order of time: arXiv's identifiers begin with year and month."""
        return self.year, self.paper.rpartition(":")[2]

    @property
    def address(self) -> str:
        kind, identifier = self.paper.rpartition(", ")[2].split(":", 1)
        return {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}[kind] + identifier


@dataclass(frozen=True)
class Entry:
    """What the zoo says of a checkpoint: plain data, known without its network."""

    spec: GeneratorSpec
    _: KW_ONLY
    dataset: str  # a file of zoo/datasets, by its name: what it was trained on, is judged by and shows
    licence: str = "apache-2.0"
    paper: str = ""
    teacher: str | None = None  # the checkpoint it was distilled from, grew from, or whose first stage it uses
    base: str | None = None  # the checkpoint on whose weights it stands: its own file has only what differs from them
    description: str = ""
    faults: tuple[str, ...] = ()  # what the eye sees and no metric says; a sentence each, for the card
    systems: tuple[System, ...] = ()  # its places in the family tree; none: it is a step on the way to another's

    @property
    def name(self) -> str:
        return self.spec.name


@dataclass(frozen=True)
class Checkpoint(Entry):
    """One entry of a family's table: with the network's config, and how it is trained. Its weights are a file."""

    config: Any  # the family's own frozen dataclass
    recipe: Recipe | None = None


@dataclass(frozen=True)
class Family:
    """The whole interface of a family.

    `build` makes the network, a `torch.nn.Module`, from a config. `graphs` names its exportable parts in the order in
    which data flows: either one `generator` that takes the inputs of `GeneratorSpec.inputs` and gives its outputs, or
    a `denoiser` (`x`, `c_noise`, what the conditions become, `c_next`; -> `F`) and, where latents are not pixels, a
    `decoder` (`latents` -> `pixels` in [-1, 1]) and an `encode_image` (`image` in [-1, 1] -> latents). Before either,
    `encode_<condition>` for a condition with `encoded` tensors. `assets` are what `zoo.contract.assets` reads.
    """

    build: Callable[[Any], Any]
    graphs: Callable[[Any, Checkpoint], tuple[Graph, ...]]
    checkpoints: tuple[Checkpoint, ...]
    assets: Callable[[Checkpoint], Mapping[str, bytes]] | None = None  # the small files beside the weights, by name
    config: type[Any] | None = None  # the dataclass of its configs, for a family whose checkpoints are all imported

    @property
    def config_type(self) -> type[Any]:
        return self.config or type(self.checkpoints[0].config)


def class_conditional(
    name: str,
    family: str,
    latent_shape: tuple[int, ...],
    image_shape: tuple[int, int, int],
    num_classes: int,
    sampling: Sampling | None = None,
) -> GeneratorSpec:
    """The spec of a generator of one size that takes a class, or nothing where there are none."""
    conditions: tuple[Condition, ...] = ()
    if num_classes:
        conditions = (Condition("class_id", "class_id", class_id.Options(num_classes), guided=sampling is not None),)
    return GeneratorSpec(name, family, (Noise("noise", latent_shape),), image_shape, conditions, sampling)


def denoiser_graph(module: Any, spec: GeneratorSpec) -> Graph:
    """The `denoiser` of a network: `F(x, c_noise)`, then what its conditions become, then `c_next` for whole steps."""
    latent: tuple[int | str, ...] = (BATCH, *spec.state_shape)
    inputs: tuple[TensorSpec, ...] = (
        TensorSpec("x", "float32", latent),
        TensorSpec("c_noise", "float32", (BATCH,)),
        *(tensor.batched() for tensor in spec.network_inputs),
    )
    if spec.sampling and spec.sampling.whole_steps:
        inputs += (TensorSpec("c_next", "float32", (BATCH,)),)
    return Graph("denoiser", module, inputs, (TensorSpec("F", "float32", latent),))
