"""Image translation: a picture, or a map of one, becomes another in one call.

Pix2Pix colours a drawing, BicycleGAN in many ways, CycleGAN turns day into night and back, SPADE paints a map, StarGAN
changes one thing of a face, InstaGAN puts other figures in the place of some. Each is a generator of
adversarial training; only what they see and which network looks at it differ.

Sources: Isola et al. 2017 (Pix2Pix); Zhu et al. 2017 (CycleGAN); Zhu et al. 2017 (BicycleGAN); Park et al. 2019
(SPADE); Choi et al. 2018 (StarGAN); Mo et al. 2019 (InstaGAN).

Shapes: B batch, C channels, H height, W width, L latent width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.contract.assets import EXAMPLE_ARRAYS
from zoo.contract.conditions import Condition, boxes, class_id, image, label_map
from zoo.contract.graph import Graph
from zoo.contract.spec import GeneratorSpec, Noise
from zoo.datasets import critters_and_plants, day_and_night, drawings, faces, scene_boxes, scene_maps, scenes
from zoo.datasets.portraits import SIZE
from zoo.family import Branch, Checkpoint, Family, Recipe, System
from zoo.images import to_images
from zoo.networks.layouts import LayoutPainter
from zoo.networks.translators import Retoucher, SpatialPainter, UNetTranslator

CHANNELS = 3  # of every picture here


@dataclass(frozen=True)
class TranslationConfig:
    """`network` is a word of NETWORKS. `classes` are those of a map's pixels, or of what a picture can be told.

    `channels` are widths: of a U-Net from the whole size down, of the others as their networks say.
    """

    network: str
    channels: tuple[int, ...]
    classes: int = 0
    latent: int = 0
    hidden: int = 0
    blocks: int = 0


class Colouring(nn.Module):
    """`pixels(picture)`: (B, C, H, W) in [-1, 1] -> the same."""

    def __init__(self, config: TranslationConfig) -> None:
        super().__init__()
        self.unet = UNetTranslator(CHANNELS, CHANNELS, config.channels)

    def pixels(self, picture: Tensor) -> Tensor:
        return cast(Tensor, self.unet(picture))


class VariedColouring(nn.Module):
    """`pixels(noise, picture)`: (B, 1, L), (B, C, H, W) in [-1, 1] -> the same, of which there are many."""

    def __init__(self, config: TranslationConfig) -> None:
        super().__init__()
        self.mapping = nn.Sequential(nn.Linear(config.latent, config.hidden), nn.LeakyReLU(0.2))
        self.unet = UNetTranslator(CHANNELS, CHANNELS, config.channels, config.hidden)

    def pixels(self, noise: Tensor, picture: Tensor) -> Tensor:
        return cast(Tensor, self.unet(picture, self.mapping(noise[:, 0])))


class BothWays(nn.Module):
    """`pixels(picture, to)`: (B, C, H, W) in [-1, 1], (B, 1) int64, 0 or 1 -> the picture as the other kind.

    A network of its own for each way; who asks for one way only takes `towards`.
    """

    def __init__(self, config: TranslationConfig) -> None:
        super().__init__()
        small, half, wide = config.channels
        shape = (CHANNELS, (small, half, wide), config.blocks)
        self.ways = nn.ModuleList(Retoucher(*shape) for _ in range(config.classes))

    def towards(self, kind: int, picture: Tensor) -> Tensor:
        return cast(Tensor, self.ways[kind](picture))

    def pixels(self, picture: Tensor, to: Tensor) -> Tensor:
        first, second = (self.towards(kind, picture) for kind in range(len(self.ways)))
        return torch.where(to[:, :, None, None] == 0, first, second)


class Painting(nn.Module):
    """`pixels(noise, classes)`: (B, 1, L), (B, H, W) int64 -> (B, C, H, W) in [-1, 1]."""

    def __init__(self, config: TranslationConfig) -> None:
        super().__init__()
        sizes = (SIZE, CHANNELS, config.channels, config.classes, config.latent, config.hidden)
        self.painter = SpatialPainter(*sizes)

    def pixels(self, noise: Tensor, classes: Tensor) -> Tensor:
        return cast(Tensor, self.painter(noise[:, 0], classes))


class Arranging(nn.Module):
    """`pixels(noise, boxes, labels)`: (B, 1, O, L), (B, O, 4), (B, O) int64 -> (B, C, H, W) in [-1, 1]."""

    def __init__(self, config: TranslationConfig) -> None:
        super().__init__()
        sizes = (SIZE, CHANNELS, config.channels, config.classes, config.latent, config.hidden)
        self.painter = LayoutPainter(*sizes)

    def pixels(self, noise: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        return cast(Tensor, self.painter(noise[:, 0], boxes, labels))


class Retouching(nn.Module):
    """`pixels(picture, change)`: (B, C, H, W) in [-1, 1], (B, 1) int64 -> the picture with that one thing changed."""

    def __init__(self, config: TranslationConfig) -> None:
        super().__init__()
        self.classes = config.classes
        small, half, wide = config.channels
        self.retoucher = Retoucher(CHANNELS, (small, half, wide), config.blocks, config.classes)

    def pixels(self, picture: Tensor, change: Tensor) -> Tensor:
        return cast(Tensor, self.retoucher(picture, F.one_hot(change[:, 0], self.classes).to(picture.dtype)))


class Replacing(nn.Module):
    """`pixels(picture, figures)`: (B, C, H, W) in [-1, 1], (B, H, W) int64 -> the picture with other figures.

    Each number from 1 on is one figure; they are turned one after another (Mo et al. 2019, section 2.3). A network of
    its own for each way, that sees a figure's mask beside the picture and turns both (`turned`).
    """

    def __init__(self, config: TranslationConfig) -> None:
        super().__init__()
        small, half, wide = config.channels
        shape = (CHANNELS + 1, (small, half, wide), config.blocks)
        self.most = config.classes - 1
        self.ways = nn.ModuleList(Retoucher(*shape) for _ in range(2))

    def turned(self, way: int, picture: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W), (B, 1, H, W), 1 where the figure is and -1 elsewhere -> the same of the other figure."""
        made = cast(Tensor, self.ways[way](torch.cat([picture, mask], dim=1)))
        return made[:, :CHANNELS], made[:, CHANNELS:]

    def pixels(self, picture: Tensor, figures: Tensor) -> Tensor:
        for number in range(1, self.most + 1):
            inside = (figures == number).to(picture.dtype)[:, None]
            there = inside.amax((1, 2, 3), keepdim=True)
            picture = torch.where(there > 0.0, self.turned(0, picture, 2.0 * inside - 1.0)[0], picture)
        return picture


