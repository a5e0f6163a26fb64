"""What the generator of an imported pipeline is told and at which sizes, by the configs of its networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from zoo.contract.conditions import Condition, class_id, image, instructed, scalar, text, texts
from zoo.contract.graph import TensorSpec
from zoo.contract.spec import Axis, Shape
from zoo.exchange.importing.draft import ImportingError
from zoo.exchange.importing.pipelines.components import check_neutral
from zoo.exchange.importing.pipelines.tokenizers import TOKENIZER, Tokenizer
from zoo.networks.pipelines.sizes import INSTRUCTED_WORDS, WORDS_OF_T5, levels, pixels_per_latent

MAX_SIDE = 4096
GUIDANCE = (1.0, 30.0)  # what a distilled guidance scale may be
LCM_GUIDANCE, FLUX_GUIDANCE = 8.5, 3.5  # diffusers' own where nobody says
SCORES = (2.5, 6.0)  # aesthetic ones of diffusers' own: without a prompt, and with
GREY, WHITE = 128, 255
ENCODERS = ("text_encoder", "text_encoder_2")
SECOND = "tokenizer_2.json"  # the asset of T5's tokenizer, beside CLIP's
SIDE = "sample_size"
FLUX_SIDE = 128  # latents of a side where a first stage does not say
PREDICTED = "its pipeline calls it in a way that no graph here does"
UNET_NEUTRAL: dict[str, Any] = {
    "class_embed_type": None,
    "num_class_embeds": None,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "time_embedding_type": "positional",
    "class_embeddings_concat": False,
}
Networks = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Told:
    """The parts of a spec, and of the family's config, that follow from the networks.

    `files` are the assets of tokenizers, by the tokenizers' folders; `encodes`: the first stage takes pictures too;
    `tokens`: patches of an image, where it has one size; `lower`: texts are read in lower case.
    """

    state: Shape
    image: Shape
    axes: tuple[Axis, ...]
    conditions: tuple[Condition, ...] = ()
    pads: tuple[int, ...] = ()
    zeros: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    encodes: bool = True
    tokens: int = 0
    lower: bool = False
    notes: tuple[str, ...] = ()


def told(layout: str, networks: Networks, read: Mapping[str, Tokenizer], index: Mapping[str, Any], label: str) -> Told:
    """Raises ImportingError for networks that do not fit each other, or that a layout cannot call."""
    return LAYOUTS[layout](networks, read, index, label)


def _text(networks: Networks, read: Mapping[str, Tokenizer], _: Mapping[str, Any], label: str) -> Told:
    """One encoder of CLIP, its last layer."""
    unet = networks["unet"]
    check_neutral(unet, UNET_NEUTRAL | {"addition_embed_type": None}, f"{label}/unet", PREDICTED)
    length = _length(networks["text_encoder"], read["tokenizer"])
    context = TensorSpec("prompt_context", "float32", (length, _whole(networks["text_encoder"], "hidden_size", label)))
    distilled = _distilled(unet, label)
    prompt = Condition("prompt", "text", text.Options(length), guided=not distilled, encoded=(context,))
    sizes = _sizes(unet, networks["vae"], label)
    found = Told(*sizes, (prompt, *distilled), (read["tokenizer"].pad,), files={"tokenizer": TOKENIZER})
    return _seeing(found, unet)


def _sized_text(networks: Networks, read: Mapping[str, Tokenizer], index: Mapping[str, Any], label: str) -> Told:
    """One or two encoders of CLIP that read alike, their last layers but one, and the projection of the last."""
    unet, encoders = networks["unet"], [networks[name] for name in ENCODERS if name in networks]
    neutral = UNET_NEUTRAL | {"addition_embed_type": "text_time"}
    check_neutral({"addition_embed_type": None, **unet}, neutral, f"{label}/unet", PREDICTED)
    _check_alike(read, label)
    length = min(_length(encoder, read[name]) for encoder, name in zip(encoders, read, strict=True))
    width = sum(_whole(encoder, "hidden_size", label) for encoder in encoders)
    encoded = (
        TensorSpec("prompt_context", "float32", (length, width)),
        TensorSpec("prompt_pooled", "float32", (_whole(encoders[-1], "projection_dim", label),)),
    )
    distilled = _distilled(unet, label)
    prompt = Condition("prompt", "text", text.Options(length), guided=not distilled, encoded=encoded)
    zeros = index.get("force_zeros_for_empty_prompt", True) is True
    found = Told(
        *_sizes(unet, networks["vae"], label),
        (prompt, *distilled),
        tuple(each.pad for each in read.values()),
        zeros,
        {next(iter(read)): TOKENIZER},
        notes=("the empty prompt is zeros, as of diffusers where nobody gives a negative one",) if zeros else (),
    )
    return _seeing(found, unet)


def _scored_text(networks: Networks, read: Mapping[str, Tokenizer], index: Mapping[str, Any], label: str) -> Told:
    """The same, told a score; what guidance asks without a prompt has a lower one."""
    unet, low, high = networks["unet"], *SCORES
    if unet.get("time_cond_proj_dim") is not None:
        raise ImportingError(f"{label}/unet has time_cond_proj_dim and is told aesthetic scores: {PREDICTED}")
    found = _sized_text(networks, read, index, label)
    score = Condition("aesthetic_score", "scalar", scalar.Options(0.0, 10.0), default=high, guided=True, null=low)
    prompt, *others = found.conditions
    note = f"it is told how beautiful an image shall be, {high:g} where nobody says, and {low:g} without its prompt"
    return replace(found, conditions=(prompt, score, *others), notes=(*found.notes, note))


def _seeing(found: Told, denoiser: Mapping[str, Any]) -> Told:
    """The same, of a denoiser that takes a picture and a mask beside its state."""
    if denoiser.get("in_channels") == found.state[0]:
        return found
    height, width, channels = found.image
    picture = Condition(
        "image", "image", image.Options(height, width, int(channels)), default=GREY,
        encoded=(TensorSpec("image_kept", "float32", found.state),), beside=("mask_image",),
    )  # fmt: skip
    mask = Condition("mask_image", "image", image.Options(height, width, 1, low=0.0), default=WHITE)
    note = ("its network sees what a mask keeps of a picture, by --image and --mask; where nobody gives them it makes "
            "all anew; it begins with noise, and takes no --strength")  # fmt: skip
    return replace(found, conditions=(*found.conditions, picture, mask), encodes=False, notes=(*found.notes, note))


def _distilled(unet: Mapping[str, Any], label: str) -> tuple[Condition, ...]:
    """The guidance scale that a network was distilled with, and takes as a number."""
    if unet.get("time_cond_proj_dim") is None:
        return ()
    _whole(unet, "time_cond_proj_dim", label)
    return (Condition("guidance", "scalar", scalar.Options(*GUIDANCE), default=LCM_GUIDANCE),)


def _check_alike(read: Mapping[str, Tokenizer], label: str) -> None:
    """Raises ImportingError where two tokenizers differ in more than what fills up."""
    first, *others = read.items()
    for name, tokenizer in others:
        if tokenizer.language != first[1].language:
            raise ImportingError(
                f"{label}: {first[0]} and {name} read texts differently, expected the same vocabulary for both"
            )


def _length(encoder: Mapping[str, Any], tokenizer: Tokenizer) -> int:
    most = int(encoder.get("max_position_embeddings", 77))
    return min(most, tokenizer.length or most)


def _whole(config: Mapping[str, Any], key: str, label: str) -> int:
    found = config.get(key)
    if type(found) is not int or found < 1:
        raise ImportingError(f"{label}: a network has {key} = {str(found)[:40]}, expected a whole number")
    return found


def _sizes(denoiser: Mapping[str, Any], vae: Mapping[str, Any], label: str) -> tuple[Shape, Shape, tuple[Axis, ...]]:
    """(state, image, axes): of latents whose sides the levels of a U-Net divide."""
    if not levels(denoiser) or not levels(vae):
        raise ImportingError(f"{label}: the configs of its networks have no block_out_channels, which say its sizes")
    parts = int(2 ** (levels(denoiser) - 1))
    scale, channels = pixels_per_latent(vae), _whole(vae, "latent_channels", label)
    if denoiser.get("in_channels") not in (channels, 2 * channels + 1):
        raise ImportingError(
            f"{label}: the denoiser takes {denoiser.get('in_channels')} channels, expected the {channels} of its first "
            f"stage, or {2 * channels + 1} with a picture and a mask"
        )
    step = parts * scale
    default = _side(denoiser, label) * scale
    if default % step:
        raise ImportingError(f"{label}: images of {default} are no multiple of {step}, which its levels divide")
    least, most = max(step, default // 2 // step * step), min(MAX_SIDE // step * step, 2 * default)
    axes = tuple(Axis(name, least, default, max(default, most), step) for name in ("height", "width"))
    sides = tuple(f"{parts}*{name}/{step}" if parts > 1 else f"{name}/{scale}" for name in ("height", "width"))
    return (channels, *sides), ("height", "width", int(vae.get("out_channels", 3))), axes


def _side(denoiser: Mapping[str, Any], label: str) -> int:
    side = denoiser.get("sample_size")
    sides = set(side) if isinstance(side, list) else {side}
    if len(sides) != 1 or not all(type(each) is int and 1 <= each <= MAX_SIDE for each in sides):
        raise ImportingError(f"{label}: the denoiser has sample_size {str(side)[:40]}, expected one side")
    return int(sides.pop() or 0)


def _unconditional(networks: Networks, *_: Any) -> Told:
    """A UNet2DModel of the latents of a VQModel."""
    unet, vae = networks["unet"], networks["vqvae"]
    label = "the pipeline"
    check_neutral(unet, {"num_class_embeds": None, "class_embed_type": None}, f"{label}: unet", PREDICTED)
    check_neutral(vae, {"norm_type": "group"}, f"{label}: vqvae", PREDICTED)
    return Told(*_one_size(unet, vae, label))


def _consistency(networks: Networks, *_: Any) -> Told:
    """A UNet2DModel of pixels, perhaps told a class."""
    unet = networks["unet"]
    check_neutral(unet, {"class_embed_type": None}, "the pipeline: unet", PREDICTED)
    side, channels = _side(unet, "the pipeline"), _whole(unet, "in_channels", "the pipeline")
    classes = unet.get("num_class_embeds")
    found = (Condition("class_id", "class_id", class_id.Options(int(classes))),) if classes else ()
    return Told((channels, side, side), (side, side, channels), (), found, encodes=False)


def _class(networks: Networks, *_: Any) -> Told:
    """A transformer told a class; the class after the last stands for none."""
    transformer = networks["transformer"]
    neutral = {"norm_type": "ada_norm_zero"}
    check_neutral(neutral | dict(transformer), neutral, "transformer", PREDICTED)
    classes = _whole(transformer, "num_embeds_ada_norm", "transformer")
    condition = Condition("class_id", "class_id", class_id.Options(classes), guided=True)
    return Told(*_one_size(transformer, networks["vae"], "the pipeline"), (condition,))


def _masked_text(networks: Networks, read: Mapping[str, Tokenizer], index: Mapping[str, Any], label: str) -> Told:
    """T5's words and which of them are said; lower case, as its pipeline makes them."""
    length = 300 if index.get("_class_name") == "PixArtSigmaPipeline" else 120
    encoded = (
        TensorSpec("prompt_context", "float32", (length, _whole(networks["text_encoder"], "d_model", label))),
        TensorSpec("prompt_said", "float32", (length,)),
    )
    prompt = Condition("prompt", "text", text.Options(length), guided=True, encoded=encoded)
    sizes = _one_size(networks["transformer"], networks["vae"], label)
    note = "prompts are read in lower case, as its pipeline reads them; captions are not cleaned of web pages' marks"
    return Told(*sizes, (prompt,), (read["tokenizer"].pad,), files={"tokenizer": TOKENIZER}, lower=True, notes=(note,))


