"""docs/cli.md shows what the commands print.

``python -m tests.commands.test_page`` writes the outputs into the page.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import tempfile
from pathlib import Path

import torch

from chts_hf import CHTsConfig, Sparsifier, cli
from tests.builders import tiny_marian

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
_BLOCK = re.compile(r"(?<=```console\n)(.*?)(?=```)", re.S)


def make_dense(folder: Path) -> None:
    """Save a sparse model densely; its weights are the same bits on every machine."""
    model = tiny_marian(d_model=64, encoder_ffn_dim=256, decoder_ffn_dim=256)
    with torch.no_grad():
        for parameter in model.parameters():
            ramp = torch.arange(parameter.numel()) % 251 - 125.5
            parameter.copy_((ramp / 1024).reshape(parameter.shape))
    Sparsifier(model, None, CHTsConfig(sparsity=0.9), total_steps=1000).close()
    model.save_pretrained(folder)


def rendered(page: str) -> str:
    """The page with the output below each command; one that reads a file by < is only parsed.

    The commands run one after the other in a folder with ``output/dense``.
    """
    return _BLOCK.sub(lambda block: "".join(map(_answer, block[1].splitlines())), page)


def _answer(line: str) -> str:
    if not line.startswith("$ chts-hf "):
        return ""  # output of an earlier time
    words = shlex.split(line.partition("<")[0])[2:]
    cli.build_parser().parse_args(words)
    printed = io.StringIO()
    if "<" not in line:
        with contextlib.redirect_stdout(printed):
            assert cli.main(words) == 0
    return f"{line}\n{printed.getvalue()}"


def test_the_page_shows_what_the_commands_print(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    make_dense(Path("output/dense"))
    page = PAGE.read_text(encoding="utf-8")
    assert rendered(page) == page, "write the page anew: python -m tests.commands.test_page"


def test_the_page_has_an_example_of_every_command():
    shown = set(re.findall(r"^\$ chts-hf (\w+)", PAGE.read_text(encoding="utf-8"), re.M))
    assert {"export", "inspect", "verify", "translate", "methods"} <= shown


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    os.chdir(tempfile.mkdtemp())
    make_dense(Path("output/dense"))
    PAGE.write_text(rendered(text), encoding="utf-8")
