"""The README.md of a sparse model on the Hub: what it is, what it scores, how it is loaded."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from chts_hf.checkpoint.save import SparseSizes
from chts_hf.config import CHTsConfig
from chts_hf.methods import METHODS

TEMPLATE = Path(__file__).with_name("model_card.md.jinja")
#: Tags of every model that was trained here.
TAGS = ("chts", "sparse")
#: Where the part that the Trainer writes of its own accord begins; it is kept.
_TRAINER_PART = "## Training procedure"
_LOADING = """\
from chts_hf import load_sparse
from transformers import AutoTokenizer
model, tokenizer = load_sparse("{0}"), AutoTokenizer.from_pretrained("{0}")"""
_LOADING_TWO = """\
from chts_hf import load_sparse
from chts_hf.translation import TokenizerPair
model, tokenizers = load_sparse("{0}"), TokenizerPair.load("{0}")  # .source and .target"""
#: Scores in ``all_results.json``: name, key, the Hub's metric, digits.
_SCORES = (("BLEU", "bleu", "sacrebleu", 2), ("chrF", "chrf", "chrf", 2))


def model_card(
    repo_id: str,
    config: CHTsConfig,
    stats: Mapping[str, Any],
    *,
    architecture: str = "A Transformer",
    sizes: SparseSizes | None = None,
    results: Mapping[str, Any] | None = None,
    draft: ModelCard | None = None,
    two_tokenizers: bool = False,
) -> ModelCard:
    """Describe a sparsely trained model for the Hub.

    The metadata has the tags ``chts`` and ``sparse``, for translation models ``translation`` and
    the language pair too, and the scores as a ``model-index``. What is not known is left out.

    Args:
        repo_id: where the model will be, "user/name".
        config: the method and its settings.
        stats: from :meth:`chts_hf.Sparsifier.stats`.
        architecture: what the model is, "MarianMTModel".
        sizes: of the sparse file, as :func:`chts_hf.save_sparse` returns them.
        results: what a run left in ``all_results.json``: ``predict_bleu`` with ``bleu_signature``,
            ``dataset``, ``languages``, run times and the machine they were measured on;
            ``speed``, a list of ``{"name", "value", "machine"}``, is added to the speeds.
        draft: the card that the Trainer wrote: its licence, languages, data sets, tags and base
            model are kept, and its sections on the training procedure.
        two_tokenizers: whether the target's vocabulary is another than the source's, so that the
            card loads both.

    Returns:
        A card to ``save``.

    Example:
        >>> card = model_card("me/marian-chts90", CHTsConfig(), sparsifier.stats())
        >>> card.save("output/README.md")
    """
    results = results or {}
    pair = _language_pair(results)
    scores = _scores(results, pair)
    method = METHODS[config.method]
    layers = [*stats["by_kind"].items(), ("all sparsified", stats)]
    return ModelCard.from_template(  # type: ignore[no-any-return]
        _metadata(repo_id, pair, scores, draft),
        template_path=str(TEMPLATE),
        name=_short(repo_id),
        architecture=architecture,
        method=config.method,
        source=method.source,
        sparsity=_percent(stats["sparsity"]),
        loading=(_LOADING_TWO if two_tokenizers else _LOADING).format(repo_id),
        translates=bool(pair),
        scores=[_score_row(score) for score in scores],
        layers=[
            {
                "name": _cell(name),
                "links": f"{entry['links']:,}",
                "weights": f"{entry['weights']:,}",
                "sparsity": _percent(entry["sparsity"]),
            }
            for name, entry in layers
        ]
        + _all_parameters(results),
        itop_rate=f"{stats['itop_rate']:.4f}",
        anp=f"{stats['anp']:.4f}",
        updates=stats["updates"],
        sizes=_size_rows(sizes),
        speed=_speed_rows(results),
        settings=json.dumps(config.to_dict(), indent=2),
        provenance=_provenance(results),
        trainer_notes=_trainer_part(draft),
    )


def _metadata(
    repo_id: str, pair: Sequence[str], scores: Sequence[EvalResult], draft: ModelCard | None
) -> ModelCardData:
    """The Trainer's metadata with ours: its model-index, which it can't fill, is replaced."""
    known = {} if draft is None else draft.data.to_dict()
    translation = ["translation", "-".join(pair)] if pair else []
    fields: dict[str, Any] = {
        "language": known.pop("language", None) or [code for code in pair if _is_language(code)],
        "tags": [*TAGS, *translation, *known.pop("tags", [])],
        "library_name": known.pop("library_name", None) or "transformers",
        "pipeline_tag": known.pop("pipeline_tag", None) or (translation[0] if pair else None),
        "metrics": sorted({*known.pop("metrics", []), *(score.metric_type for score in scores)}),
    }
    known.pop("model-index", None)
    if scores:
        fields |= {"model_name": _short(repo_id), "eval_results": list(scores)}
    fields |= known
    return ModelCardData(
        **{name: value for name, value in fields.items() if value not in (None, [])}
    )


