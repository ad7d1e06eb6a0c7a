"""Parallel data: what is read, and what is said about data that is wrong."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from chts_hf.translation import corpora

# Everything that str.splitlines or text mode takes for a line end, inside a sentence.
TRICKY = "one\u2028two\x85three\x0bfour\x0cfive\x1csix\rseven"


def write(path: Path, lines: list[str], end: str = "\n") -> Path:
    raw = end.join([*lines, ""]).encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_parallel_text_is_split_at_newlines_only(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"train.en{suffix}", [TRICKY, "", "Last."])
    write(tmp_path / f"train.de{suffix}", ["Eins.", "Zwei.", "Größe."])
    corpus = corpora.load_files({"train": f"train.{{lang}}{suffix}"}, "en", "de", str(tmp_path))
    assert corpora.column(corpus["train"], "en") == [TRICKY, "", "Last."]
    assert corpora.column(corpus["train"], "de") == ["Eins.", "Zwei.", "Größe."]
    assert corpus["train"][2] == {"translation": {"en": "Last.", "de": "Größe."}}


def test_a_missing_last_newline_and_windows_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\r\ntwo")
    assert corpora.read_lines(tmp_path / "a") == ["one", "two"]


def test_a_blank_last_line_is_a_line(tmp_path: Path) -> None:
    assert corpora.read_lines(write(tmp_path / "a", ["one", ""])) == ["one", ""]


@pytest.mark.parametrize("name", ["data.json", "data.jsonl", "data.jsonl.gz"])
def test_json_lines(tmp_path: Path, name: str) -> None:
    rows = [{"translation": {"en": TRICKY, "de": "Größe", "fr": "x"}, "id": 3}, {
        "translation": {"en": "b", "de": "c"}}]  # fmt: skip
    write(tmp_path / name, [json.dumps(row, ensure_ascii=False) for row in rows] + [""])
    corpus = corpora.load_files({"test": name, "train": None}, "de", "en", str(tmp_path))
    assert list(corpus) == ["test"]
    assert corpora.column(corpus["test"], "en") == [TRICKY, "b"]
    assert corpora.column(corpus["test"], "de") == ["Größe", "c"]


def test_a_digest_is_of_the_sentences_and_not_of_where_they_were(tmp_path: Path) -> None:
    pairs = [("a b", "c"), ("d", "eß")]

    def digest(pairs: list[tuple[str, str]], name: str = "{lang}") -> str:
        if name == "{lang}":
            for lang, side in (("en", 0), ("de", 1)):
                write(tmp_path / lang, [pair[side] for pair in pairs])
        else:
            rows = [{"translation": {"en": en, "de": de}} for en, de in pairs]
            write(tmp_path / name, [json.dumps(row) for row in rows])
        corpus = corpora.load_files({"test": name}, "en", "de", str(tmp_path))
        return corpora.sentences_digest(corpus["test"], "en", "de")

    first = digest(pairs)
    assert len(first) == 16
    assert digest(pairs, "other.jsonl.gz") == first
    others = [pairs[::-1], pairs[:1], [("a", "b c"), ("d", "eß")], [("c", "a b"), ("eß", "d")]]
    assert len({first, *map(digest, others)}) == 5
    # As it is written into records.
    assert digest([("a", "b")]) == hashlib.sha256(b'["a", "b"]').hexdigest()[:16]


@pytest.mark.parametrize("layout", ["translation column", "column per language"])
def test_a_hub_data_set(tmp_path: Path, layout: str) -> None:
    # A local folder in a Hub layout: load_dataset treats it as it does a name.
    pairs = {"train": [("a", "b"), ("c", "d")], "validation": [("e", "f")], "test": [("g", "h")]}
    for split, rows in pairs.items():
        nested = layout == "translation column"
        as_rows = [{"en": en, "de": de} for en, de in rows]
        lines = [json.dumps({"translation": row} if nested else row) for row in as_rows]
        write(tmp_path / f"{split}.jsonl", lines)
    corpus = corpora.load_hub(str(tmp_path), None, "en", "de")
    for split, rows in pairs.items():
        assert corpora.column(corpus[split], "en") == [en for en, _ in rows]
        assert corpora.column(corpus[split], "de") == [de for _, de in rows]
    with pytest.raises(ValueError, match=r"target_lang 'fr' is not in split 'train'.*'de'"):
        corpora.load_hub(str(tmp_path), None, "en", "fr")


def test_the_embedded_corpus_both_ways() -> None:
    sizes = {"seed": 1, "train": 60, "validation": 3, "test": 4}
    forth = corpora.load_embedded("en", "de", **sizes)
    back = corpora.load_embedded("de", "en", **sizes)
    assert {name: len(split) for name, split in forth.items()} == {
        "train": 60,
        "validation": 3,
        "test": 4,
    }
    assert corpora.column(forth["test"], "de") == corpora.column(back["test"], "de")
    with pytest.raises(ValueError, match="source_lang 'fr' is not in the embedded corpus"):
        corpora.load_embedded("fr", "de", **sizes)


class TestErrors:
    def test_empty_file(self, tmp_path: Path) -> None:
        for content in (b"", b"\n\n"):
            (tmp_path / "train.en").write_bytes(content)
            with pytest.raises(ValueError, match=r"train\.en' is empty"):
                corpora.read_parallel_text(tmp_path / "train.{lang}", "en", "de")

    def test_misaligned_files_give_both_counts(self, tmp_path: Path) -> None:
        write(tmp_path / "train.en", ["a"] * 7)
        write(tmp_path / "train.de", ["a"] * 5)
        with pytest.raises(ValueError, match=r"train\.en' has 7 lines, .*train\.de' has 5"):
            corpora.read_parallel_text(tmp_path / "train.{lang}", "en", "de")

    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_bad_utf8_gives_file_and_line(self, tmp_path: Path, suffix: str) -> None:
        raw = b"good\nalso good\nGr\xf6\xdfe\n"
        path = tmp_path / f"a.de{suffix}"
        path.write_bytes(gzip.compress(raw) if suffix else raw)
        with pytest.raises(ValueError, match=rf"a\.de{suffix}', line 3: not valid UTF-8"):
            corpora.read_lines(path)

    def test_damaged_gzip(self, tmp_path: Path) -> None:
        whole = gzip.compress(b"hello\n" * 1000)
        for raw in (b"not gzip", whole[: len(whole) // 2], whole[:10] + b"\xff" * 99):
            (tmp_path / "a.gz").write_bytes(raw)
            with pytest.raises(ValueError, match="not a readable gzip file"):
                corpora.read_lines(tmp_path / "a.gz")

    def test_missing_file_or_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"train\.en' does not exist"):
            corpora.load_files({"train": "train.{lang}"}, "en", "de", str(tmp_path))
        with pytest.raises(ValueError, match="data_dir .*nowhere' is not a folder"):
            corpora.load_files({"train": "x"}, "en", "de", str(tmp_path / "nowhere"))

    def test_a_language_that_is_not_there(self, tmp_path: Path) -> None:
        rows = [{"translation": {"en": "a", "de": "b"}}, {"translation": {"en": "a", "it": "b"}}]
        path = write(tmp_path / "a.json", [json.dumps(row) for row in rows])
        with pytest.raises(ValueError, match=r"'fr' is not in .*line 1.*keys there are 'en', 'de'"):
            corpora.read_json_lines(path, "en", "fr")
        with pytest.raises(ValueError, match=r"'de' is not in .*line 2.*keys there are 'en', 'it'"):
            corpora.read_json_lines(path, "en", "de")
        with pytest.raises(ValueError, match="both 'en'"):
            corpora.read_json_lines(path, "en", "en")

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("{", "not a JSON object"),
            ("[1]", 'no "translation" object'),
            ('{"text": "a"}', 'no "translation" object'),
            ('{"translation": {"en": "a", "de": null}}', "'de' is None, not a string"),
        ],
    )
    def test_lines_that_are_no_pair(self, tmp_path: Path, line: str, message: str) -> None:
        good = json.dumps({"translation": {"en": "a", "de": "b"}})
        path = write(tmp_path / "a.json", [good, line])
        with pytest.raises(ValueError, match="line 2: .*" + message):
            corpora.read_json_lines(path, "en", "de")

    def test_a_file_of_no_known_kind(self, tmp_path: Path) -> None:
        write(tmp_path / "train.csv", ["a"])
        with pytest.raises(ValueError, match=r"train\.csv' is neither JSON lines.*\{lang\}"):
            corpora.load_files({"train": "train.csv"}, "en", "de", str(tmp_path))

    def test_missing_split(self, tmp_path: Path) -> None:
        write(tmp_path / "a.json", [json.dumps({"translation": {"en": "a", "de": "b"}})])
        corpus = corpora.load_files({"train": "a.json"}, "en", "de", str(tmp_path))
        assert corpora.require_split(corpus, "train", "x") is corpus["train"]
        with pytest.raises(ValueError, match="do_predict needs a 'test' split.* only 'train'"):
            corpora.require_split(corpus, "test", "do_predict")
