"""The grammar of the portraits' captions: six styles of DiceBear, what may vary in each, and the word for it.

A caption is the style's word, then one word an attribute in the order listed, a part that is absent giving none, the
background last: "critter blue dome horns wink smile on red". What is listed here and only that moves pixels; parts that
a caption could name and nobody could see are left out, and everything else of a style is held fixed.

The designs are CC0 1.0; `credit` is the text that each style's file asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ABSENT = "none"  # the value of a part that is not drawn, for which a caption has no word
GROUND = "on"  # the background, the one attribute whose word stands behind another


@dataclass(frozen=True)
class Attribute:
    """What varies: `values` are the words, and what the option of that name is set to for each, "" for an absence."""

    name: str
    option: str
    values: Mapping[str, str]

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(self.values)


@dataclass(frozen=True)
class Style:
    """One design. `held_out` are two pairs of attributes by which the split is made; `fixed` what never varies."""

    name: str
    word: str
    credit: str
    fixed: Mapping[str, Any]
    held_out: tuple[tuple[str, str], tuple[str, str]]
    attributes: tuple[Attribute, ...]

    def attribute(self, name: str) -> Attribute:
        return next(each for each in self.attributes if each.name == name)

    def is_named(self, attribute: Attribute) -> bool:
        """Whether its word alone may be another's: "red" of hair and of a shirt, where their order does not tell."""
        others = {word for each in self.attributes if each.name not in (attribute.name, GROUND) for word in each.words}
        return attribute.name != GROUND and not others.isdisjoint({*attribute.words} - {ABSENT})


def listed(name: str, option: str, values: str) -> Attribute:
    """From "word=value word=value ...", nothing behind the sign for an absence."""
    return Attribute(name, option, dict(each.split("=") for each in values.split()))


BODY_COLORS = (
    "blue=#7dd3fc purple=#c4b5fd pink=#f0abfc red=#fca5a5 orange=#fdba74 yellow=#fcd34d lime=#bef264 teal=#5eead4 "
    "white=#e2e8f0"
)
GROUND_COLORS = "blue=#1d4ed8 purple=#6d28d9 red=#be123c orange=#c2410c green=#047857 black=#1e293b"

