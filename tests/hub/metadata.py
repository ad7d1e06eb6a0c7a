"""What the Hub refuses in a model card, after its specification of the metadata.

https://github.com/huggingface/hub-docs/blob/main/modelcard.md marks the fields that are required;
the Hub verifies ``model-index``, ``datasets`` and ``license`` when a README.md is pushed.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK

LICENSES = {"apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0", "openrail", "other"}


def problems_of(readme: str) -> list[str]:
    """Each thing that is wrong with the metadata of a README.md; empty if nothing is."""
    block = REGEX_YAML_BLOCK.match(readme)
    if block is None:
        return []  # the Hub warns of empty metadata, and accepts it
    try:
        metadata = yaml.safe_load(block[2])
    except yaml.YAMLError as error:
        return [f"not YAML: {error}"]
    if not isinstance(metadata, dict):
        return ["the metadata is no mapping"]
    problems = []
    for key in ("tags", "datasets", "metrics"):
        if key in metadata and not _are_texts(metadata[key]):
            problems.append(f"{key} must be a list of texts")
    if "license" in metadata and metadata["license"] not in LICENSES:
        problems.append(f"license {metadata['license']!r} is unknown")
    languages = metadata.get("language", [])
    for language in [languages] if isinstance(languages, str) else languages:
        if not isinstance(language, str) or not re.fullmatch(r"[a-z]{2,3}|multilingual", language):
            problems.append(f"language {language!r} is no ISO 639 code")
    for key in ("library_name", "pipeline_tag"):
        if not isinstance(metadata.get(key, ""), str):
            problems.append(f"{key} must be a text")
    if "model-index" in metadata:
        problems += _index_problems(metadata["model-index"])
    return problems


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def _index_problems(index: Any) -> list[str]:
    if not isinstance(index, list) or not index:
        return ["model-index must be a list of models"]
    problems = []
    for number, model in enumerate(index):
        where = f"model-index[{number}]"
        if not _text(model, "name"):
            problems.append(f"{where}.name is required")
        if not isinstance(model.get("results"), list):
            problems.append(f"{where}.results is required")
            continue
        for place, result in enumerate(model["results"]):
            problems += _result_problems(f"{where}.results[{place}]", result)
    return problems


def _result_problems(where: str, result: Any) -> list[str]:
    problems = []
    for part, key in (("task", "type"), ("dataset", "type"), ("dataset", "name")):
        if not _text(result.get(part), key):
            problems.append(f"{where}.{part}.{key} is required")
    metrics = result.get("metrics")
    if not isinstance(metrics, list) or not metrics:
        return [*problems, f"{where}.metrics is required"]
    for number, metric in enumerate(metrics):
        if not _text(metric, "type"):
            problems.append(f"{where}.metrics[{number}].type is required")
        value = metric.get("value")
        if not isinstance(value, int | float | str) or value != value:
            problems.append(f"{where}.metrics[{number}].value is required")
    return problems


def _text(mapping: Any, key: str) -> bool:
    return isinstance(mapping, dict) and isinstance(mapping.get(key), str) and mapping[key] != ""
