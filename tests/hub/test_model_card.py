"""The README.md of a model on the Hub."""

from __future__ import annotations

import json
import re
from typing import Any

import jinja2
import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from jinja2 import meta

from chts_hf import CHTsConfig, SparseSizes, Sparsifier, save_sparse
from chts_hf.checkpoint import model_card as cards
from chts_hf.checkpoint.model_card import model_card
from chts_hf.translation.tokenizers import TokenizerPair, train_tokenizer
from tests.builders import tiny_marian
from tests.checkpoint.sparse_models import sparse_marian
from tests.hub.metadata import problems_of

SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
RESULTS: dict[str, Any] = {
    "dataset": "user/pairs config",
    "languages": "en-de",
    "predict_bleu": 26.3712,
    "bleu_signature": SIGNATURE,
    "predict_chrf": 50.5,
    "chrf_signature": "nrefs:1|nc:6",
    "total_parameters": 6000,
    "nonzero_parameters": 1500,
    "machine": "2 cores of a processor",
    "threads": 2,
    "train_runtime": 917.61,
    "topology_runtime": 7.56,
    "steps": 1500,
    "seed": 3,
    "commit": "0123abcd",
    "speed": [{"name": "csr, beam 4", "value": "2.5 × dense", "machine": "2 cores"}],
}
DRAFT = """---
library_name: transformers
license: mit
base_model: someone/base
datasets:
- user/pairs
tags:
- generated_from_trainer
- mine
model-index:
- name: out
  results: []
---

# out

## Model description

More information needed

## Training procedure

### Training hyperparameters

- learning_rate: 0.01
"""


@pytest.fixture(scope="module")
def stats() -> dict[str, Any]:
    return Sparsifier(tiny_marian(), None, CHTsConfig(sparsity=0.8), total_steps=500).stats()


@pytest.fixture(scope="module")
def card(stats: dict[str, Any]) -> ModelCard:
    return model_card(
        "me/small",
        CHTsConfig(sparsity=0.8),
        stats,
        architecture="MarianMTModel",
        sizes=SparseSizes(3000, 12000, 1400, 10000, links=3, weights=10),
        results=RESULTS,
        draft=ModelCard(DRAFT),
    )


def section(card: ModelCard, title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", card.text, re.M | re.S)
    assert found is not None, f"no section {title}"
    return found[1]


def test_the_card_has_the_sections_of_the_template(card):
    titles = re.findall(r"^## (.+)$", cards.TEMPLATE.read_text(encoding="utf-8"), re.M)
    assert titles == ["Use it", "Scores", "Network", "Size", "Speed", "Method"]
    assert re.findall(r"^## (.+)$", card.text, re.M) == [*titles, "Training procedure"]
    assert "{{" not in card.content
    assert "{%" not in card.content
    assert "\n\n\n" not in card.text


def test_two_vocabularies_are_both_loaded(stats, tmp_path, monkeypatch):
    """The card's own lines translate with the tokenizer of each side."""
    sides = [train_tokenizer(["a cat sleeps"], 262), train_tokenizer(["eine Katze"], 261)]
    save_sparse(sparse_marian(), tmp_path / "me")
    TokenizerPair(*sides).save(tmp_path / "me")
    monkeypatch.chdir(tmp_path)
    card = model_card("me", CHTsConfig(), stats, two_tokenizers=True)
    code = re.search(r"```python\n(.*?)```", section(card, "Use it"), re.S)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1], names)
    found = names["tokenizers"]
    assert [len(found.source), len(found.target)] == [len(side) for side in sides]
    assert len(sides[0]) != len(sides[1])


def test_the_template_names_what_it_is_given(monkeypatch, stats):
    given: dict[str, Any] = {}

    def keep(data: Any, template_path: str, **variables: Any) -> ModelCard:
        given.update(variables)
        return ModelCard(DRAFT)

    monkeypatch.setattr(ModelCard, "from_template", keep)
    model_card("me/small", CHTsConfig(), stats)
    text = cards.TEMPLATE.read_text(encoding="utf-8")
    named = meta.find_undeclared_variables(jinja2.Environment().parse(text))
    assert named == {*given, "card_data"}


def test_tables_name_each_kind_and_the_total(card, stats):
    network = section(card, "Network")
    for kind, entry in stats["by_kind"].items():
        assert f"| {kind} | {entry['links']:,} | {entry['weights']:,} |" in network
    assert f"| all sparsified | {stats['links']:,} | {stats['weights']:,} | 80.08 % |" in network
    assert "| all parameters (not zero) | 1,500 | 6,000 | 75.00 % |" in network
    assert f"of all): {stats['itop_rate']:.4f}" in network
    assert f"of all): {stats['anp']:.4f}" in network
    sizes = section(card, "Size")
    assert "| all, with the file's header | 3,000 | 12,000 | 25.00 % |" in sizes
    assert "| sparsified | 1,400 | 10,000 | 14.00 % |" in sizes


