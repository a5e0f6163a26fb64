"""The grammar of twelve designs: the six of portrait_styles.py and six more, each looked at in 64 pixels.

Left out is what the eye does not find at that size: mouths of robots and of pixel people, heads of shadows.
"""

from __future__ import annotations

from zoo.datasets.portrait_styles import GROUND_COLORS, STYLES, Style, listed, vocabulary

CALM = {"animationVariant": ["none"]}
PALE_GROUND_COLORS = "white=#f1f5f9 yellow=#fde68a pink=#fbcfe8 lime=#d9f99d blue=#bfdbfe"

MORE_STYLES = (
    Style(
        "clay",
        "clay",
        "„Clay” (https://www.dicebear.com) by „DiceBear”",
        {**CALM, "patternProbability": 0, "accentColor": ["#7a4a3a"]},
        (("color", "shape"), ("eyes", "mouth")),
        (
            listed(
                "color",
                "bodyColor",
                "brown=#c4795c yellow=#e0bd6a green=#8ba06b teal=#83b0a4 blue=#86a5c3 purple=#ab8bbd pink=#cd8ea6 "
                "gray=#b3a696",
            ),
            listed("shape", "bodyVariant", "pear=pear loaf=loaf column=column snowman=stack egg=egg bell=bell"),
            listed("top", "topVariant", "horns=horns curl=curl spikes=spikes antennae=antenna ears=ears none="),
            listed("eyes", "eyesVariant", "big=big cyclops=mono three=trio dots=dots happy=happy"),
            listed("mouth", "mouthVariant", "smile=smileBig frown=frown laugh=laugh tongue=smileTongue"),
            listed("on", "backgroundColor", GROUND_COLORS),
        ),
    ),
    Style(
        "cutouts",
        "cutout",
        "„Cutouts” (https://www.dicebear.com) by „DiceBear”",
        {
            **CALM,
            "browsProbability": 0,
            "cheeksProbability": 0,
            "noseVariant": ["hook"],
            "paperHairColor": ["#f6f1e7"],
            "paperBackColor": ["#33415c"],
            "paperMouthColor": ["#b0413e"],
        },
        (("color", "shape"), ("eyes", "mouth")),
        (
            listed(
                "color",
                "paperFaceColor",
                "yellow=#e2a63d orange=#e07856 blue=#7fb3d5 green=#93b98a pink=#e8b4c0 purple=#ab96d1",
            ),
            listed("shape", "headVariant", "block=block pear=pear wide=wide tall=tall"),
            listed("hair", "hairVariant", "fringe=fringe crest=crest tufts=tufts swoosh=swoosh long=long none="),
            listed("eyes", "eyesVariant", "two=pair sleepy=sleepyOpen ring=ringDot squares=squares"),
            listed("mouth", "mouthVariant", "zigzag=zigzag lips=tornSmile gasp=gasp smile=smile teeth=grin"),
            listed("on", "backgroundColor", GROUND_COLORS),
        ),
    ),
    Style(
        "gaze",
        "gaze",
        "„Gaze” (https://www.dicebear.com) by „DiceBear”",
        {**CALM, "inkColor": ["#0f172a"], "glintColor": ["#ffffff"]},
        (("color", "shape"), ("eyes", "spacing")),
        (
            listed(
                "color",
                "bodyColor",
                "pink=#fbabaf orange=#fbb271 green=#9bd78d teal=#52dcd8 blue=#9cc8fb purple=#d8b1fb",
            ),
            listed(
                "shape",
                "shapeVariant",
                "circle=circle square=square triangle=triangle pentagon=pentagon diamond=diamond pill=pill "
                "column=column arch=arch",
            ),
            listed("eyes", "eyesVariant", "big=big small=small bars=bars happy=grin"),
            listed("spacing", "spacingVariant", "close=close far=far"),
            listed("on", "backgroundColor", GROUND_COLORS),
        ),
    ),
    Style(
        "shadows",
        "shadow",
        "„Shadows” (https://www.dicebear.com) by „DiceBear”",
        {**CALM, "headsVariant": ["oval"]},
        (("color", "top"), ("shoulders", "on")),
        (
            listed(
                "color",
                "inkColor",
                "red=#a8323f brown=#6b4630 green=#2f6b49 blue=#33477f purple=#5e3b87 black=#1f2328",
            ),
            listed(
                "top",
                "topsVariant",
                "curls=curls bun=topknot puffs=puffs flat=flat quiff=tuft hat=hat bowler=bowler none=",
            ),
            listed("shoulders", "shouldersVariant", "wide=wide narrow=narrow square=square"),
            listed("on", "backgroundColor", PALE_GROUND_COLORS),
        ),
    ),
    Style(
        "voxel-bot",
        "robot",
        "„Voxel Bot” (https://www.dicebear.com) by „DiceBear”",
        {
            **CALM,
            "mouthVariant": ["line"],
            "chestProbability": 0,
            "accentColor": ["#495057"],
            "screenColor": ["#161a21"],
        },
        (("body", "top"), ("glow", "eyes")),
        (
            listed(
                "body",
                "bodyColor",
                "white=#e9ecef gray=#868e96 blue=#4dabf7 teal=#63e6be yellow=#ffd43b red=#ff8787 purple=#b6a6f5",
            ),
            listed("glow", "glowColor", "blue=#3bc9db lime=#69db7c yellow=#ffd43b red=#ff4b4b white=#ffffff"),
            listed("eyes", "eyesVariant", "visor=visor square=square cyclops=cyclops happy=happy"),
            listed("top", "topVariant", "antenna=antenna horns=twin dish=dish fin=fin none="),
            listed("on", "backgroundColor", GROUND_COLORS),
        ),
    ),
    Style(
        "pixel-art",
        "pixel",
        "„Pixel Art” (https://www.figma.com/community/file/1198754108850888330) by „DiceBear”",
        {
            "accessoriesProbability": 0,
            "hatProbability": 0,
            "beardProbability": 0,
            "eyesVariant": ["variant01"],
            "eyesColor": ["#647b90"],
            "mouthVariant": ["happy09"],
            "mouthColor": ["#de0f0d"],
            "glassesColor": ["#191919"],
        },
        (("hair", "top"), ("skin", "shirt")),
        (
            listed("skin", "skinColor", "light=#ffdbac tan=#d9a066 bronze=#a26d3d deep=#6b3e1c"),
            listed(
                "hair",
                "hairColor",
                "black=#1c1410 brown=#83502a blond=#e6c878 red=#bd1700 blue=#009bbd lime=#91cb15",
            ),
            listed(
                "top",
                "hairVariant",
                "bun=long05 long=long13 bob=long16 tails=long18 spiky=short13 short=short15 mohawk=short05",
            ),
            listed("shirt", "clothingColor", "blue=#428bca green=#00b159 red=#d11141 yellow=#ffc425 white=#f8f9fa"),
            listed("outfit", "clothesVariant", "plain=variant03 stripes=variant13"),
            listed("glasses", "glassesVariant", "shades=dark07 glasses=light05 none="),
            listed("on", "backgroundColor", GROUND_COLORS),
        ),
    ),
)

DESIGNS = (*STYLES, *MORE_STYLES)
NOUNS = {attribute.name for style in DESIGNS for attribute in style.attributes if style.is_named(attribute)}
WORDS = tuple(sorted({*vocabulary(DESIGNS), *NOUNS}))
