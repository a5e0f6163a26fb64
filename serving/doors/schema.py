"""What an OpenAI client may ask of a generator: pydantic models made of what the generator declares.

A generator's model has OpenAI's own fields and, by the contract's names, each input of its public model. Types are
those of the inputs; what a value may be is for the contract to say, in its own words: bounds stand in the schema for
people and for fuzzers, and nothing here checks them a second time.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, create_model

from serving import asked, interface
from serving.generators import request_of
from serving.previews import MOST
from zoo.contract.conditions import Condition, image, kind
from zoo.contract.errors import RequestError, shown
from zoo.contract.graph import TensorSpec
from zoo.contract.request import MAX_MIXED, Mixture, SampleRequest, Setting, sizes_of, takes, told, why_no_edits
from zoo.contract.spec import GeneratorSpec
from zoo.errors import GenzooError
from zoo.sampling import noise, samplers

PROMPT, IMAGE, MASK = "prompt", "image", "mask_image"
MAX_DEADLINE_MS = 120_000
JSON_SEEDS = 1 << 53  # below it a number is the same for every reader of JSON
NEUTRAL = ("background", "moderation")  # words of OpenAI's that change nothing here: a generator may have its own


def _whole(value: Any) -> Any:
    """1.0 is an integer in JSON's schemas, and 1 to many of its writers."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < JSON_SEEDS else value


WHOLE = BeforeValidator(_whole)


class DoorError(GenzooError):
    """A door that cannot be opened as it was asked; the message says what to change."""