def _instructed_text(networks: Networks, read: Mapping[str, Tokenizer], _: Mapping[str, Any], label: str) -> Told:
    """A language model's words, behind an instruction."""
    model, transformer = networks["text_encoder"], networks["transformer"]
    check_neutral(transformer, {"guidance_embeds": False}, f"{label}/transformer", PREDICTED)
    tokenizer = read["tokenizer"]
    from zoo.families.diffusers_pipeline import instruction_of

    instruction = instruction_of("SanaPipeline")
    length = tokenizer.count(instruction) + INSTRUCTED_WORDS - 2
    if (window := model.get("sliding_window") or length) < length:
        raise ImportingError(f"{label}/text_encoder has sliding_window = {window}: a text has {length} tokens here")
    options = instructed.Options(length, INSTRUCTED_WORDS, instruction)
    encoded = (
        TensorSpec("prompt_context", "float32", (INSTRUCTED_WORDS, _whole(model, "hidden_size", label))),
        TensorSpec("prompt_said", "float32", (INSTRUCTED_WORDS,)),
    )
    prompt = Condition("prompt", "instructed", options, guided=True, encoded=encoded)
    sizes = _one_size(transformer, networks["vae"], label)
    note = "prompts are read in lower case behind the instruction that diffusers gives its class; negative ones without"
    return Told(*sizes, (prompt,), (tokenizer.pad,), files={"tokenizer": TOKENIZER}, notes=(note,))