STYLES = (
    Style(
        "critters",
        "critter",
        "„Critters” (https://www.dicebear.com) by „DiceBear”",
        {"patternProbability": 0, "cheeksProbability": 0, "animationVariant": ["none"]},
        (("color", "shape"), ("eyes", "mouth")),
        (
            listed("color", "bodyColor", BODY_COLORS),
            listed("shape", "bodyVariant", "dome=dome block=block tower=tower blob=blob peak=peak ball=round"),
            listed(
                "top",
                "topVariant",
                "horns=horns antennae=antennae ears=earsRound spikes=spikes crown=crown bobble=bobble none=",
            ),
            listed(
                "eyes",
                "eyesVariant",
                "big=bigPupils happy=happy wink=wink closed=closedLine angry=angry cyclops=mono three=trio",
            ),
            listed("mouth", "mouthVariant", "smile=smile frown=frown teeth=teeth ooh=ooh tongue=tongue zigzag=zigzag"),
            listed("on", "backgroundColor", GROUND_COLORS),
        ),
    ),
    Style(
        "sprouts",
        "potplant",
        "„Sprouts” (https://www.dicebear.com) by „DiceBear”",
        {
            "patternProbability": 0,
            "cheeksProbability": 0,
            "animationVariant": ["none"],
            "plantColor": ["#4ade80"],
            "bloomColor": ["#f9a8d4"],
        },
        (("color", "plant"), ("eyes", "mouth")),
        (
            listed("color", "potColor", BODY_COLORS),
            listed("pot", "potVariant", "taper=taper bowl=bowl cylinder=cylinder bag=bag"),
            listed(
                "plant",
                "plantVariant",
                "leaf=sprout cactus=cactus bush=bush flower=flower tulip=tulip palm=palm grass=grass",
            ),
            listed("eyes", "eyesVariant", "big=bigPupils happy=happy wink=wink closed=closedLine angry=angry"),
            listed("mouth", "mouthVariant", "smile=smile frown=frown ooh=ooh tongue=tongue"),
            listed("on", "backgroundColor", GROUND_COLORS),
        ),
    ),
    Style(
        "moods",
        "mood",
        "„Moods” (https://www.dicebear.com) by „DiceBear”",
        {"animationVariant": ["none"]},
        (("color", "shape"), ("eyes", "mouth")),
        (
            listed("color", "faceColor", BODY_COLORS),
            listed(
                "shape", "faceVariant", "circle=circle square=softSquare hexagon=hexagon wide=wide tall=tall bean=bean"
            ),
            listed(
                "eyes", "eyesVariant", "big=bigPupils happy=happy wink=wink closed=closed angry=angry squint=squint"
            ),
            listed(
                "mouth",
                "mouthVariant",
                "smile=smile frown=frown teeth=teeth gasp=gasp tongue=tongue wavy=wavy laugh=laugh",
            ),
            listed("cheeks", "cheeksVariant", "blush=blush none="),
            listed("on", "backgroundColor", GROUND_COLORS),
        ),
    ),
    Style(
        "planets",
        "planet",
        "„Planets” (https://www.dicebear.com) by „DiceBear”",
        {
            "animationVariant": ["none"],
            "shadeVariant": ["soft"],
            "backgroundColor": ["#17233f"],
            "moonColor": ["#d3d7e2"],
        },
        (("color", "surface"), ("surface", "ring")),
        (
            listed(
                "color",
                "planetColor",
                "red=#e27a8c orange=#d88a40 yellow=#c1982a lime=#9fa63b green=#39b789 teal=#00b1cf blue=#7a9bef "
                "purple=#c083d2",
            ),
            listed(
                "surface", "surfaceVariant", "banded=banded cratered=cratered swirl=swirl terra=terra cap=cap none="
            ),
            listed("ring", "ringVariant", "thin=thin bold=bold none="),
            listed("moons", "moonsVariant", "moon=one moons=two none="),
        ),
    ),
    Style(
        "voxel-art",
        "voxel",
        "„Voxel Art” (https://www.dicebear.com) by „DiceBear”",
        {
            "animationVariant": ["none"],
            "cheeksProbability": 0,
            "eyebrowsProbability": 0,
            "mouthVariant": ["smile"],
            "eyesVariant": ["open"],
            "noseVariant": ["block"],
            "pantsColor": ["#3b5b8c"],
            "shoesColor": ["#343a40"],
            "jacketColor": ["#f8f9fa"],
            "hatColor": ["#f2f2f2"],
            "backgroundColor": ["#b6e3f4"],
        },
        (("hair", "top"), ("shirt", "outfit")),
        (
            listed("skin", "skinColor", "light=#f5d0b0 tan=#dda878 bronze=#b07347 deep=#6a3d1f"),
            listed(
                "hair",
                "hairColor",
                "black=#2c222b brown=#7b4a2d blond=#d9b380 red=#d6455d purple=#6d5acf green=#3fb27f",
            ),
            listed(
                "top",
                "topVariant",
                "short=short spiky=spiky afro=afro mohawk=mohawk bob=bob long=longStraight buns=buns tails=twinTails",
            ),
            listed(
                "shirt",
                "shirtColor",
                "pink=#e64980 orange=#f76707 yellow=#fab005 green=#40c057 blue=#228be6 gray=#495057",
            ),
            listed("outfit", "outfitVariant", "plain=plain stripes=stripes overalls=overalls tie=tie"),
            listed("glasses", "glassesVariant", "shades=shades none="),
            listed("beard", "beardVariant", "beard=full none="),
        ),
    ),
    Style(
        "open-peeps",
        "peep",
        "Remix of „Open Peeps” (https://www.openpeeps.com/) by „Pablo Stanley”",
        {"maskProbability": 0},
        (("hair", "top"), ("skin", "shirt")),
        (
            listed("skin", "skinColor", "light=#ffdbb4 tan=#edb98a bronze=#ae5d29 deep=#694d3d"),
            listed("hair", "headContrastColor", "black=#2c1b18 brown=#724133 blond=#d6b370 red=#c93305 white=#e8e1e1"),
            listed(
                "top",
                "headVariant",
                "bun=grayBun bangs=bangs mohawk=mohawk short=grayShort bob=grayMedium curly=mediumBangs2 quiff=short4",
            ),
            listed("face", "expressionVariant", "smile=smileBig rage=rage awe=awe calm=calm cyclops=cyclops"),
            listed(
                "shirt",
                "clothingColor",
                "blue=#8fa7df green=#78e185 orange=#ffcf77 pink=#e279c7 red=#e78276 yellow=#fdea6b",
            ),
            listed("glasses", "accessoriesVariant", "glasses=glasses2 shades=sunglasses none="),
            listed("beard", "facialHairVariant", "beard=full none="),
        ),
    ),
)
LICENCE = "CC0-1.0"  # of each of the six designs

BY_WORD = {style.word: style for style in STYLES}


def vocabulary(styles: Sequence[Style]) -> tuple[str, ...]:
    """The style's words, those of all values, and that of the background."""
    values = (word for style in styles for attribute in style.attributes for word in attribute.words)
    return tuple(sorted({GROUND, *(style.word for style in styles), *values} - {ABSENT}))


WORDS = vocabulary(STYLES)