class Asked(BaseModel):
    """What every generator may be asked, by OpenAI's names and some of ours."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: str
    n: Annotated[int, Field(ge=1), WHOLE] | None = Field(1, description="Images, from as many seeds after the first.")
    size: str | None = Field("auto", description="WIDTHxHEIGHT in pixels.")
    quality: str | None = Field("auto", description="How far from exact the images may be: a tier.")
    response_format: Literal["b64_json"] | None = Field("b64_json", description="Images come with the answer.")
    output_format: Literal["png", "webp", "jpeg"] | None = "png"
    output_compression: Annotated[int, Field(ge=0, le=100), WHOLE] | None = Field(
        None, description="Quality of a WebP or a JPEG; 100, the default, is a WebP without loss."
    )
    stream: bool | None = False
    partial_images: Annotated[int, Field(ge=0, le=MOST), WHOLE] | None = Field(0, description="Previews, of a stream.")
    user: Annotated[str, Field(max_length=256)] | None = Field(None, description="Not read.")
    background: Literal["auto", "opaque"] | None = None
    moderation: Literal["auto", "low"] | None = Field(None, description="Nothing is moderated.")
    seed: Annotated[int, Field(ge=0, le=noise.MAX_SEED), WHOLE] | None = Field(
        None, description="Of the first image; the same seed gives the same image. One at random by default."
    )
    deadline_ms: Annotated[float, Field(ge=1, le=MAX_DEADLINE_MS)] | None = Field(
        None, description="An answer that comes later is of no use: it is refused at once where that is foreseen."
    )


class Taken:
    """A generator as its door offers it: `model` is the pydantic class of a request for it.

    `tiers` are those that it is served of, `most` images may be asked for at once, with so many `previews` of each.
    `schema` is that of `model` in JSON, each field with what it is where nobody says it.
    """

    def __init__(self, spec: GeneratorSpec, tiers: Sequence[str], most: int, *, previews: int = 0) -> None:
        self.spec, self.tiers, self.most, self.previews = spec, tuple(tiers), most, previews
        self.labels = asked.words(spec.name)
        self.conditions = takes(spec)
        if clash := sorted({*self.conditions, *(axis.name for axis in spec.axes)} & self._own()):
            raise DoorError(f"{spec.name} takes {clash[0]}, which is a word of OpenAI's own: it has no place beside it")
        self.model = self._model()
        self.schema = self.model.model_json_schema()

    @staticmethod
    def _own() -> set[str]:
        return set(Asked.model_fields) - set(NEUTRAL)

    @property
    def picture(self) -> str | None:
        """What OpenAI's `image` is here: what the generator begins with, or the first picture that it looks at."""
        pictures = [name for name, each in self.conditions.items() if kind(each).read]
        return IMAGE if IMAGE in pictures else next(iter(pictures), None)

    def request(self, given: Asked) -> SampleRequest:
        """What the contract is asked for. Raises RequestError."""
        said = {name: value for name in given.model_fields_set if (value := getattr(given, name)) is not None}
        first = said["seed"] if "seed" in said else int(np.random.default_rng().integers(JSON_SEEDS))
        count = said.get("n", 1)
        seeds = [(first + index) % (noise.MAX_SEED + 1) for index in range(count)]
        sizes = self._sizes(said)
        every = sizes_of(self.spec, sizes)
        values = {
            name: [self._value(each, said[name], every)] for name, each in self.conditions.items() if name in said
        }
        if PROMPT not in self.conditions and said.get(PROMPT):
            name, value = self._labelled(said[PROMPT])
            if name in values:
                raise RequestError(f"{name} is given by its own name and by the prompt: say it once")
            values[name] = [value]
        scales = tuple(
            (name, said[f"{name}_guidance_scale"]) for name in self.conditions if f"{name}_guidance_scale" in said
        )
        interval = said.get("guidance_interval")
        setting = Setting(
            said.get("num_steps"),
            said.get("sampler"),
            said.get("guidance_scale", 1.0),
            scales,
            tuple(interval) if interval else None,
            said.get("strength"),
        )
        return request_of(self.spec, seeds, values, setting, sizes)

    def read(self, name: str, content: bytes) -> str:
        """A file that was sent for an input, as a request in JSON would have it. Raises RequestError."""
        if name not in self.conditions or not kind(self.conditions[name]).read:
            raise RequestError(f"{self.spec.name} takes no file {shown(name)}: {self._pictures()}")
        return base64.b64encode(content).decode()

    def mask(self, content: bytes) -> bytes:
        """OpenAI's mask as the contract's, a PNG: what is transparent, or white where nothing is, is made anew.

        Raises RequestError.
        """
        from PIL import ImageChops

        self.read(MASK, b"")
        picture = image.load(self.conditions[MASK], BytesIO(content))
        if picture.has_transparency_data:
            picture = ImageChops.invert(picture.convert("RGBA").getchannel("A"))
        file = BytesIO()
        picture.convert("L").save(file, format="PNG")
        return file.getvalue()

    def plain(self, name: str, text: str) -> Any:
        """A field of a form as JSON would have it: lists and objects are JSON, all else is read by its type."""
        condition = self.conditions.get(name)
        is_text = condition is not None and kind(condition).edge(condition).dtype == "str"
        if is_text or not text.startswith(("[", "{")):
            return text
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text

    def _pictures(self) -> str:
        pictures = [name for name, each in self.conditions.items() if kind(each).read]
        return f"it takes {' and '.join(pictures)}" if pictures else why_no_edits(self.spec)

    def _sizes(self, said: Mapping[str, Any]) -> dict[str, int]:
        sizes = {axis.name: said[axis.name] for axis in self.spec.axes if axis.name in said}
        if (text := said.get("size", "auto")) == "auto":
            return sizes
        found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
        if not found:
            raise RequestError(f"size {shown(text)}: write WIDTHxHEIGHT, or auto")
        for side, number in zip(self.spec.image_shape, (int(found[2]), int(found[1])), strict=False):
            if isinstance(side, str) and side in self.spec.default_sizes:
                sizes[side] = number
            elif number != side:
                height, width, _ = self.spec.default_image_shape
                raise RequestError(f"size {shown(text)}: {self.spec.name} makes images of {width}x{height}")
        return sizes

    def _value(self, condition: Condition, value: Any, sizes: Mapping[str, int]) -> Any:
        if isinstance(value, BaseModel):
            mixed: Any = value
            each = [self._value(condition, one, sizes) for one in mixed.values]
            numbered = asked.several(self.spec, condition.name, each)
            return Mixture(tuple(numbered), tuple(map(float, mixed.weights)))
        read = kind(condition).read
        if read is None or not isinstance(value, str):
            return value
        return read(condition, content_of(condition.name, value), sizes)

    def _labelled(self, prompt: str) -> tuple[str, str]:
        """What a prompt says to a generator that reads none: one of its labels."""
        for name in self.conditions:
            if name in self.labels:
                return name, prompt
        raise RequestError(f"{self.spec.name} takes no prompt: leave it empty")

    def _model(self) -> type[Asked]:
        fields: dict[str, Any] = {
            "model": (Literal[self.spec.name], ...),
            "n": (Annotated[int, Field(ge=1, le=self.most), WHOLE] | None, Asked.model_fields["n"]),
            "partial_images": (
                Annotated[int, Field(ge=0, le=self.previews), WHOLE] | None,
                Asked.model_fields["partial_images"],
            ),
            "quality": (Literal[("auto", *self.tiers)] | None, Asked.model_fields["quality"]),
            "size": (self._size_type(), Asked.model_fields["size"]),
        }
        said = told(self.spec)
        for each in interface.inputs(self.spec):
            if each.name in ("seed", "mixture"):
                continue
            condition = self.conditions.get(each.name)
            found = self._condition_type(condition) if condition else _setting_type(self.spec, each)
            usual = condition.default if condition else _usual(self.spec, each.name)
            field = Field(None, description=said.get(each.name), json_schema_extra={"default": usual})
            fields[each.name] = (found | None, field)
        if PROMPT not in self.conditions:
            labels = next((each for name, each in self.labels.items() if name in self.conditions), ())
            said_prompt = Annotated[str, WithJsonSchema({"type": "string", "enum": ["", *labels]})]
            fields[PROMPT] = (said_prompt | None, Field(None, description="One of its labels." if labels else None))
        return create_model(f"Asked_of_{self.spec.name}", __base__=Asked, **fields)

    def _size_type(self) -> Any:
        height, width, _ = self.spec.image_shape
        schema: dict[str, Any] = {"type": "string", "enum": ["auto", f"{width}x{height}"]}
        if isinstance(height, str) or isinstance(width, str):
            schema = {"type": "string", "pattern": "^(auto|[0-9]{1,5}x[0-9]{1,5})$"}
        return Annotated[str, WithJsonSchema(schema)] | None

    def _condition_type(self, condition: Condition) -> Any:
        """A value in JSON, or several that are mixed where guidance asks without the condition."""
        of_kind = kind(condition)
        edge, bounds = of_kind.edge(condition), of_kind.bounds
        limits = dict(zip(("minimum", "maximum"), bounds(condition), strict=True)) if bounds else {}
        found: Any
        if of_kind.read:
            schema = {"type": "string", "contentEncoding": "base64", "description": "A PNG, a JPEG or a WebP."}
            found = Annotated[str, WithJsonSchema(schema)]
        elif edge.dtype == "str":
            found = str
        else:
            found = _number(edge.dtype, limits)
            if not edge.shape and (labels := self.labels.get(condition.name)) and edge.dtype != "float32":
                named = Annotated[str, WithJsonSchema({"type": "string", "enum": list(labels)})]
                found = found | named
            for axis in reversed(edge.shape):
                length = axis if isinstance(axis, int) and len(edge.shape) == 1 else None
                found = Annotated[list[found], Field(min_length=length, max_length=length)]
        if not condition.guided:
            return found
        several = Annotated[list[found], Field(min_length=1, max_length=MAX_MIXED)]
        weights = Annotated[list[float], Field(min_length=1, max_length=MAX_MIXED)]
        mixed = create_model(
            f"Mixed_{condition.name}_of_{self.spec.name}",
            __config__=ConfigDict(strict=True, extra="forbid"),
            values=(several, ...),
            weights=(weights, ...),
        )
        return found | mixed