def _joint_text(networks: Networks, read: Mapping[str, Tokenizer], _: Mapping[str, Any], label: str) -> Told:
    """Two encoders of CLIP side by side, T5 behind them, or zeros."""
    clips = {name: read[name] for name in ("tokenizer", "tokenizer_2")}
    _check_alike(clips, label)
    encoders = [networks["text_encoder"], networks["text_encoder_2"]]
    length = min(_length(encoder, clips[name]) for encoder, name in zip(encoders, clips, strict=True))
    transformer = networks["transformer"]
    width = _whole(transformer, "joint_attention_dim", label)
    pooled = sum(_whole(encoder, "projection_dim", label) for encoder in encoders)
    encoded = (
        TensorSpec("prompt_context", "float32", (length + WORDS_OF_T5, width)),
        TensorSpec("prompt_pooled", "float32", (pooled,)),
    )
    sizes = _one_size(transformer, networks["vae"], label)
    pads = tuple(each.pad for each in read.values())
    if "text_encoder_3" not in networks:
        prompt = Condition("prompt", "text", text.Options(length), guided=True, encoded=encoded)
        return Told(*sizes, (prompt,), pads, files={"tokenizer": TOKENIZER})
    readings = texts.Options((texts.Reading(length, TOKENIZER, cut=True), texts.Reading(WORDS_OF_T5, SECOND)))
    prompt = Condition("prompt", "texts", readings, guided=True, encoded=encoded)
    return Told(*sizes, (prompt,), pads, files={"tokenizer": TOKENIZER, "tokenizer_3": SECOND})