NETWORKS: Mapping[str, Callable[[TranslationConfig], nn.Module]] = {
    "colouring": Colouring,
    "varied_colouring": VariedColouring,
    "both_ways": BothWays,
    "painting": Painting,
    "arranging": Arranging,
    "retouching": Retouching,
    "replacing": Replacing,
}


class Translator(nn.Module):
    """`forward` of what the network takes, in the order of the graph's inputs -> uint8 NHWC [0, 255]."""

    def __init__(self, config: TranslationConfig) -> None:
        super().__init__()
        self.network = NETWORKS[config.network](config)

    def pixels(self, *given: Tensor) -> Tensor:
        return cast(Tensor, self.network.pixels(*given))  # type: ignore[operator]

    def forward(self, *given: Tensor) -> Tensor:
        return cast(Tensor, to_images(self.pixels(*given)))


def graphs(module: Translator, checkpoint: Checkpoint) -> tuple[Graph, ...]:
    return (Graph("generator", module, checkpoint.spec.inputs, checkpoint.spec.outputs),)


def assets(checkpoint: Checkpoint) -> dict[str, bytes]:
    """What it is shown when nobody shows it anything: held-out pictures, drawn here. Raises DatasetError."""
    return {EXAMPLE_ARRAYS: save(EXAMPLES[checkpoint.config.network]())}


