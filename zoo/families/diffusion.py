"""Pixel diffusion and flow matching: two teachers and their few-step students, one network under different training.

Sources: Ho et al. 2020 (DDPM); Song et al. 2021 (DDIM); Salimans & Ho 2022 (v-prediction, progressive distillation);
Song et al. 2023 (consistency distillation); Song & Dhariwal 2024 (consistency training); Geng et al. 2024 (consistency
tuning); Yin et al. 2024 (distribution matching); Lipman et al. 2023, Liu et al. 2023 (flow matching, rectified); Geng
et al. 2025 (mean flow).
"""

from __future__ import annotations

from collections.abc import Iterator

from zoo.contract.graph import Graph
from zoo.contract.request import Setting
from zoo.contract.spec import GeneratorSpec, Sampling
from zoo.family import Branch, Checkpoint, Family, Recipe, System, class_conditional, denoiser_graph
from zoo.networks.unet import UNet, UNetConfig

DATASET = "fashion_mnist"  # of every checkpoint here


def graphs(module: UNet, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (denoiser_graph(module, checkpoint.spec),)


def _spec(name: str, sampling: Sampling) -> GeneratorSpec:
    return class_conditional(name, "diffusion", (1, 32, 32), (32, 32, 1), 10, sampling)


PROGRESSIVE_DISTILLATION = {  # what the paper reports by number of steps
    steps: f"CIFAR-10 FID {fid:.2f} in {steps}" for steps, fid in ((8, 2.57), (4, 3.00), (2, 4.51), (1, 9.12))
}
SMOOTH = "Behind its teacher at 20 steps; fewer steps are smoother, and a background pixel may be faintly lit."


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
    fault: str = SMOOTH,
) -> Checkpoint:
    """A progressive-distillation student of `steps` steps, each worth `substeps` DDIM steps of its teacher."""
    return Checkpoint(
        spec=_spec(f"{first}-pd{steps}", Sampling(samplers=("ddim",), num_steps=steps, steps=(steps,))),
        dataset=DATASET,
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
        faults=(fault,),
        systems=(
            System(
                "Progressive distillation" if first == "ddpm" else "Progressive distillation, small",
                Branch.FEW_STEPS,
                "Salimans & Ho 2022, arXiv:2202.00512",
                PROGRESSIVE_DISTILLATION[steps],
            ),
        )
        if steps in PROGRESSIVE_DISTILLATION
        else (),  # a step on the way to those
    )


def _score_identity(name: str, title: str, paper: str, reported: str, adversary: float) -> Checkpoint:
    """Score identity distillation in one step, begun where `ddpm-dmd` began."""
    return Checkpoint(
        spec=_spec(name, Sampling(samplers=("consistency",), num_steps=1, steps=(1,))),
        dataset=DATASET,
        config=UNetConfig(),
        recipe=Recipe(
            "score_identity",
            images=20_000,
            batch_size=64,
            learning_rate=1e-4,
            ema_images=4_000,
            seed=48,
            options={"steps": [1], "start": "ddpm-cd", "fake_updates": 2, "fake_learning_rate": 5e-4, "alpha": 1.0}
            | ({"adversary": adversary, "discriminator_rate": 2e-4, "r1": 0.02, "r1_interval": 8} if adversary else {}),
            minutes=15.0,
        ),
        teacher="ddpm",
        paper=paper,
        description="Score identity distillation in one step, begun from `ddpm-cd`"
        + (": with real pictures, by way of an adversary." if adversary else ": no real picture is seen."),
        faults=("Some sandals, bags and dark clothes are torn, prints are rougher than real ones.",),
        systems=(System(title, Branch.FEW_STEPS, paper, reported),),
    )


SMALL = UNetConfig(channels=(16, 32, 64), embedding=64)


def _halvings() -> Iterator[Checkpoint]:
    """The paper's whole chain, from a small teacher's 1,024 steps to one: every halving is a checkpoint."""
    teacher = "ddpm-s"
    for exponent in reversed(range(10)):
        steps = 2**exponent
        images = 19_200 if steps > 16 else 25_600 if steps > 4 else 64_000 if steps > 1 else 96_000
        yield _student(
            steps,
            teacher,
            2,
            images,
            images / 18_000,
            first="ddpm-s",
            config=SMALL,
            batch_size=128,
            fault="What its small teacher tears is torn here too: bags, sandals and prints.",
        )
        teacher = f"ddpm-s-pd{steps}"