def _packed_text(networks: Networks, read: Mapping[str, Tokenizer], _: Mapping[str, Any], label: str) -> Told:
    """CLIP's end of the text, T5's words; a guidance scale where it was distilled with one."""
    transformer, vae = networks["transformer"], networks["vae"]
    check_neutral(transformer, {"patch_size": 1}, f"{label}/transformer", PREDICTED)
    length = _length(networks["text_encoder"], read["tokenizer"])
    words = min(read["tokenizer_2"].length or 512, 512)
    encoded = (
        TensorSpec("prompt_context", "float32", (words, _whole(networks["text_encoder_2"], "d_model", label))),
        TensorSpec("prompt_pooled", "float32", (_whole(networks["text_encoder"], "hidden_size", label),)),
    )
    readings = texts.Options((texts.Reading(length, TOKENIZER, cut=True), texts.Reading(words, SECOND)))
    distilled: tuple[Condition, ...] = ()
    if transformer.get("guidance_embeds"):
        distilled = (Condition("guidance", "scalar", scalar.Options(0.0, GUIDANCE[1]), default=FLUX_GUIDANCE),)
    prompt = Condition("prompt", "texts", readings, guided=True, encoded=encoded)
    scale, channels = pixels_per_latent(vae), _whole(vae, "latent_channels", label)
    if transformer.get("in_channels") != 4 * channels:
        raise ImportingError(f"{label}: the denoiser takes {transformer.get('in_channels')} channels, expected "
                             f"{4 * channels}, four latents of its first stage")  # fmt: skip
    side = FLUX_SIDE if SIDE not in vae else _whole(vae, SIDE, label) // scale
    if side % 2:
        raise ImportingError(f"{label}: latents of {side}x{side} are not packed two by two")
    state, image = (channels, side, side), (side * scale, side * scale, int(vae.get("out_channels", 3)))
    pads = tuple(each.pad for each in read.values())
    files = {"tokenizer": TOKENIZER, "tokenizer_2": SECOND}
    return Told(state, image, (), (prompt, *distilled), pads, files=files, tokens=side * side // 4)


def _one_size(denoiser: Mapping[str, Any], vae: Mapping[str, Any], label: str) -> tuple[Shape, Shape, tuple[Axis, ...]]:
    """(state, image, no axes): of a network whose positions are those of one size."""
    scale, channels = pixels_per_latent(vae), _whole(vae, "latent_channels", label)
    if denoiser.get("in_channels") != channels:
        raise ImportingError(f"{label}: the denoiser takes {denoiser.get('in_channels')} channels, expected the "
                             f"{channels} of its first stage")  # fmt: skip
    side = _side(denoiser, label)
    return (channels, side, side), (side * scale, side * scale, int(vae.get("out_channels", 3))), ()


LAYOUTS: dict[str, Callable[[Networks, Mapping[str, Tokenizer], Mapping[str, Any], str], Told]] = {
    "text": _text,
    "sized_text": _sized_text,
    "scored_text": _scored_text,
    "unconditional": _unconditional,
    "consistency": _consistency,
    "class": _class,
    "masked_text": _masked_text,
    "instructed_text": _instructed_text,
    "joint_text": _joint_text,
    "packed_text": _packed_text,
}
