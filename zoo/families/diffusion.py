"""Pixel diffusion and flow matching: two teachers and their few-step students, one network under different training.

Sources: Ho et al. 2020 (DDPM); Song et al. 2021 (DDIM); Salimans & Ho 2022 (v-prediction, progressive distillation);
Song et al. 2023 (consistency distillation); Song & Dhariwal 2024 (consistency training); Yin et al. 2024
(distribution matching); Lipman et al. 2023, Liu et al. 2023 (flow matching, rectified); Geng et al. 2025 (mean flow).
"""

from __future__ import annotations

from collections.abc import Iterator

from zoo.family import Checkpoint, Family, Recipe, denoiser_graph
from zoo.graph import Graph
from zoo.networks.unet import UNet, UNetConfig
from zoo.request import GeneratorSpec, Sampling


def graphs(module: UNet, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (denoiser_graph(module, checkpoint.spec),)


def _spec(name: str, sampling: Sampling) -> GeneratorSpec:
    return GeneratorSpec(name, "diffusion", (1, 32, 32), (32, 32, 1), 10, sampling)


def _student(
    steps: int,
    teacher: str,
    substeps: int,
    images: int,
    minutes: float,
    *,
    first: str = "ddpm",
    config: UNetConfig | None = None,
    batch_size: int = 64,
) -> Checkpoint:
    """A progressive-distillation student of `steps` steps, each worth `substeps` DDIM steps of its teacher."""
    return Checkpoint(
        spec=_spec(f"{first}-pd{steps}", Sampling(samplers=("ddim",), num_steps=steps, steps=(steps,))),
        config=config or UNetConfig(),
        recipe=Recipe(
            "progressive_distillation",
            images=images,
            batch_size=batch_size,
            learning_rate=5e-4,
            ema_images=10_000,
            seed=steps,
            options={"steps": steps, "substeps": substeps},
            minutes=minutes,
        ),
        teacher=teacher,
        paper="Salimans & Ho 2022, arXiv:2202.00512",
        description=f"Progressive distillation to {steps} step{'s' if steps > 1 else ''}.",
        faults=(
            "Behind its teacher at 20 steps; fewer steps are smoother, and a background pixel may be faintly lit.",
        ),
    )


SMALL = UNetConfig(channels=(16, 32, 64), embedding=64)


def _halvings() -> Iterator[Checkpoint]:
    """The paper's whole chain, from a small teacher's 1,024 steps to one: every halving is a checkpoint."""
    teacher = "ddpm-s"
    for exponent in reversed(range(10)):
        steps = 2**exponent
        images = 19_200 if steps > 16 else 25_600 if steps > 4 else 64_000 if steps > 1 else 96_000
        yield _student(steps, teacher, 2, images, images / 18_000, first="ddpm-s", config=SMALL, batch_size=128)
        teacher = f"ddpm-s-pd{steps}"


FLOW = Sampling("velocity", "linear", ("ddim", "heun", "dpmpp_2m"), num_steps=20, max_guidance_scale=8.0)

CHECKPOINTS = (
    Checkpoint(
        spec=_spec("ddpm", Sampling(num_steps=50, max_guidance_scale=8.0)),
        config=UNetConfig(),
        recipe=Recipe("diffusion", images=640_000, learning_rate=1.5e-3, minutes=60.0, options={"class_dropout": 0.1}),
        paper="Ho et al. 2020, arXiv:2006.11239",
        description="The diffusion teacher: v-prediction on the cosine schedule, class-conditional with guidance.",
        faults=("Some bags, sandals and printed shirts are torn or speckled: the network is small and saw ten epochs",),
    ),
    _student(4, "ddpm", substeps=6, images=480_000, minutes=60.0),
    _student(2, "ddpm-pd4", substeps=2, images=112_000, minutes=15.0),
    _student(1, "ddpm-pd2", substeps=2, images=112_000, minutes=15.0),
    Checkpoint(
        spec=_spec("ddpm-s", Sampling(num_steps=50, max_guidance_scale=8.0)),
        config=SMALL,
        recipe=Recipe("diffusion", images=480_000, learning_rate=2e-3, minutes=17.0, options={"class_dropout": 0.1}),
        paper="Ho et al. 2020, arXiv:2006.11239",
        description="A teacher of a quarter of the size, from which the whole chain of progressive distillation comes.",
    ),
    *_halvings(),
    Checkpoint(
        spec=_spec("ddpm-cd", Sampling(samplers=("consistency",), num_steps=2, steps=(1, 2, 3, 4))),
        config=UNetConfig(),
        recipe=Recipe(
            "consistency_distillation",
            images=96_000,
            batch_size=64,
            learning_rate=2e-4,
            ema_images=10_000,
            seed=5,
            options={"grid": 18},
            minutes=20.0,
        ),
        teacher="ddpm",
        paper="Song et al. 2023, arXiv:2303.01469",
        description="Consistency distillation: any point of a trajectory maps to its end, in one or two steps.",
        faults=("Speckled textures; more steps gain little, four score worse than three in the critic's features.",),
    ),
    Checkpoint(
        spec=_spec("fm", FLOW),
        config=UNetConfig(),
        recipe=Recipe(
            "diffusion", images=320_000, learning_rate=1.5e-3, seed=30, options={"class_dropout": 0.1}, minutes=25.0
        ),
        paper="Lipman et al. 2023, arXiv:2210.02747; Liu et al. 2023, arXiv:2209.03003",
        description="Flow matching on straight paths from noise to pictures, class-conditional with guidance.",
        faults=(
            "Some bags, sandals and printed shirts are torn or speckled, a few shoes fade: it saw five epochs.",
            "One step gives the mean picture of a class.",
        ),
    ),
)

FAMILY = Family(build=UNet, graphs=graphs, checkpoints=CHECKPOINTS)
