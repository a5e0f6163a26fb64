"""What text to image was tuned to: low-rank adapters beside its denoiser, words that it did not know, drawings.

Sources: Hu et al. 2021 (LoRA); Gal et al. 2022 (textual inversion: a word alone); Ruiz et al. 2022 (DreamBooth: a word
and the network, with pictures of its class beside it); Luo et al. 2023 (LCM-LoRA: few steps as an adapter); Zhang et
al. 2023 (ControlNet: a copy of the way down that sees a drawing); Ye et al. 2023 (IP-Adapter: a picture
beside the words).

The weights of the base are the base's, to the bit: a checkpoint keeps its adapters, its words and its guide, which
tells the denoiser more than words (guides/). Each adapter and most guides have a scale, a condition: at 0 an image is
the base's own, and one batch mixes any.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from safetensors.numpy import save
from torch import nn

from zoo.contract.assets import EXAMPLE_ARRAYS, EXAMPLES
from zoo.contract.conditions import Condition, kind, scalar
from zoo.contract.graph import Graph
from zoo.contract.request import Setting
from zoo.contract.spec import EDITS, GeneratorSpec, Sampling
from zoo.datasets import one_person, one_picture
from zoo.families import text_to_image
from zoo.families.guides import STRONGEST, Guide, guide
from zoo.families.text_to_image import BASE, TextToImage, TextToImageConfig
from zoo.family import Branch, Checkpoint, Family, Recipe, System
from zoo.networks import low_rank

RANK = 8


@dataclass(frozen=True)
class TunedConfig:
    """`network` is the base's, with the words that are new at the end; `adapters` are ranks by name.

    `beside` is the name of the guide that tells more than words; empty: none does.
    """

    network: TextToImageConfig
    adapters: Mapping[str, int] = field(default_factory=dict)
    beside: str = ""

    @property
    def guide(self) -> Guide | None:
        return guide(self.beside) if self.beside else None


class Tuned(TextToImage):
    """The base, and beside each layer of its denoiser its adapters."""

    def __init__(self, config: TunedConfig) -> None:
        super().__init__(config.network)
        if config.guide:
            network = config.network
            self.denoiser = config.guide.denoiser(network.denoiser, network.context, network.rounds)
            if config.guide.sight:
                self.add_module(config.guide.called, config.guide.sight(network))
        places = [path for path, each in self.denoiser.named_modules() if isinstance(each, nn.Linear | nn.Conv2d)]
        for name, rank in config.adapters.items():
            low_rank.attach(self.denoiser, name, dict.fromkeys(places, rank))


def graphs(module: Tuned, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    found, beside = text_to_image.graphs(module, checkpoint), checkpoint.config.guide
    if beside and beside.sight:
        found = (_sight(beside.eye(module), checkpoint.spec), *found)
    return tuple(low_rank.adapted(each, tuple(checkpoint.config.adapters)) for each in found)


def _sight(network: Callable[..., Any], spec: GeneratorSpec) -> Graph:
    """The graph of the condition that a guide encodes, with the tensors of those beside it after its own."""
    (own,) = (each for each in spec.conditions[1:] if each.encoded)
    taken = [own, *(each for each in spec.conditions if each.name in own.beside)]
    seen = tuple(tensor.batched() for each in taken for tensor in kind(each).tensors(each))
    return Graph(str(own.encoder), network, seen, tuple(each.batched() for each in own.encoded))


def assets(checkpoint: Checkpoint) -> dict[str, bytes]:
    """With what a guide is shown in its examples. Raises DatasetError."""
    network: TextToImageConfig = checkpoint.config.network
    found = text_to_image.assets(replace(checkpoint, config=network))
    beside = checkpoint.config.guide
    if not beside:
        return found
    shown = beside.examples(network)
    arrays = {name: each for name, each in shown.items() if isinstance(each, np.ndarray)}
    words = {name: each for name, each in shown.items() if name not in arrays}
    found |= {EXAMPLE_ARRAYS: save(arrays)} if arrays else {}
    return found | ({EXAMPLES: json.dumps(words, indent=1).encode()} if words else {})


def _spec(
    name: str, config: TunedConfig, sampling: Sampling | None = None, unasked: Collection[str] = ()
) -> GeneratorSpec:
    """Of a base with adapters; those `unasked` have the scale 0 where nobody gives one, others 1."""
    usual = text_to_image.spec(name, config.network)
    scales = tuple(
        Condition(each, "scalar", scalar.Options(0.0, STRONGEST), default=float(each not in unasked))
        for each in config.adapters
    )
    prompt, beside = usual.conditions[0], config.guide.conditions(config.network) if config.guide else ()
    sampling, guided = sampling or usual.sampling, sampling is None
    assert sampling is not None
    if any(each.name in EDITS for each in beside):  # which it sees by itself, and does not begin with
        sampling = replace(sampling, encodes_images=False)
    return replace(
        usual,
        family="tuned_text_to_image",
        conditions=(replace(prompt, guided=guided), *scales, *beside),
        sampling=sampling,
    )


def _with_subject(adapters: Mapping[str, int]) -> TunedConfig:
    network = replace(BASE, words=(*BASE.words, one_person.WORD), examples=one_person.EXAMPLES)
    return TunedConfig(network, adapters)


LCM = TunedConfig(BASE, {"lcm": RANK, "ink": RANK})
INK = TunedConfig(BASE, {"ink": RANK})
WORD = _with_subject({})
REFERENCE = TunedConfig(BASE, beside="reference")
CONTROL = TunedConfig(BASE, beside="control")
REPAINT = TunedConfig(BASE, beside="repaint")
ENLARGE = TunedConfig(BASE, beside="enlarge")
EDIT = TunedConfig(BASE, {"picture": RANK}, beside="edit")
FACE = TunedConfig(BASE, beside="face")
LAYOUT = TunedConfig(BASE, beside="layout")
DREAMBOOTH = _with_subject({"subject": RANK})


def _on_base(
    name: str,
    config: TunedConfig,
    *,
    dataset: str,
    recipe: Recipe,
    title: str,
    paper: str,
    description: str,
    faults: tuple[str, ...],
) -> Checkpoint:
    """What is asked as its base is, by words with guidance; a system of its paper by that title."""
    return Checkpoint(
        spec=_spec(name, config),
        config=config,
        dataset=dataset,
        recipe=recipe,
        base="t2i-base",
        paper=paper,
        description=description,
        faults=faults,
        systems=(System(title, Branch.DIFFUSION, paper, setting=Setting(guidance_scale=3.0)),),
    )


CHECKPOINTS: tuple[Checkpoint, ...] = (
    _on_base(
        "t2i-ink",
        INK,
        dataset="inked_designs",
        recipe=Recipe(
            "tuning",
            images=48_000,
            batch_size=48,
            learning_rate=1e-3,
            ema_images=5_000,
            seed=38,
            options={"caption_dropout": 0.1},
            minutes=5.0,
        ),
        title="LoRA",
        paper="Hu et al. 2021, arXiv:2106.09685",
        description="The base as drawn in ink: an adapter whose scale is a condition of each image.",
        faults=(
            "Lines are thicker than in the pictures that it learned from, and paper is mottled.",
            "At its full strength nothing is left of the colours that a prompt asks for.",
        ),
    ),
    Checkpoint(
        spec=_spec(
            "t2i-lcm",
            LCM,
            Sampling("velocity", "linear", ("consistency",), num_steps=4, steps=(1, 2, 4, 8), encodes_images=True),
            unasked=("ink",),
        ),
        config=LCM,
        dataset="designs",
        recipe=Recipe(
            "latent_consistency",
            images=28_800,
            batch_size=48,
            learning_rate=1e-3,
            ema_images=3_000,
            seed=28,
            options={"beside": ["t2i-ink"], "grid": 20, "guidance_scale": 3.0},
            minutes=8.0,
        ),
        teacher="t2i-base",
        base="t2i-base",
        paper="Luo et al. 2023, arXiv:2311.05556",
        description=(
            "Latent consistency as an adapter of the base, guidance 3 distilled in: one to eight steps. The adapter of "
            "`t2i-ink` is beside it: `--set ink=1` is the same few steps of a network that it was not trained on."
        ),
        faults=("In one step edges are soft and small parts are missing; from two steps on it is close to the base.",),
        systems=(System("LCM-LoRA", Branch.FEW_STEPS, "Luo et al. 2023, arXiv:2311.05556"),),
    ),
    _on_base(
        "t2i-word",
        WORD,
        dataset="one_person",
        recipe=Recipe(
            "tuning",
            images=24_000,
            batch_size=24,
            learning_rate=5e-3,
            ema_images=2_000,
            seed=36,
            minutes=3.0,
        ),
        title="Textual inversion",
        paper="Gal et al. 2022, arXiv:2208.01618",
        description=f"One person by a word that the base did not know, {one_person.WORD}, learned from five pictures.",
        faults=(
            "Now and then a feature is another's, like hair that is white.",
            "The face is as soft as the base's.",
        ),
    ),
    _on_base(
        "t2i-subject",
        DREAMBOOTH,
        dataset="one_person",
        recipe=Recipe(
            "tuning",
            images=24_000,
            batch_size=24,
            learning_rate=1e-3,
            ema_images=2_000,
            seed=37,
            options={"caption_dropout": 0.1},
            minutes=3.0,
        ),
        title="DreamBooth",
        paper="Ruiz et al. 2022, arXiv:2208.12242",
        description="The same by that word and an adapter, with pictures of other people beside it.",
        faults=("The face is as soft as the base's.",),
    ),
    _on_base(
        "t2i-control",
        CONTROL,
        dataset="designs",
        recipe=Recipe(
            "guided_tuning",
            images=48_000,
            batch_size=48,
            learning_rate=5e-4,
            ema_images=5_000,
            seed=39,
            options={"caption_dropout": 0.3},
            minutes=7.0,
        ),
        title="ControlNet",
        paper="Zhang et al. 2023, arXiv:2302.05543",
        description="The base, told by a drawing where lines are: any prompt within the outlines of a picture.",
        faults=("Where the prompt names another figure than the drawing shows, the prompt wins.",),
    ),
    _on_base(
        "t2i-reference",
        REFERENCE,
        dataset="altered_designs",
        recipe=Recipe(
            "guided_tuning",
            images=48_000,
            batch_size=48,
            learning_rate=1e-3,
            ema_images=5_000,
            seed=40,
            options={"caption_dropout": 0.1},
            minutes=7.0,
        ),
        title="IP-Adapter",
        paper="Ye et al. 2023, arXiv:2308.06721",
        description="The base beside a picture: it shows what the picture shows, and what the prompt says of it.",
        faults=("Of what the prompt leaves open, only a half is as in the picture beside.",),
    ),
    _on_base(
        "t2i-inpaint",
        REPAINT,
        dataset="designs",
        recipe=Recipe(
            "guided_tuning",
            images=48_000,
            batch_size=48,
            learning_rate=1e-3,
            ema_images=5_000,
            seed=34,
            options={"caption_dropout": 0.3, "shortened": 0.7, "word_dropout": 0.5},
            minutes=9.0,
        ),
        title="Inpainting",
        paper="Rombach et al. 2022, arXiv:2112.10752",
        description="The base, shown what a mask keeps of a picture: the rest is made anew by the prompt, to fit.",
        faults=(
            "Small parts that are drawn sharply elsewhere, like glasses, are smeared.",
            "By a prompt that says all, the base is ahead, whose masking nobody trained.",
        ),
    ),
    _on_base(
        "t2i-upscale",
        ENLARGE,
        dataset="designs",
        recipe=Recipe(
            "guided_tuning",
            images=36_000,
            batch_size=48,
            learning_rate=1e-3,
            ema_images=5_000,
            seed=33,
            options={"caption_dropout": 0.3},
            minutes=7.0,
        ),
        title="Super-resolution",
        paper="Saharia et al. 2021, arXiv:2104.07636",
        description="The base, shown a picture of 16x16 pixels: the same at 64x64, of what the prompt says of it.",
        faults=(
            "What a prompt does not say is guessed: a mouth of three pixels becomes any mouth.",
            "Figures of cubes have soft edges.",
        ),
    ),
    _on_base(
        "t2i-layout",
        LAYOUT,
        dataset="scenes",
        recipe=Recipe(
            "guided_tuning",
            images=72_000,
            batch_size=48,
            learning_rate=1e-3,
            ema_images=5_000,
            seed=35,
            options={"caption_dropout": 0.1},
            minutes=12.0,
        ),
        title="Layout to image",
        paper="Li et al. 2023, arXiv:2301.07093",
        description="The base in scenes, told by boxes what stands where, of which it knew portraits alone.",
        faults=(
            "Faces of small figures are a dark spot, or missing.",
            "Hills run into one another.",
        ),
    ),
    _on_base(
        "t2i-face",
        FACE,
        dataset="same_people",
        recipe=Recipe(
            "guided_tuning",
            images=48_000,
            batch_size=48,
            learning_rate=1e-3,
            ema_images=5_000,
            seed=41,
            options={"caption_dropout": 0.1},
            minutes=8.0,
        ),
        title="Face0",
        paper="Valevski et al. 2023, arXiv:2306.06638",
        description="The base, shown a face: the same person as the prompt says, in any of three designs.",
        faults=(
            "What the design of the face cannot show of a person is made up, like a beard.",
            "In another design the hair is at times of a neighbouring colour.",
        ),
    ),
    _on_base(
        "t2i-edit",
        EDIT,
        dataset="one_picture",
        recipe=Recipe(
            "imagic",
            images=19_200,
            batch_size=24,
            learning_rate=1e-3,
            ema_images=1_000,
            seed=42,
            options={"target": one_picture.caption(*one_picture.TARGETS[0]), "search": 0.4, "search_rate": 5e-3},
            minutes=4.0,
        ),
        title="Imagic",
        paper="Kawar et al. 2023, arXiv:2210.09276",
        description="One picture and what it shall become: how far it is edited is a condition of each image.",
        faults=(
            "Glasses are smeared over the face.",
            "From an edit of about 0.7 on the beard goes, which no prompt asks for.",
        ),
    ),
)

FAMILY = Family(build=Tuned, graphs=graphs, checkpoints=CHECKPOINTS, assets=assets)
