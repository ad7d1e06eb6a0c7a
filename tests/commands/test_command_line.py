"""What all commands have in common: help, exit codes, messages."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from chts_hf import cli
from chts_hf.commands import COMMANDS

NAMES = [command.__name__.rpartition(".")[2] for command in COMMANDS]
ON_A_FOLDER = {
    "inspect": ["inspect", "FOLDER"],
    "verify": ["verify", "FOLDER"],
    "export": ["export", "FOLDER", "--to", "sparse", "OUT"],
    "translate": ["translate", "FOLDER"],
}


def arguments(name: str, folder: Path) -> list[str]:
    places = {"FOLDER": str(folder), "OUT": str(folder.parent / "out")}
    return [places.get(word, word) for word in ON_A_FOLDER[name]]


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_examples_that_the_parser_takes(name, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main([name, "--help"])
    assert left.value.code == 0
    examples = re.findall(
        rf"chts-hf ({name}\b[^<>|\n]*)", capsys.readouterr().out.split("examples:")[1]
    )
    assert examples
    for example in examples:
        cli.build_parser().parse_args(shlex.split(example))


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    listed = re.findall(r"^    (\w+)", capsys.readouterr().out, re.M)
    assert [name for name in listed if name in NAMES] == NAMES


@pytest.mark.parametrize("line", [[], ["nothing"], ["verify"], ["export", "a", "b"]])
def test_a_wrong_command_line_is_exit_code_2(line, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(line)
    assert left.value.code == 2
    assert "chts-hf" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "-1", "two", "1.5"])
def test_counts_must_be_above_0(count, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["translate", "folder", "--num_beams", count])
    assert left.value.code == 2
    assert f"{count!r} must be a whole number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("name", ON_A_FOLDER)
def test_a_folder_that_is_not_there_is_named(name, tmp_path, capsys):
    missing = tmp_path / "nowhere"
    assert cli.main(arguments(name, missing)) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"chts-hf: error: there is no folder {str(missing)!r}")
    assert "hf download" in printed.err


@pytest.mark.parametrize("name", ON_A_FOLDER)
def test_a_folder_without_a_model_and_a_file_are_refused(name, tmp_path, capsys):
    assert cli.main(arguments(name, tmp_path)) == 1
    assert "has no config.json" in capsys.readouterr().err
    file = tmp_path / "file"
    file.touch()
    assert cli.main(arguments(name, file)) == 1
    assert "is a file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ON_A_FOLDER)
def test_a_config_that_is_no_json_is_one_line(name, tmp_path, capsys):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{")
    code = cli.main(arguments(name, tmp_path / "model"))
    printed = capsys.readouterr()
    assert code == 1
    assert "config.json" in printed.err + printed.out
    assert "Traceback" not in printed.err


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (
            ModuleNotFoundError("No module named 'scipy.stats'"),
            "; pip install '.[analysis]' has it",
        ),
        (
            ImportError(
                "\nMarianTokenizer requires the SentencePiece library\nbut it was not found"
            ),
            "; pip install '.[recipes]' has it",
        ),
        (ModuleNotFoundError("No module named 'frobnicate'"), "'frobnicate'"),
    ],
)
def test_a_package_that_is_missing_is_one_line(monkeypatch, capsys, error, advice):
    def run(_: object) -> int:
        raise error

    monkeypatch.setattr("chts_hf.commands.methods._run", run)
    assert cli.main(["methods"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("chts-hf: error: ")
    assert said.endswith(f"{advice}\n")
    assert said.count("\n") == 1


def test_every_package_of_an_extra_is_known_to_be_of_it():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    for extra in ("analysis", "recipes"):
        listed = re.search(rf"^{extra} = \[(.*?)^\]", text, re.M | re.S)
        assert listed is not None
        packages = re.findall(r'"([\w-]+)[^"]*"', listed[1])
        imported = {{"scikit-learn": "sklearn"}.get(name, name) for name in packages}
        assert imported == {name for name, of in cli._EXTRAS.items() if of == extra}


def test_a_reader_that_leaves_ends_the_command_quietly(monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert cli.main(["methods"]) == 141
        stdout.write("what was left to write goes nowhere")
    assert capsys.readouterr().err == ""
