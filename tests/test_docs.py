"""The documentation says what the code does."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from chts_hf import METHODS, CHTsConfig, Sparsifier, cli, methods
from chts_hf.settings import settings_table

DOCS = Path(__file__).parents[1] / "docs"


def test_the_methods_page_has_the_table_that_the_command_prints(capsys):
    assert cli.main(["methods"]) == 0
    printed = capsys.readouterr().out.strip()
    page = (DOCS / "methods.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- table: chts-hf methods -->\n(.*?)\n<!-- end of table -->", page, re.S)
    assert shown is not None
    assert shown[1] == printed, "paste the output of: chts-hf methods"
    assert all(f"| `{name}` |" in printed for name in METHODS)


def test_the_configuration_page_lists_every_field():
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- table: settings -->\n(.*?)\n<!-- end of table -->", page, re.S)
    assert shown is not None
    assert shown[1] == settings_table(), "paste what chts_hf.settings.settings_table() returns"
    assert all(f"| `{field.name}` |" in shown[1] for field in fields(CHTsConfig))


def test_unknown_methods_are_refused_by_the_command(capsys):
    assert cli.main(["methods", "chtz"]) == 2
    assert "no method chtz; there are dense, static" in capsys.readouterr().err


def test_the_example_of_a_new_method_runs_as_it_is_printed():
    page = (DOCS / "methods.md").read_text(encoding="utf-8")
    code = re.search(r"<!-- test: docs -->\n```python\n(.*?)```", page, re.S)
    assert code is not None

    registry = methods._METHODS
    names: dict[str, object] = {}
    try:
        exec(code[1], names)
        config = names["config"]
        assert isinstance(config, CHTsConfig)
        assert (config.regrowth, config.regrow_init) == ("random", "history")
    finally:
        registry.pop("set_history", None)
    with pytest.raises(ValueError, match="set_history"):
        CHTsConfig(method="set_history")


def _example(name: str, page_name: str = "images.md") -> str:
    page = (DOCS / page_name).read_text(encoding="utf-8")
    code = re.search(rf"<!-- test: {name} -->\n```python\n(.*?)```", page, re.S)
    assert code is not None
    return code[1]


def test_the_example_of_a_sweep_runs_as_it_is_printed():
    names: dict[str, Any] = {}
    exec(_example("sweep", "configuration.md"), names)
    assert [one.regrowth for one in names["rivals"]] == ["random", "gradient", "CH2-L3n"]
    assert all((one.sparsity, one.zeta) == (0.95, 0.2) for one in names["rivals"])
    assert names["shorter"].rewarm_steps == 10


def test_the_examples_of_the_images_page_run_as_they_are_printed(tmp_path):
    names: dict[str, Any] = {"folder": tmp_path, "training_pixels": torch.rand(30, 1, 28, 28)}
    exec(_example("images"), names)
    assert names["logits"].shape == (5, 10)
    assert names["layers"] == [(f"hidden.{i}.weight", "mlp.hidden") for i in range(3)]
    exec(_example("csti"), names)
    callback = names["callback"]
    sparsifier = Sparsifier(
        names["model"], None, callback.config, 200, correlation=callback.correlation
    )
    mask = sparsifier.masks["hidden.0.weight"]
    assert int(mask.sum()) == round(0.01 * mask.numel())
    assert bool(mask.diagonal().all())  # each neuron begins with the pixel it stands for
