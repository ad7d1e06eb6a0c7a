"""A layer's name → the role it plays in a block, whatever the model's class.

Inside an attention block the last part of the name tells (``q``, ``q_proj``, ``query``, …),
elsewhere the names that feed-forward layers go by; in a plain MLP the linear layers of a list
called ``hidden``. What no rule recognises (embeddings, heads, routers, relative biases, adapters)
has no role.
"""

from __future__ import annotations

import re

_ATTENTION_ROLES = {
    role: name
    for name, roles in {
        "q": ("q", "q_proj", "query", "query_proj", "q_lin", "q_attn", "query_global", "linear_q"),
        "k": ("k", "k_proj", "key", "key_proj", "k_lin", "key_global", "linear_k"),
        "v": ("v", "v_proj", "value", "value_proj", "v_lin", "value_global", "linear_v"),
        "o": ("o", "o_proj", "out_proj", "out_lin", "output", "c_proj", "proj", "linear_out", "Wo"),
        "fused": ("c_attn", "qkv", "qkv_proj", "query_key_value", "Wqkv"),
    }.items()
    for role in roles
}
_FFN_ROLES = {
    role: name
    for name, roles in {
        "up": (
            *("wi", "wi_1", "fc1", "up_proj", "intermediate", "c_fc", "lin1", "linear1", "w3"),
            *("fc_in", "linear_fc1", "dense_h_to_4h", "intermediate_dense", "ffn"),
        ),
        "gate": ("wi_0", "gate_proj", "w1"),
        "gate_up": ("gate_up_proj",),
        "down": (
            *("wo", "fc2", "down_proj", "output", "c_proj", "lin2", "linear2", "w2"),
            *("fc_out", "linear_fc2", "dense_4h_to_h", "output_dense", "ffn_output"),
        ),
    }.items()
    for role in roles
}
# Names that any two layers may have: they tell a role inside a numbered block alone.
_ANYBODYS = ("ffn", "w1", "w2", "w3", "linear1", "linear2")
_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_CROSS = re.compile(r"enc_?dec|encoder_attn|cross", re.IGNORECASE)
# Parts of a name that only wrap the projection before them: BERT's "output.dense", PEFT's base.
_WRAPPERS = ("dense", "base_layer")


def role_of(name: str) -> tuple[str, str] | None:
    """(kind, block) of a linear layer by the name of its module; None if no rule knows it."""
    parts = name.split(".")
    while len(parts) > 1 and parts[-1] in _WRAPPERS:
        wrapper = parts.pop()
        if wrapper == "dense" and _ATTENTION.search(parts[-1]):
            parts.append("o")  # GPT-NeoX's "attention.dense"
    *path, leaf = parts
    attention = next((i for i, part in enumerate(path) if _ATTENTION.search(part)), None)
    if attention is None:
        if leaf.isdigit() and path and path[-1] == "hidden":
            return "mlp.hidden", ".".join(path)
        if leaf in _ANYBODYS and not any(part.isdigit() for part in path):
            return None
        role = _FFN_ROLES.get(leaf)
        return (f"ffn.{role}", ".".join(path)) if role else None
    role = _ATTENTION_ROLES.get(leaf)
    if role is None:
        return None
    family = "cross_attn" if _CROSS.search(path[attention]) else "self_attn"
    return f"{family}.{role}", ".".join(path[: attention + 1])


def fused_roles(name: str, kind: str, out_features: int, in_features: int) -> tuple[str, ...]:
    """The roles of the equal parts that a fused projection's rows are made of, in their order.

    Args:
        name: of the layer's module.
        kind: of the layer.
        out_features: its rows.
        in_features: its columns.

    Returns:
        q, k, v of GPT-2's ``c_attn`` (k, v in cross-attention), gate, up of ``gate_up_proj``; none
        for a layer that is one projection, and for a fused one whose parts are not certain: models
        lay the rows of ``qkv`` out by part or by head, and their parts may differ in size.
    """
    family, _, role = kind.rpartition(".")
    leaf = name.rpartition(".")[2]
    if role == "fused" and leaf == "c_attn":
        if out_features == 3 * in_features:
            return ("q", "k", "v")
        if out_features == 2 * in_features and family == "cross_attn":
            return ("k", "v")
    if role == "gate_up" and out_features % 2 == 0:
        return ("gate", "up")
    return ()
