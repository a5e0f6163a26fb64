"""A family turns a checkpoint into named graphs; this is all that the rest of genzoo knows about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from zoo.graph import BATCH, Graph, TensorSpec
from zoo.request import GeneratorSpec


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


@dataclass(frozen=True)
class Checkpoint:
    """One table entry of the zoo: a config with a name, a licence and an origin. Its weights are a file of the tree."""

    spec: GeneratorSpec
    config: Any  # the family's own frozen dataclass
    recipe: Recipe | None = None
    dataset: str = "fashion_mnist"
    licence: str = "apache-2.0"
    paper: str = ""
    teacher: str | None = None  # the checkpoint from which it was distilled, or whose first stage it uses
    description: str = ""
    faults: tuple[str, ...] = ()  # what the eye sees and no metric says; a sentence each, for the card

    @property
    def name(self) -> str:
        return self.spec.name


@dataclass(frozen=True)
class Family:
    """The whole interface of a family.

    `build` makes the network, a `torch.nn.Module`, from a config. `graphs` names its exportable parts in the order in
    which data flows: either one `generator` that takes the inputs of `GeneratorSpec.inputs` and gives its outputs, or
    a `denoiser` (`x`, `c_noise`, `class_ids`, `c_next`; -> `F`) and, where latents are not pixels, a `decoder`
    (`latents` -> `pixels` in [-1, 1]).
    """

    build: Callable[[Any], Any]
    graphs: Callable[[Any, Checkpoint], tuple[Graph, ...]]
    checkpoints: tuple[Checkpoint, ...]
    config: type[Any] | None = None  # the dataclass of its configs, for a family whose checkpoints are all imported

    @property
    def config_type(self) -> type[Any]:
        return self.config or type(self.checkpoints[0].config)


def denoiser_graph(module: Any, spec: GeneratorSpec) -> Graph:
    """The `denoiser` of a network: `F(x, c_noise)`, and `class_ids`, `c_next` where it knows classes, whole steps."""
    latent: tuple[int | str, ...] = (BATCH, *spec.latent_shape)
    inputs: tuple[TensorSpec, ...] = (
        TensorSpec("x", "float32", latent),
        TensorSpec("c_noise", "float32", (BATCH,)),
    )
    if spec.num_classes:
        inputs += (TensorSpec("class_ids", "int64", (BATCH,)),)
    if spec.sampling and spec.sampling.whole_steps:
        inputs += (TensorSpec("c_next", "float32", (BATCH,)),)
    return Graph("denoiser", module, inputs, (TensorSpec("F", "float32", latent),))
