"""translate: lines in, lines out."""

from __future__ import annotations

import importlib.util
import io
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForSeq2SeqLM, BertConfig

from chts_hf import cli
from chts_hf.commands.translate import read_lines
from chts_hf.translation.inference import translate
from chts_hf.translation.tokenizers import TokenizerPair
from tests.commands.conftest import SENTENCES

SHORT = ["--max_length", "8", "--num_beams", "2"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch):
    def put(text: str | bytes) -> None:
        data = text.encode() if isinstance(text, str) else text
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return put


def expected(folder: Path, sentences: list[str]) -> list[str]:
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    tokenizers = TokenizerPair.load(folder)
    found = translate(model, tokenizers, sentences, max_length=8, num_beams=2)
    assert any("\n" in text for text in found), "a line feed has to be dealt with"
    return [text.replace("\n", " ") for text in found]


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_lines_come_out_in_their_order(saved, say, capsys, kind):
    say("\n".join(SENTENCES) + "\n")
    assert cli.main(["translate", str(saved / kind), *SHORT]) == 0
    printed = capsys.readouterr()
    wanted = expected(saved / "dense", SENTENCES)
    assert len(set(wanted)) == len(wanted), "equal translations would hide their order"
    assert printed.out.split("\n") == [*wanted, ""]
    assert "lines" not in printed.err


def test_many_blocks_keep_the_order_and_empty_lines(saved, say, capsys, monkeypatch):
    monkeypatch.setattr("chts_hf.commands.translate._BATCHES_AT_ONCE", 1)
    say(f"{SENTENCES[2]}\n\n{SENTENCES[0]}\n   \n{SENTENCES[1]}")
    assert cli.main(["translate", str(saved / "sparse"), "--batch_size", "2", *SHORT]) == 0
    first, second, third = expected(saved / "dense", SENTENCES)
    assert capsys.readouterr().out.split("\n") == [third, "", first, "", second, ""]


def test_nothing_in_is_nothing_out(saved, say, capsys):
    say("")
    assert cli.main(["translate", str(saved / "sparse")]) == 0
    assert capsys.readouterr().out == ""


def test_progress_is_shown_where_it_is_wanted(saved, say, capsys, monkeypatch):
    say("a cat\na dog\n")
    assert cli.main(["translate", str(saved / "sparse"), "--progress", *SHORT]) == 0
    assert "2 lines" in capsys.readouterr().err
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    say("a cat\n")
    assert cli.main(["translate", str(saved / "sparse"), *SHORT]) == 0
    assert "1 lines" in terminal.getvalue()


def test_text_that_is_not_utf8_is_named_by_its_line(saved, say, capsys):
    say(b"a cat\n" + b"\xff\xfe\n")
    assert cli.main(["translate", str(saved / "sparse"), *SHORT]) == 1
    assert "chts-hf: error: line 2 of the input is not UTF-8" in capsys.readouterr().err


def test_only_line_feeds_end_lines():
    text = "\ufeffone\u2028still one\r\ntwo\x0b\n\nfour"
    stream = io.BytesIO(text.encode())
    assert list(read_lines(stream)) == ["one\u2028still one", "two\x0b", "", "four"]


def test_a_model_that_cannot_translate_is_refused(tmp_path, say, capsys):
    BertConfig().save_pretrained(tmp_path)
    say("a cat\n")
    assert cli.main(["translate", str(tmp_path)]) == 1
    assert "no encoder-decoder" in capsys.readouterr().err


def test_a_model_without_a_tokenizer_says_so(sparse, say, capsys):
    for path in sparse.glob("*token*"):
        path.unlink()
    say("a cat\n")
    assert cli.main(["translate", str(sparse), *SHORT]) == 1
    said = capsys.readouterr().err
    assert f"chts-hf: error: {str(sparse)!r} has no tokenizer that can be loaded" in said
    assert "tokenizer.save_pretrained(" in said


@pytest.mark.skipif(
    importlib.util.find_spec("chts_hf.inference") is None, reason="no sparse products here"
)
def test_sparse_products_translate_the_same(saved, say, capsys):
    say("\n".join(SENTENCES))
    assert cli.main(["translate", str(saved / "sparse"), "--backend", "csr", *SHORT]) == 0
    assert capsys.readouterr().out.splitlines() == expected(saved / "dense", SENTENCES)


def test_sparse_products_need_a_sparse_checkpoint(saved, say, capsys):
    say("a cat\n")
    assert cli.main(["translate", str(saved / "dense"), "--backend", "csr"]) == 1
    assert "no sparse checkpoint" in capsys.readouterr().err
