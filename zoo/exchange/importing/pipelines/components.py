"""The networks of a pipeline: their configs, their tensors under one name each, and whether the two belong together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.contract.layout import CONFIG
from zoo.exchange.importing import weights
from zoo.exchange.importing.draft import ImportingError
from zoo.untrusted import read_json

# What of a text encoder's config its class reads; the rest is of training, of files or of other tasks.
CLIP = (
    "attention_dropout", "bos_token_id", "eos_token_id", "hidden_act", "hidden_size", "intermediate_size",
    "layer_norm_eps", "max_position_embeddings", "num_attention_heads", "num_hidden_layers", "pad_token_id",
    "projection_dim", "vocab_size",
)  # fmt: skip
T5 = (
    "d_ff", "d_kv", "d_model", "dense_act_fn", "dropout_rate", "eos_token_id", "feed_forward_proj",
    "is_gated_act", "layer_norm_epsilon", "num_heads", "num_layers", "pad_token_id",
    "relative_attention_max_distance", "relative_attention_num_buckets", "vocab_size",
)  # fmt: skip
GEMMA = (
    "attention_bias", "attention_dropout", "attn_logit_softcapping", "bos_token_id", "eos_token_id",
    "final_logit_softcapping", "head_dim", "hidden_activation", "hidden_size", "intermediate_size", "layer_types",
    "max_position_embeddings", "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "pad_token_id",
    "query_pre_attn_scalar", "rms_norm_eps", "rope_parameters", "rope_theta", "sliding_window", "vocab_size",
)  # fmt: skip
READ = {"CLIPTextModel": CLIP, "CLIPTextModelWithProjection": CLIP, "T5EncoderModel": T5, "Gemma2Model": GEMMA}
MODEL_TYPES = {
    "CLIPTextModel": "clip_text_model",
    "CLIPTextModelWithProjection": "clip_text_model",
    "T5EncoderModel": "t5",
    "Gemma2Model": "gemma2",
}
NOT_WEIGHTS = re.compile(r"position_ids$")  # counted, and kept by old versions of transformers
# diffusers' own names of attention before 0.18, as its `_convert_deprecated_attention_blocks` reads them
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD = re.compile(r"(\.attentions\.\d+\.)(query|key|value|proj_attn)\.")
TIED = ("shared.weight", "encoder.embed_tokens.weight")  # of T5: one tensor, whose file has either name


def config(folder: Path, kind: str) -> dict[str, Any]:
    """The arguments of a network, and its class. Raises ImportingError for another class's."""
    path = folder / CONFIG
    found = read_json(path)
    if kind in READ:
        if found.get("use_attention_mask"):
            raise ImportingError(f"{path} has use_attention_mask = true, which no encoder of CLIP here does")
        seen = found.get("model_type")
        if seen not in (None, MODEL_TYPES[kind], "clip_text_model"):
            raise ImportingError(f"{path} has model_type {str(seen)[:40]!r}, expected that of a {kind}")
        return {key: found[key] for key in READ[kind] if key in found} | {"_class_name": kind}
    if found.get("_class_name") != kind:
        raise ImportingError(f"{path} is of class {str(found.get('_class_name'))[:60]!r}, expected {kind}")
    return {key: value for key, value in found.items() if not key.startswith("_")} | {"_class_name": kind}


def named(tensors: weights.Tensors, component: str, kind: str) -> weights.Tensors:
    """The tensors of a component, under the names that they have in the whole, without what is none of its weights."""
    kept = {name: stored for name, stored in tensors.items() if not NOT_WEIGHTS.search(name)}
    if kind == "T5EncoderModel":
        kept |= {name: kept[other] for name, other in (TIED, TIED[::-1]) if other in kept and name not in kept}
    return {f"{component}.{name}": stored for name, stored in kept.items()}


def fitted(tensors: weights.Tensors, expected: weights.Wanted) -> weights.Tensors:
    """The same under the names that the installed libraries give them.

    Raises ImportingError where two get the same. transformers 5 has no `text_model.` in the names of a CLIPTextModel;
    the files of others have.
    """

    def rename(name: str) -> str:
        if name in expected:
            return name
        name = _OLD.sub(lambda found: f"{found[1]}{_OLD_NAMES[found[2]]}.", name)
        component, _, rest = name.partition(".")
        others = (name, f"{component}.{rest.removeprefix('text_model.')}", f"{component}.text_model.{rest}")
        return next((other for other in others if other in expected), name)

    return weights.renamed(tensors, rename)


def check_neutral(config: Mapping[str, Any], neutral: Mapping[str, Any], label: str, why: str) -> None:
    """Raises ImportingError, by its name, for a key at a value that a graph here does not do."""
    for key, expected in neutral.items():
        if (seen := config.get(key, expected)) != expected:
            raise ImportingError(f"{label} has {key} = {str(seen)[:40]}: {why}")