def _drawings() -> dict[str, np.ndarray]:
    """In pencil and in ink by turns."""
    _, pictures = drawings.examples(24)
    shown = drawings.pencilled(pictures)
    shown[1::2] = drawings.inked(pictures[1::2])
    return {"image": shown}


def _ink() -> dict[str, np.ndarray]:
    return {"image": drawings.inked(drawings.examples(24)[1])}


def _hours() -> dict[str, np.ndarray]:
    """By night and by day in turn, as the seed's turn asks for the other."""
    shown, by_night, _ = day_and_night.pairs(24)
    shown[::2] = by_night[::2]
    return {"image": shown}


def _maps() -> dict[str, np.ndarray]:
    return {scene_maps.MAP: scene_maps.examples(24)[1]}


def _boxes() -> dict[str, np.ndarray]:
    return {scene_boxes.BOXES: scene_boxes.examples(24)[1]}


def _faces() -> dict[str, np.ndarray]:
    """As many as share no divisor with the changes, so that in turn each meets every one."""
    shown = zip(faces.examples(), range(25), strict=False)
    return {"image": np.stack([faces.altered(face, seed, 0)[0] for (face, seed), _ in shown])}


def _critters() -> dict[str, np.ndarray]:
    shown, figures, *_ = critters_and_plants.examples(24)
    return {"image": shown, critters_and_plants.FIGURES: figures}


EXAMPLES: Mapping[str, Callable[[], dict[str, np.ndarray]]] = {
    "colouring": _drawings,
    "varied_colouring": _ink,
    "both_ways": _hours,
    "painting": _maps,
    "arranging": _boxes,
    "retouching": _faces,
    "replacing": _critters,
}
PICTURE = Condition("image", "image", image.Options(SIZE, SIZE))

PIX2PIX = Checkpoint(
    spec=GeneratorSpec("pix2pix", "translation", (), (SIZE, SIZE, CHANNELS), (PICTURE,)),
    config=TranslationConfig("colouring", (24, 48, 96, 160, 232)),
    dataset="drawings",
    recipe=Recipe(
        "paired_translation",
        images=48_000,
        batch_size=32,
        learning_rate=1e-3,
        ema_images=5_000,
        seed=51,
        options={"distance": 10.0, "inked": 0.33},
        minutes=12.0,
    ),
    paper="Isola et al. 2017, arXiv:1611.07004",
    description=(
        "Pix2Pix: a line drawing in coloured pencil becomes a picture; of one in black ink it guesses the colours."
    ),
    faults=(
        "In ink most figures come out pale pink or peach before dark blue, blotched with a second colour.",
        "In pencil flat areas are faintly blotched, white bodies are lilac, and stars, rings and stripes smudged.",
        "Faces of peeps and of voxel people are speckled.",
    ),
    systems=(
        System(
            "Pix2Pix",
            Branch.TRANSLATION,
            "Isola et al. 2017, arXiv:1611.07004",
            "Cityscapes labels to photo: per-pixel accuracy 0.66 of a segmenter",
        ),
    ),
)

SPADE = Checkpoint(
    spec=GeneratorSpec(
        "spade",
        "translation",
        (Noise("noise", (64,)),),
        (SIZE, SIZE, CHANNELS),
        (Condition(scene_maps.MAP, "label_map", label_map.Options(SIZE, SIZE, len(scene_maps.CLASSES))),),
    ),
    config=TranslationConfig("painting", (128, 128, 64, 40, 24), classes=len(scene_maps.CLASSES), latent=64, hidden=16),
    dataset="scene_maps",
    recipe=Recipe(
        "paired_translation",
        images=19_200,
        batch_size=16,
        learning_rate=1e-3,
        ema_images=5_000,
        seed=52,
        options={"distance": 5.0, "mirrored": True},
        minutes=12.0,
    ),
    paper="Park et al. 2019, arXiv:1903.07291",
    description=(
        "SPADE: a map of sky, hills and figures becomes a scene: what is told is where everything is, of which kind "
        "and colour."
    ),
    faults=(
        "Faces, of which a map says nothing, are a scramble of bright and dark dots, and small plants broken.",
        "Another seed changes hardly anything: a distance to one picture teaches the generator to ignore its noise.",
        "Surfaces have a faint grid, figures a pale or dark rim.",
    ),
    systems=(
        System("SPADE", Branch.TRANSLATION, "Park et al. 2019, arXiv:1903.07291", "COCO-Stuff FID 22.6, mIoU 37.4"),
    ),
)

