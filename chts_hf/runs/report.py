"""What a run came to: one dictionary for ``all_results.json`` and one table to read."""

from __future__ import annotations

import hashlib
import math
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from chts_hf.distributed.layout import reshard
from chts_hf.targets import Target

_WIDTH = 84


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Count the parameters of a model, shared ones once, and how many of them are not zero."""
    reshard(model)  # so that all processes see shards, or none of them
    parameters = list(model.parameters())
    wholes = (p.full_tensor() if isinstance(p, DTensor) else p for p in parameters)
    return {
        "total_parameters": sum(parameter.numel() for parameter in parameters),
        "nonzero_parameters": sum(int(torch.count_nonzero(whole)) for whole in wholes),
    }


def weights_digest(model: nn.Module) -> str:
    """Sum a model's parameters up in 16 hexadecimal digits; equal weights give equal digits."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        values = parameter.detach().cpu().contiguous().view(torch.uint8)
        digest.update(name.encode() + values.numpy().tobytes())
    return digest.hexdigest()[:16]


def network_results(stats: Mapping[str, Any], targets: Iterable[Target]) -> dict[str, Any]:
    """Arrange a sparsifier's statistics for ``all_results.json``.

    Args:
        stats: from :meth:`chts_hf.Sparsifier.stats`.
        targets: what would be sparsified (:func:`chts_hf.find_targets`). A dense run has no
            masks to count; all weights of these layers are its links.
    """
    if not stats["by_kind"]:
        full: dict[str, dict[str, Any]] = {}
        for target in targets:
            entry = full.setdefault(target.kind, {"links": 0, "weights": 0, "sparsity": 0.0})
            for count in ("links", "weights"):
                entry[count] += math.prod(target.shape)
        weights = sum(entry["weights"] for entry in full.values())
        stats = {**stats, "by_kind": full, "links": weights, "weights": weights}
    by_kind = {kind: stats["by_kind"][kind] for kind in sorted(stats["by_kind"], key=_place)}
    return {
        "sparsity": stats["sparsity"],
        "links": stats["links"],
        "sparsified_weights": stats["weights"],
        "links_by_kind": by_kind,
        "itop_rate": stats["itop_rate"],
        "anp": stats["anp"],
        "topology_updates": stats["updates"],
        "topology_runtime": stats["topology_runtime"],
    }


def git_commit(folder: str | Path) -> str | None:
    """Name the commit that a folder's code is at; "-dirty" is added if files were changed since.

    Returns:
        The hash, or None where there is no git, no repository or no commit.
    """
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    # Tags would take the place of the hash.
    command += ["--exclude", "*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def format_table(results: Mapping[str, Any]) -> str:
    """Lay the results of a run out as one table, the lines that are there.

    Args:
        results: the content of ``all_results.json``.
    """
    resumed = results.get("resumed_from_step")
    lines = ["=" * _WIDTH, _headline(results)]
    if {"predict_bleu", "predict_accuracy", "eval_loss"} & results.keys():
        lines.append("-" * _WIDTH)
    if "predict_bleu" in results:
        for key, name in (("bleu", "BLEU, test"), ("chrf", "chrF, test")):
            value, signature = results[f"predict_{key}"], results[f"{key}_signature"]
            lines.append(_row(name, f"{value:.2f}", signature))
    if "predict_accuracy" in results:
        remark = f"% of {results['test_images']} test images"
        lines.append(_row("accuracy", f"{results['predict_accuracy']:.2f}", remark))
    if "eval_loss" in results:
        unit = results.get("loss_unit", "nats per token")
        lines.append(_row("validation loss", f"{results['eval_loss']:.4f}", unit))
    if "links" in results:
        lines += ["-" * _WIDTH, f"{'':<20}{'links':>14}{'of weights':>14}{'sparsity':>12}"]
        lines.append(_links("sparsified layers", results["links"], results["sparsified_weights"]))
        for kind, entry in results["links_by_kind"].items():
            lines.append(_links(f"  {kind}", entry["links"], entry["weights"]))
        total, nonzero = results["total_parameters"], results["nonzero_parameters"]
        lines.append(_links("all, not zero", nonzero, total))
        lines.append("-" * _WIDTH)
        lines.append(_row("ITOP rate", f"{results['itop_rate']:.4f}", "weights ever linked / all"))
        lines.append(_row("ANP", f"{results['anp']:.4f}", "neurons with links on both sides / all"))
    if "train_runtime" in results:
        since = f"since step {resumed}, where it was resumed" if resumed is not None else ""
        lines.append(_row("training", f"{results['train_runtime']:.1f} s", since))
    if "topology_runtime" in results:
        where = "within training" if resumed is None else "since step 0"
        updates = f"{results['topology_updates']} updates, {where}"
        lines.append(_row("topology updates", f"{results['topology_runtime']:.1f} s", updates))
    return "\n".join([*lines, "=" * _WIDTH])


def _place(kind: str) -> tuple[int, int, str]:
    """Order kinds as a layer computes them; a user's own kinds come last."""
    block, _, role = kind.rpartition(".")
    blocks, roles = ("self_attn", "cross_attn", "ffn"), ("q", "k", "v", "o", "gate", "up", "down")
    return (
        blocks.index(block) if block in blocks else len(blocks),
        roles.index(role) if role in roles else len(roles),
        kind,
    )


def _headline(results: Mapping[str, Any]) -> str:
    sparsity = results.get("target_sparsity") or 0.0
    return (
        f"{results['setting']}: {results['method']} at {100 * sparsity:.6g} % sparsity, "
        f"{' '.join(filter(None, [results['dataset'], results.get('languages')]))}, "
        f"{results.get('steps', 0)} steps, "
        f"seed {results['seed']}"
    )


def _row(name: str, value: str, remark: str = "") -> str:
    return f"{name:<20}{value:>14}  {remark}".rstrip()


def _links(name: str, links: int, weights: int) -> str:
    sparsity = 100 * (1 - links / weights) if weights else 0.0
    return f"{name:<20}{links:>14,}{weights:>14,}{sparsity:>10.2f} %"
