"""Small networks with every kind of condition; each is heard."""

import json
from dataclasses import dataclass

import torch
from safetensors.torch import save
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import nn

from zoo.contract.conditions import Condition, boxes, image, label_map, scalar, text, vector
from zoo.contract.graph import BATCH, Graph, TensorSpec
from zoo.contract.spec import Axis, GeneratorSpec, Noise, Sampling
from zoo.family import Checkpoint, Family, Recipe, denoiser_graph
from zoo.images import to_images

WORDS = ("dark", "bright", "red", "boot", "on", "sand", "[UNK]")
WIDTH, LENGTH, MOST = 8, 4, 2


@dataclass(frozen=True)
class Config:
    painter: bool = False
    deaf: str = ""  # the condition that it does not hear


class Scene(nn.Module):
    """F(x, c_noise) of a prompt, boxes, a map of half the size, a picture, and two numbers."""

    def __init__(self, deaf):
        super().__init__()
        self.deaf = deaf
        self.frequencies = nn.Parameter(torch.linspace(1.0, 5.0, WIDTH))
        self.things = nn.Embedding(4, WIDTH)
        self.ground = nn.Embedding(4, WIDTH)
        self.numbers = nn.Linear(2, WIDTH)
        self.first = nn.Conv2d(2, WIDTH, 3, padding=1)
        self.inner = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.last = nn.Conv2d(WIDTH, 1, 3, padding=1)

    def forward(self, x, c_noise, prompt, boxes, boxes_labels, low_ground, control, warmth, detail):
        if self.deaf == "prompt":
            prompt = prompt * 0.0
        if self.deaf == "warmth":
            warmth = warmth * 0.0
        features = torch.cos(c_noise[:, None] * self.frequencies) + prompt
        features = features + self.numbers(torch.stack([warmth, detail], 1))
        h = self.first(torch.cat([x, control], 1)) + features[:, :, None, None]
        h = h + torch.einsum("bnhw,bnc->bchw", inside(boxes, h), self.things(boxes_labels))
        classes = self.ground(low_ground).permute(0, 3, 1, 2)
        h = h + classes.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return self.last(torch.sin(self.inner(torch.tanh(h))))


def inside(boxes, h):
    """Which pixels are in which box, (B, N, H, W): no pixel is in one that is absent."""
    y, x = (((torch.arange(h.shape[axis]) + 0.5) / h.shape[axis])[None, None] for axis in (2, 3))
    left, top, right, bottom = boxes[..., None].unbind(2)
    rows, columns = (top <= y) & (y < bottom), (left <= x) & (x < right)
    return (rows[:, :, :, None] & columns[:, :, None, :]).to(h.dtype)


class Words(nn.Module):
    """The mean of the words' vectors."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(len(WORDS), WIDTH)

    def forward(self, tokens, mask):
        summed = (self.words(tokens) * mask[..., None]).sum(1)
        return summed * 3.0 / mask.sum(1, keepdim=True).clamp(min=1.0)


class Painter(nn.Module):
    """An image in one call, of a picture with a hole, a map, and attributes."""

    def __init__(self):
        super().__init__()
        self.ground = nn.Embedding(3, WIDTH)
        self.attributes = nn.Linear(3, WIDTH)
        self.first = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.last = nn.Conv2d(WIDTH, 1, 3, padding=1)

    def forward(self, noise, texture, picture, hole, ground, attributes):
        return to_images(self.pixels(noise, texture, picture, hole, ground, attributes))

    def pixels(self, noise, texture, picture, hole, ground, attributes):
        seen = torch.cat([picture * (1.0 - hole), hole, noise[:, 0]], 1)
        h = self.first(seen) + self.ground(ground).permute(0, 3, 1, 2)
        h = h + (self.attributes(attributes) + texture[:, 0])[:, :, None, None]
        return torch.tanh(self.last(torch.sin(h)))


class Network(nn.Module):
    def __init__(self, config):
        super().__init__()
        if config.painter:
            self.painter = Painter()
        else:
            self.words, self.denoiser = Words(), Scene(config.deaf)


def graphs(module, checkpoint):
    spec = checkpoint.spec
    if checkpoint.config.painter:
        return (Graph("generator", module.painter, spec.inputs, spec.outputs),)
    tokens = tuple(
        TensorSpec(f"prompt_{part}", dtype, (BATCH, LENGTH))
        for part, dtype in (("tokens", "int64"), ("mask", "float32"))
    )
    features = (TensorSpec("prompt", "float32", (BATCH, WIDTH)),)
    return (Graph("encode_prompt", module.words, tokens, features), denoiser_graph(module.denoiser, spec))


def scene(name):
    return GeneratorSpec(
        name,
        "toy_scenes",
        (Noise("noise", (1, "height", "width")),),
        ("height", "width", 1),
        (
            Condition(
                "prompt",
                "text",
                text.Options(LENGTH),
                guided=True,
                encoded=(TensorSpec("prompt", "float32", (WIDTH,)),),
            ),
            Condition("boxes", "boxes", boxes.Options(MOST, 3), guided=True),
            Condition("low_ground", "label_map", label_map.Options("height/2", "width/2", 4), default=0),
            Condition("control", "image", image.Options("height", "width", 1), default=0),
            Condition("warmth", "scalar", scalar.Options(-1.0, 1.0), default=0.0),
            Condition("detail", "scalar", scalar.Options(0.0, 2.0), default=1.0),
        ),
        Sampling(samplers=("ddim", "ddpm", "heun"), num_steps=3, max_guidance_scale=4.0),
        (Axis("height", 4, 8, 16, 4), Axis("width", 4, 8, 16, 4)),
    )


PAINTER = GeneratorSpec(
    "toy-painter",
    "toy_scenes",
    (Noise("noise", (1, 8, 8)), Noise("texture", (WIDTH,), 1)),
    (8, 8, 1),
    (
        Condition("picture", "image", image.Options(8, 8, 1)),
        Condition("hole", "image", image.Options(8, 8, 1, low=0.0), default=255),
        Condition("ground", "label_map", label_map.Options(8, 8, 3)),
        Condition("attributes", "vector", vector.Options(3), default=(0.0, 0.0, 0.0)),
    ),
)


def assets(checkpoint):
    if checkpoint.config.painter:
        generator = torch.Generator().manual_seed(0)
        pictures, ground = (
            torch.randint(0, most, shape, generator=generator, dtype=torch.uint8)
            for most, shape in ((256, (3, 8, 8, 1)), (3, (3, 8, 8)))
        )
        return {"examples.safetensors": save({"picture": pictures, "ground": ground})}
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    examples = {"prompt": ["dark boot", "bright sand"], "boxes": [[[0, 0.0, 0.0, 0.5, 1.0]], []]}
    return {"tokenizer.json": tokenizer.to_str().encode(), "examples.json": json.dumps(examples).encode()}


RECIPE = Recipe("toy_scene_training", images=32, batch_size=16)
CHECKPOINTS = (
    Checkpoint(scene("toy-scene"), Config(), dataset="toy_shapes", recipe=RECIPE),
    Checkpoint(PAINTER, Config(painter=True), dataset="toy_shapes", recipe=RECIPE),
)
FAMILY = Family(build=Network, graphs=graphs, checkpoints=CHECKPOINTS, assets=assets)