BICYCLEGAN = Checkpoint(
    spec=GeneratorSpec("bicyclegan", "translation", (Noise("noise", (16,)),), (SIZE, SIZE, CHANNELS), (PICTURE,)),
    config=TranslationConfig("varied_colouring", (24, 48, 96, 128, 160), latent=16, hidden=64),
    dataset="drawings",
    recipe=Recipe(
        "bicycle_translation",
        images=32_000,
        batch_size=16,
        learning_rate=7e-4,
        ema_images=5_000,
        seed=54,
        options={"distance": 10.0, "divergence": 0.05, "latent": 1.0},
        minutes=12.0,
    ),
    paper="Zhu et al. 2017, arXiv:1711.11586",
    description="BicycleGAN: a line drawing in black ink becomes a picture in other colours for every seed.",
    faults=(
        "Nearly every second colouring is torn: specks and fringes of other colours, most in pot plants and planets.",
        "Colours run from a figure into the ground beside it, and bright grounds are cloudy.",
        "People take another colour in spots only, and voxel people are torn.",
    ),
    systems=(
        System(
            "BicycleGAN",
            Branch.TRANSLATION,
            "Zhu et al. 2017, arXiv:1711.11586",
            "map to satellite photo: 34.3 % taken for real, LPIPS 0.11 between samples",
        ),
    ),
)

CYCLEGAN = Checkpoint(
    spec=GeneratorSpec(
        "cyclegan",
        "translation",
        (),
        (SIZE, SIZE, CHANNELS),
        (PICTURE, Condition(day_and_night.TO, "class_id", class_id.Options(len(day_and_night.HOURS)))),
    ),
    config=TranslationConfig("both_ways", (16, 32, 64), classes=len(day_and_night.HOURS), blocks=3),
    dataset="day_and_night",
    recipe=Recipe(
        "cycle_translation",
        images=12_000,
        batch_size=8,
        learning_rate=7e-4,
        ema_images=3_000,
        seed=55,
        options={"cycle": 10.0, "identity": 5.0},
        minutes=12.0,
    ),
    paper="Zhu et al. 2017, arXiv:1703.10593",
    description=(
        "CycleGAN: a scene by day becomes the same by night, and one by night the same by day, learnt from scenes of "
        "both hours of which no two are of one landscape."
    ),
    faults=(
        "Figures have a bright rim by night and a ghost of it by day; planets lose their rings and stars.",
        "White figures get a dark or a brown patch by night.",
        "The ground has a faint grid, and the border between sky and far hills is pale.",
    ),
    systems=(
        System(
            "CycleGAN",
            Branch.TRANSLATION,
            "Zhu et al. 2017, arXiv:1703.10593",
            "Cityscapes labels to photo: per-pixel accuracy 0.52 of a segmenter",
        ),
    ),
)