FLOW = Sampling("velocity", "linear", ("ddim", "heun", "dpmpp_2m"), num_steps=20, max_guidance_scale=8.0)

CHECKPOINTS = (
    Checkpoint(
        spec=_spec("ddpm", Sampling(num_steps=50, max_guidance_scale=8.0)),
        dataset=DATASET,
        config=UNetConfig(),
        recipe=Recipe("diffusion", images=640_000, learning_rate=1.5e-3, minutes=60.0, options={"class_dropout": 0.1}),
        paper="Ho et al. 2020, arXiv:2006.11239",
        description="The diffusion teacher: v-prediction on the cosine schedule, class-conditional with guidance.",
        faults=(
            "Some bags, sandals and printed shirts are torn or speckled: the network is small and saw ten epochs.",
        ),
        systems=(
            System(
                "DDPM",
                Branch.DIFFUSION,
                "Ho et al. 2020, arXiv:2006.11239",
                "CIFAR-10 FID 3.17 in 1,000 steps",
                setting=Setting(1000, "ddpm"),
            ),
            System("DDIM", Branch.DIFFUSION, "Song et al. 2021, arXiv:2010.02502", "CIFAR-10 FID 4.67 in 50 steps"),
            System(
                "Heun's method",
                Branch.DIFFUSION,
                "Karras et al. 2022, arXiv:2206.00364",
                "CIFAR-10 FID 1.97 in 35 calls",
                setting=Setting(18, "heun"),
            ),
            System(
                "DPM-Solver++", Branch.DIFFUSION, "Lu et al. 2022, arXiv:2211.01095", setting=Setting(10, "dpmpp_2m")
            ),
            System(
                "Classifier-free guidance",
                Branch.DIFFUSION,
                "Ho & Salimans 2022, arXiv:2207.12598",
                "ImageNet 128 FID 2.43",
                setting=Setting(20, guidance_scale=2.0),
            ),
        ),
    ),
    _student(4, "ddpm", substeps=6, images=480_000, minutes=60.0),
    _student(2, "ddpm-pd4", substeps=2, images=112_000, minutes=15.0),
    _student(1, "ddpm-pd2", substeps=2, images=112_000, minutes=15.0),
    Checkpoint(
        spec=_spec("ddpm-s", Sampling(num_steps=50, max_guidance_scale=8.0)),
        dataset=DATASET,
        config=SMALL,
        recipe=Recipe("diffusion", images=480_000, learning_rate=2e-3, minutes=17.0, options={"class_dropout": 0.1}),
        paper="Ho et al. 2020, arXiv:2006.11239",
        description="A teacher of a quarter of the size, from which the whole chain of progressive distillation comes.",
        faults=("Many bags, sandals and prints are torn or speckled: it has a quarter of the parameters of `ddpm`.",),
    ),
    *_halvings(),
    Checkpoint(
        spec=_spec("ddpm-cd", Sampling(samplers=("consistency",), num_steps=2, steps=(1, 2, 3, 4))),
        dataset=DATASET,
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
        systems=tuple(
            System(
                "Consistency distillation",
                Branch.FEW_STEPS,
                "Song et al. 2023, arXiv:2303.01469",
                f"CIFAR-10 FID {fid} in {steps}",
                setting=Setting(steps),
            )
            for steps, fid in ((1, 3.55), (2, 2.93))
        ),
    ),
    Checkpoint(
        spec=_spec("fm", FLOW),
        dataset=DATASET,
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
        systems=(
            System(
                "Flow matching",
                Branch.DIFFUSION,
                "Lipman et al. 2023, arXiv:2210.02747",
                "CIFAR-10 FID 6.35 in 142 calls",
            ),
        ),
    ),
    Checkpoint(
        spec=_spec("fm-rect", Sampling("velocity", "linear", FLOW.samplers, num_steps=4)),
        dataset=DATASET,
        config=UNetConfig(),
        recipe=Recipe(
            "rectified_flow",
            images=120_000,
            batch_size=64,
            learning_rate=4e-4,
            ema_images=8_000,
            seed=32,
            options={"pairs": 12_000, "teacher_steps": 8, "teacher_sampler": "dpmpp_2m"},
            minutes=12.0,
        ),
        teacher="fm",
        paper="Liu et al. 2023, arXiv:2209.03003",
        description="Rectified flow: the paths of `fm` straightened, for fewer steps.",
        faults=(
            "It learnt from 12,000 pairs that `fm` made: sandals, bags and printed shirts are torn as there, or more.",
            "In one step surfaces are blotchy, the background is faintly speckled, and sandals dissolve.",
        ),
        systems=tuple(
            System(
                "Rectified flow",
                Branch.FEW_STEPS,
                "Liu et al. 2023, arXiv:2209.03003",
                reported,
                setting=Setting(steps),
            )
            for steps, reported in ((4, ""), (1, "CIFAR-10 FID 4.85 in 1, distilled too"))
        ),
    ),
    Checkpoint(
        spec=_spec(
            "fm-mean", Sampling("velocity", "linear", ("ddim",), num_steps=1, steps=(1, 2, 4), whole_steps=True)
        ),
        dataset=DATASET,
        config=UNetConfig(whole_steps=True),
        recipe=Recipe(
            "mean_flow",
            images=36_000,
            batch_size=64,
            learning_rate=3e-4,
            ema_images=4_000,
            seed=33,
            options={"apart": 0.5, "stretch": [0.5, 0.1], "moved": 0.8},
            minutes=20.0,
        ),
        teacher="fm",
        paper="Geng et al. 2025, arXiv:2505.13447",
        description=(
            "A mean flow, begun from the weights of `fm`: the average velocity over a whole step. Its weights are four "
            "fifths of the way from there to where training ended (Wortsman et al. 2022, arXiv:2109.01903)."
        ),
        faults=(
            "In one step sandals and bags dissolve, surfaces are blotchy, and the background is faintly speckled.",
            "In four steps sandals and bags are still torn: it saw half an epoch.",
        ),
        systems=(
            System("Mean flow", Branch.FEW_STEPS, "Geng et al. 2025, arXiv:2505.13447", "CIFAR-10 FID 2.92 in 1"),
        ),
    ),
    Checkpoint(
        spec=_spec("ddpm-ct", Sampling(samplers=("consistency",), num_steps=4, steps=(1, 2, 4))),
        dataset=DATASET,
        config=UNetConfig(),
        recipe=Recipe(
            "consistency_training",
            images=96_000,
            batch_size=64,
            learning_rate=3e-4,
            ema_images=8_000,
            seed=6,
            options={"grid": [8, 32]},
            minutes=20.0,
        ),
        teacher="ddpm",
        paper="Song et al. 2023, arXiv:2303.01469; Song & Dhariwal 2024, arXiv:2310.14189",
        description="Consistency training: as `ddpm-cd`, but with no teacher's trajectory, only its first weights.",
        faults=(
            "Sandals and dark bags are torn, and the background of some pictures is faintly lit.",
            "One step is worse than that of consistency distillation.",
        ),
        systems=tuple(
            System(
                "Consistency training",
                Branch.FEW_STEPS,
                "Song & Dhariwal 2024, arXiv:2310.14189",
                reported,
                setting=Setting(steps),
            )
            for steps, reported in ((1, "CIFAR-10 FID 2.83 in 1"), (2, "CIFAR-10 FID 2.46 in 2"), (4, ""))
        ),
    ),
    Checkpoint(
        spec=_spec("ddpm-ect", Sampling(samplers=("consistency",), num_steps=2, steps=(1, 2, 4))),
        dataset=DATASET,
        config=UNetConfig(),
        recipe=Recipe(
            "consistency_tuning",
            images=96_000,
            batch_size=64,
            learning_rate=3e-4,
            ema_images=8_000,
            seed=46,
            options={"levels": [0.0, 2.0], "shrink": 2.0, "phases": 6},
            minutes=15.0,
        ),
        teacher="ddpm",
        paper="Geng et al. 2024, arXiv:2406.14548",
        description="Easy consistency tuning: the weights of `ddpm`, tuned from denoising towards consistency.",
        faults=(
            "In one step surfaces are speckled, and dark clothes, bags and sandals dissolve.",
            "In two steps some sandals and bags are still torn, and prints are rougher than real ones.",
        ),
        systems=tuple(
            System(
                "Easy consistency tuning",
                Branch.FEW_STEPS,
                "Geng et al. 2024, arXiv:2406.14548",
                f"CIFAR-10 FID {fid} in {steps}",
                setting=Setting(steps),
            )
            for steps, fid in ((1, 3.60), (2, 2.11))
        ),
    ),
    Checkpoint(
        spec=_spec("ddpm-dmd", Sampling(samplers=("consistency",), num_steps=1, steps=(1, 2, 4))),
        dataset=DATASET,
        config=UNetConfig(),
        recipe=Recipe(
            "distribution_matching",
            images=28_000,
            batch_size=64,
            learning_rate=1e-4,
            ema_images=4_000,
            seed=34,
            options={
                "steps": [1, 2, 4],
                "start": "ddpm-cd",
                "fake_updates": 2,
                "fake_learning_rate": 5e-4,
                "adversary": 0.02,
                "discriminator_rate": 2e-4,
                "r1": 0.02,
                "r1_interval": 8,
                "moved": 0.5,
            },
            minutes=20.0,
        ),
        teacher="ddpm",
        paper="Yin et al. 2024, arXiv:2311.18828, arXiv:2405.14867",
        description=(
            "Distribution matching under an adversary, begun from `ddpm-cd`: in one, two and four steps. Its weights "
            "are halfway from where training began to where it ended (Wortsman et al. 2022, arXiv:2109.01903)."
        ),
        faults=(
            "Each step adds contrast: in four, many clothes are lighter and plainer than real ones.",
            "In one step sandals and bags are torn, and the background is faintly speckled.",
        ),
        systems=tuple(
            System(
                "Distribution matching distillation",
                Branch.FEW_STEPS,
                "Yin et al. 2024, arXiv:2311.18828",
                reported,
                setting=Setting(steps),
            )
            for steps, reported in ((1, "ImageNet 64 FID 2.62 in 1"), (4, ""))
        ),
    ),
    Checkpoint(
        spec=_spec(
            "fm-imm", Sampling("velocity", "linear", ("ddim",), num_steps=4, steps=(1, 2, 4, 8), whole_steps=True)
        ),
        dataset=DATASET,
        config=UNetConfig(whole_steps=True),
        recipe=Recipe(
            "moment_matching",
            images=96_000,
            batch_size=64,
            learning_rate=3e-4,
            ema_images=6_000,
            seed=47,
            options={"particles": 4, "gap": [0.25, 0.05]},
            minutes=12.0,
        ),
        teacher="fm",
        paper="Zhou et al. 2025, arXiv:2503.07565",
        description="Inductive moment matching, begun from the weights of `fm`: whole steps, one to eight of them.",
        faults=(
            "In one step sandals and dark bags dissolve, surfaces are blotchy, and the background is faintly speckled.",
            "In eight steps some sandals, bags and printed clothes are still torn.",
        ),
        systems=tuple(
            System(
                "Inductive moment matching",
                Branch.FEW_STEPS,
                "Zhou et al. 2025, arXiv:2503.07565",
                reported,
                setting=Setting(steps),
            )
            for steps, reported in ((1, "CIFAR-10 FID 3.20 in 1"), (2, "CIFAR-10 FID 1.98 in 2"), (4, ""), (8, ""))
        ),
    ),
    _score_identity(
        "ddpm-sid",
        "Score identity distillation",
        "Zhou et al. 2024, arXiv:2404.04057",
        "CIFAR-10 FID 1.92 in 1",
        adversary=0.0,
    ),
    _score_identity(
        "ddpm-sida",
        "Adversarial score identity distillation",
        "Zhou et al. 2024, arXiv:2410.14919",
        "CIFAR-10 FID 1.50 in 1",
        adversary=0.02,
    ),
)

FAMILY = Family(build=UNet, graphs=graphs, checkpoints=CHECKPOINTS)