def content_of(name: str, text: str) -> bytes:
    """What a file holds, sent as base64 or as a data URL of it. Raises RequestError."""
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(f"{name} is no picture in base64: send one, or a data URL of it") from None


def _number(dtype: str, limits: Mapping[str, Any]) -> Any:
    """The type of a number of an input."""
    if dtype == "float32":
        return Annotated[float, WithJsonSchema({"type": "number", **limits})]
    return Annotated[int, WHOLE, WithJsonSchema({"type": "integer", **limits})]


def _setting_type(spec: GeneratorSpec, declared: TensorSpec) -> Any:
    """Of what is not a condition: an input of the public model that has one value an image, or a pair."""
    schema = _setting_schema(spec, declared.name)
    if declared.dtype == "str":
        return Annotated[str, WithJsonSchema({"type": "string", **schema})]
    found: Any = _number(declared.dtype, schema)
    length = int(declared.shape[1])
    return found if length == 1 else Annotated[list[found], Field(min_length=length, max_length=length)]


def _usual(spec: GeneratorSpec, name: str) -> Any:
    """Of a setting or a size that nobody says; None for what depends on the rest of a request."""
    if name in spec.default_sizes:
        return spec.default_sizes[name]
    assert spec.sampling is not None, name
    known = {"num_steps": spec.sampling.num_steps, "sampler": spec.sampling.samplers[0]}
    return known.get(name, Setting().guidance_scale if name == "guidance_scale" else None)


def _setting_schema(spec: GeneratorSpec, name: str) -> dict[str, Any]:
    """What the contract takes of a setting or a size."""
    for axis in spec.axes:
        if axis.name == name:
            return {"minimum": axis.minimum, "maximum": axis.maximum, "multipleOf": axis.multiple}
    sampling = spec.sampling
    assert sampling is not None, name
    if name == "num_steps":
        return {"enum": list(sampling.steps)} if sampling.steps else {"minimum": 1, "maximum": sampling.most_steps}
    if name == "sampler":
        grids = [f"{each}{samplers.AT}{spacing}" for each in sampling.samplers for spacing in sampling.spacings]
        return {"enum": [*sampling.samplers, *grids]}
    if name == "strength":
        return {"exclusiveMinimum": 0, "maximum": 1}
    if name.endswith("guidance_scale"):
        return {"minimum": 0, "maximum": sampling.max_guidance_scale} if spec.guided else {"enum": [1]}
    return {"minimum": 0}