def _scores(results: Mapping[str, Any], pair: Sequence[str]) -> list[EvalResult]:
    found = []
    for name, key, metric, digits in _SCORES:
        value = results.get(f"predict_{key}")
        if not isinstance(value, float | int) or not math.isfinite(value):
            continue
        dataset, _, dataset_config = str(results.get("dataset") or "unknown").partition(" ")
        found.append(
            EvalResult(
                task_type="translation",
                task_name=f"Translation {'-'.join(pair)}".strip(),
                dataset_type=dataset,
                dataset_name=" ".join(filter(None, [dataset, dataset_config])),
                dataset_config=dataset_config or None,
                dataset_split="test",
                metric_type=metric,
                metric_name=name,
                metric_value=round(value, digits),
                metric_args={"signature": str(results.get(f"{key}_signature", "unknown"))},
            )
        )
    return found


def _score_row(score: EvalResult) -> dict[str, str]:
    assert score.metric_args is not None
    return {
        "name": str(score.metric_name),
        "value": f"{score.metric_value:.2f}",
        "data": _cell(f"{score.dataset_name}, {score.dataset_split} set"),
        "signature": f"`{_cell(score.metric_args['signature'])}`",
    }


def _all_parameters(results: Mapping[str, Any]) -> list[dict[str, str]]:
    total, nonzero = results.get("total_parameters"), results.get("nonzero_parameters")
    if not total or nonzero is None:
        return []
    return [
        {
            "name": "all parameters (not zero)",
            "links": f"{nonzero:,}",
            "weights": f"{total:,}",
            "sparsity": _percent(1 - nonzero / total),
        }
    ]


def _size_rows(sizes: SparseSizes | None) -> list[dict[str, str]]:
    if sizes is None:
        return []
    rows = (
        ("all, with the file's header", sizes.sparse_bytes, sizes.dense_bytes, sizes.ratio),
        (
            "sparsified",
            sizes.sparsified_bytes,
            sizes.sparsified_dense_bytes,
            sizes.sparsified_ratio,
        ),
    )
    return [
        {"name": name, "bytes": f"{size:,}", "dense": f"{dense:,}", "share": _percent(ratio)}
        for name, size, dense, ratio in rows
    ]


def _speed_rows(results: Mapping[str, Any]) -> list[dict[str, str]]:
    machine = str(results.get("machine") or "unknown")
    if results.get("threads"):
        machine += f", threads: {results['threads']}"
    rows = []
    if results.get("train_runtime") and results.get("steps"):
        # The Trainer counts from where it went on, topology updates from the first step.
        resumed = results.get("resumed_from_step", 0)
        trained, since = results["steps"] - resumed, f" since step {resumed}" if resumed else ""
        value = f"{results['train_runtime']:.1f} s for {trained} steps{since}"
        if (spent := results.get("topology_runtime")) is not None:
            of = f"; topology updates since step 0: {spent:.1f} s"
            value += of if resumed else f", {spent:.1f} s of them for topology updates"
        rows.append({"name": "training", "value": value, "machine": _cell(machine)})
    for entry in results.get("speed", []):
        rows.append({key: _cell(str(entry[key])) for key in ("name", "value", "machine")})
    return rows


def _provenance(results: Mapping[str, Any]) -> list[str]:
    lines = []
    if results.get("seed") is not None:
        lines.append(f"seed {results['seed']}, {results.get('steps', 0)} steps")
    if results.get("commit"):
        lines.append(f"code at commit {results['commit']}")
    return lines


def _trainer_part(draft: ModelCard | None) -> str:
    _, found, rest = ("" if draft is None else draft.text).partition(_TRAINER_PART)
    return (found + rest).strip()


def _language_pair(results: Mapping[str, Any]) -> list[str]:
    codes = str(results.get("languages") or "").split("-")
    return codes if len(codes) == 2 and all(codes) else []


def _is_language(code: str) -> bool:
    """The Hub takes ISO 639 codes only; a data set may call its columns anything."""
    return re.fullmatch("[a-z]{2,3}", code) is not None


def _short(repo_id: str) -> str:
    return repo_id.rpartition("/")[2]


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _cell(text: str) -> str:
    """Text within a Markdown table: no character of it ends the cell or the row."""
    return " ".join(text.split()).replace("|", "\\|")