STARGAN = Checkpoint(
    spec=GeneratorSpec(
        "stargan",
        "translation",
        (),
        (SIZE, SIZE, CHANNELS),
        (PICTURE, Condition(faces.CHANGE, "class_id", class_id.Options(len(faces.CHANGES)))),
    ),
    config=TranslationConfig("retouching", (16, 32, 64), classes=len(faces.CHANGES), blocks=3),
    dataset="faces",
    recipe=Recipe(
        "star_translation",
        images=28_000,
        batch_size=16,
        learning_rate=1e-3,
        ema_images=5_000,
        seed=53,
        options={"cycle": 8.0, "told": 3.0},
        minutes=12.0,
    ),
    paper="Choi et al. 2018, arXiv:1711.09020",
    description=(
        "StarGAN: a face becomes the same with another colour of hair or of skin, learnt without a pair of "
        "pictures, by one network for all changes."
    ),
    faults=(
        "It paints a blurred patch of the new colour, no larger than tells the critic: most hair and much skin keep "
        "their colour.",
        "From light to deep skin and from dark to blond hair the patch is grey or has a foreign hue.",
    ),
    systems=(
        System(
            "StarGAN",
            Branch.TRANSLATION,
            "Choi et al. 2018, arXiv:1711.09020",
            "RaFD: 2.12 % of expressions mistaken by a classifier",
        ),
    ),
)

LOSTGAN = Checkpoint(
    spec=GeneratorSpec(
        "lostgan",
        "translation",
        (Noise("noise", (scene_boxes.MOST, 32)),),
        (SIZE, SIZE, CHANNELS),
        (Condition(scene_boxes.BOXES, "boxes", boxes.Options(scene_boxes.MOST, len(scene_boxes.LABELS))),),
    ),
    config=TranslationConfig(
        "arranging", (128, 128, 96, 48, 24), classes=len(scene_boxes.LABELS), latent=32, hidden=64
    ),
    dataset="scene_boxes",
    recipe=Recipe(
        "layout",
        images=24_000,
        batch_size=16,
        learning_rate=7e-4,
        ema_images=5_000,
        seed=56,
        options={"boxes": 1.0, "distance": 2.0},
        minutes=12.0,
    ),
    paper="Sun & Wu 2019, arXiv:1908.07500",
    description="LostGAN: boxes, each with an hour or with a figure's kind and colour, become a scene.",
    faults=(
        "Faces of critters are a scramble of bright and dark dots, their horns and the plants of pots are smudged.",
        "Planets have no rings and no stars beside them.",
        "Another seed changes hardly anything: a distance to one picture teaches the generator to ignore its noise.",
    ),
    systems=(
        System(
            "LostGAN", Branch.TRANSLATION, "Sun & Wu 2019, arXiv:1908.07500", "COCO-Stuff 64x64 FID 34.3, score 9.8"
        ),
    ),
)

INSTAGAN = Checkpoint(
    spec=GeneratorSpec(
        "instagan",
        "translation",
        (),
        (SIZE, SIZE, CHANNELS),
        (PICTURE, Condition(critters_and_plants.FIGURES, "label_map", label_map.Options(SIZE, SIZE, 1 + scenes.MOST))),
    ),
    config=TranslationConfig("replacing", (16, 24, 40), classes=1 + scenes.MOST, blocks=2),
    dataset="critters_and_plants",
    recipe=Recipe(
        "instance_translation",
        images=7_000,
        batch_size=8,
        learning_rate=1.5e-3,
        ema_images=1_500,
        seed=59,
        options={"cycle": 1.0, "around": 10.0},
        minutes=12.0,
    ),
    paper="Mo et al. 2019, arXiv:1812.10889",
    description=(
        "InstaGAN: critters of a scene become pot plants, each by its mask, learnt from scenes with critters and "
        "others with pot plants of which no two are a pair; all that is not masked is kept."
    ),
    faults=(
        "Hardly any critter becomes a pot plant: it keeps outline and face, and gets a green top, another shade "
        "and a striped rim.",
        "Around each figure is a faint glow.",
    ),
    systems=(System("InstaGAN", Branch.TRANSLATION, "Mo et al. 2019, arXiv:1812.10889"),),
)

CHECKPOINTS = (PIX2PIX, BICYCLEGAN, CYCLEGAN, SPADE, LOSTGAN, STARGAN, INSTAGAN)

FAMILY = Family(build=Translator, graphs=graphs, checkpoints=CHECKPOINTS, assets=assets)