def test_scores_stand_with_data_and_signature(card):
    escaped = SIGNATURE.replace("|", "\\|")  # or the table would have five more columns
    row = f"| BLEU | 26.37 | user/pairs config, test set | `{escaped}` |"
    assert row in section(card, "Scores")
    assert "| chrF | 50.50 |" in section(card, "Scores")


def test_speeds_stand_with_the_machine(card):
    speed = section(card, "Speed")
    assert (
        "| training | 917.6 s for 1500 steps, 7.6 s of them for topology updates | "
        "2 cores of a processor, threads: 2 |"
    ) in speed
    assert "| csr, beam 4 | 2.5 × dense | 2 cores |" in speed


def test_times_after_a_resume_say_since_when(stats):
    card = model_card("me/a", CHTsConfig(), stats, results=RESULTS | {"resumed_from_step": 1450})
    assert (
        "| training | 917.6 s for 50 steps since step 1450; topology updates since step 0: 7.6 s | "
    ) in section(card, "Speed")


def test_loading_takes_three_lines_that_are_python(card):
    code = re.search(r"```python\n(.*?)\n```", section(card, "Use it"), re.S)
    assert code is not None
    assert len(code[1].splitlines()) == 3
    compile(code[1], "card", "exec")
    assert code[1].count('"me/small"') == 2


def test_settings_give_the_configuration_back(card):
    settings = re.search(r"```json\n(.*?)\n```", section(card, "Method"), re.S)
    assert settings is not None
    assert CHTsConfig.from_dict(json.loads(settings[1])) == CHTsConfig(sparsity=0.8)


def test_metadata_has_tags_languages_and_what_the_trainer_knew(card):
    data = yaml.safe_load(card.content.split("---")[1])
    assert data["tags"] == [
        *("chts", "sparse", "translation", "en-de"),
        *("generated_from_trainer", "mine"),
    ]
    assert data["language"] == ["en", "de"]
    assert data["pipeline_tag"] == "translation"
    assert (data["license"], data["base_model"]) == ("mit", "someone/base")
    assert data["datasets"] == ["user/pairs"]
    assert "learning_rate: 0.01" in section(card, "Training procedure")
    assert "More information needed" not in card.text


def test_the_model_index_survives_the_way_to_the_hub_and_back(card, tmp_path):
    assert problems_of(card.content) == []
    card.save(tmp_path / "README.md")
    loaded = ModelCard.load(tmp_path / "README.md")
    assert loaded.content == card.content
    index = yaml.safe_load(loaded.content.split("---")[1])["model-index"]
    name, (bleu, chrf) = model_index_to_eval_results(index)
    assert name == "small"
    assert (bleu.metric_name, bleu.metric_type, bleu.metric_value) == ("BLEU", "sacrebleu", 26.37)
    assert bleu.metric_args == {"signature": SIGNATURE}
    assert (bleu.dataset_type, bleu.dataset_config) == ("user/pairs", "config")
    assert (bleu.dataset_split, bleu.task_type) == ("test", "translation")
    assert chrf.metric_type == "chrf"


def test_what_is_not_known_is_left_out(stats):
    card = model_card("me/small", CHTsConfig(), stats)
    assert problems_of(card.content) == []
    assert re.findall(r"^## (.+)$", card.text, re.M) == ["Use it", "Network", "Method"]
    data = yaml.safe_load(card.content.split("---")[1])
    assert data == {"library_name": "transformers", "tags": ["chts", "sparse"]}


def test_scores_that_are_no_numbers_are_left_out(stats):
    results = RESULTS | {"predict_bleu": float("nan"), "predict_chrf": None}
    card = model_card("me/small", CHTsConfig(), stats, results=results)
    assert problems_of(card.content) == []
    assert "model-index" not in card.content


def test_columns_that_are_no_languages_are_no_metadata(stats):
    card = model_card("me/s", CHTsConfig(), stats, results=RESULTS | {"languages": "source-target"})
    assert problems_of(card.content) == []
    assert "language" not in yaml.safe_load(card.content.split("---")[1])


def test_a_name_cannot_end_its_table_cell(stats):
    results = RESULTS | {"dataset": "a|b\n| c"}
    card = model_card("me/s", CHTsConfig(), stats, results=results)
    assert "| 26.37 | a\\|b \\| c, test set |" in section(card, "Scores")
    assert problems_of(card.content) == []


def test_the_checker_of_metadata_refuses_what_the_hub_refuses():
    head = "---\nmodel-index:\n- name: m\n  results:\n  - task: {type: t}\n"
    whole = "    dataset: {type: d, name: d}\n    metrics: [{type: bleu, value: 1.0}]\n---\n"
    assert problems_of(head + whole) == []
    assert problems_of(head + whole.replace("type: d, ", "")) != []
    assert problems_of(head + whole.replace(", value: 1.0", "")) != []
    assert problems_of(head + "---\n") != []
    assert problems_of("---\nlicense: none of these\n---\n") != []
    assert problems_of("---\nlanguage: source\n---\n") != []
