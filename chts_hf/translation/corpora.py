"""Parallel corpora from the Hub, from local files, or generated: always a ``translation`` column.

Every loader returns a :class:`datasets.DatasetDict` whose rows are
``{"translation": {source_lang: ..., target_lang: ...}}``, the shape of the translation data sets
on the Hub, so that what follows does not know where the sentences came from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features, Value, load_dataset

from chts_hf.runs.gzipped import unzipped
from chts_hf.translation.embedded import generate_corpus

#: The placeholder of a language in the name of a parallel text file: ``train.{lang}.gz``.
LANG = "{lang}"
JSON_SUFFIXES = (".json", ".jsonl")


def read_lines(path: str | Path) -> list[str]:
    r"""Read the lines of a UTF-8 text file, plain or gzip-compressed (``.gz``).

    Lines end at ``\n`` alone: ``str.splitlines`` and text mode also break at U+2028, U+0085,
    form feeds and others, which occur inside sentences and would shift one side of a parallel
    corpus against the other. A ``\r`` before the ``\n`` is dropped.

    Args:
        path: the file; a name that ends in ``.gz`` is decompressed.

    Returns:
        One string a line, without line ends.

    Raises:
        ValueError: the file does not exist, is empty, is not valid gzip or not valid UTF-8 (with
            the number of the line).
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"data file {str(path)!r} does not exist")
    raw = path.read_bytes()
    if path.suffix == ".gz":
        raw = unzipped(raw, path)
    if not raw.strip():
        raise ValueError(f"data file {str(path)!r} is empty")
    lines = []
    for number, line in enumerate(raw.removesuffix(b"\n").split(b"\n"), start=1):
        try:
            lines.append(line.removesuffix(b"\r").decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(
                f"data file {str(path)!r}, line {number}: not valid UTF-8 ({error.reason} at byte "
                f"{error.start} of the line); convert the file to UTF-8"
            ) from error
    return lines


def read_parallel_text(pattern: str | Path, source_lang: str, target_lang: str) -> Dataset:
    """Read two text files whose lines correspond: line *i* of one translates line *i* of the other.

    Args:
        pattern: a path with ``{lang}`` in the place of the language, such as
            ``data/train.{lang}.gz``.
        source_lang: what stands for ``{lang}`` in the source file's name, and its key.
        target_lang: the same for the target file.

    Raises:
        ValueError: a file is missing, empty or not UTF-8, or the numbers of lines differ.
    """
    paths = [str(pattern).replace(LANG, lang) for lang in (source_lang, target_lang)]
    source, target = (read_lines(path) for path in paths)
    if len(source) != len(target):
        raise ValueError(
            f"parallel files do not match line by line: {paths[0]!r} has {len(source)} lines, "
            f"{paths[1]!r} has {len(target)}"
        )
    return _to_dataset(source, target, source_lang, target_lang)


def read_json_lines(path: str | Path, source_lang: str, target_lang: str) -> Dataset:
    """Read a file with one object a line: ``{"translation": {"en": "...", "de": "..."}}``.

    Args:
        path: the file, ``.json`` or ``.jsonl``, plain or ``.gz``; blank lines are skipped.
        source_lang: the key of the source sentence.
        target_lang: the key of the target sentence.

    Raises:
        ValueError: the file is missing or empty, or a line is not JSON, has no ``translation``
            object, or lacks one of the languages (the message lists those it has).
    """
    source, target = [], []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        where = f"data file {str(path)!r}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: not a JSON object: {error}") from error
        translation = row.get("translation") if isinstance(row, dict) else None
        if not isinstance(translation, dict):
            raise ValueError(
                f'{where}: no "translation" object; a line looks like '
                f'{{"translation": {{"{source_lang}": "...", "{target_lang}": "..."}}}}'
            )
        require_languages(translation, source_lang, target_lang, where)
        source.append(translation[source_lang])
        target.append(translation[target_lang])
        for lang in (source_lang, target_lang):
            if not isinstance(translation[lang], str):
                raise ValueError(f"{where}: {lang!r} is {translation[lang]!r}, not a string")
    return _to_dataset(source, target, source_lang, target_lang)


def read_file(path: str | Path, source_lang: str, target_lang: str) -> Dataset:
    """Read one split: JSON lines by its suffix, parallel text if ``{lang}`` is in the name."""
    name = Path(path).name.removesuffix(".gz")
    if LANG in str(path):
        return read_parallel_text(path, source_lang, target_lang)
    if name.endswith(JSON_SUFFIXES):
        return read_json_lines(path, source_lang, target_lang)
    raise ValueError(
        f"data file {str(path)!r} is neither JSON lines ({' or '.join(JSON_SUFFIXES)}) nor a pair "
        f"of parallel text files (a name with {LANG} in the place of the language)"
    )


def load_files(
    files: Mapping[str, str | None],
    source_lang: str,
    target_lang: str,
    data_dir: str | None = None,
) -> DatasetDict:
    """Load local files, one (pattern) for each split.

    Args:
        files: split name → file or pattern (see :func:`read_file`); ``None`` leaves a split out.
        source_lang: the language translated from.
        target_lang: the language translated to.
        data_dir: the folder that relative names are in; the working directory if not given.

    Raises:
        ValueError: as :func:`read_file`, or the folder does not exist.
    """
    folder = Path(data_dir or ".")
    if not folder.is_dir():
        raise ValueError(f"data_dir {str(folder)!r} is not a folder")
    return DatasetDict(
        {
            split: read_file(folder / name, source_lang, target_lang)
            for split, name in files.items()
            if name is not None
        }
    )


def load_hub(
    name: str, config_name: str | None, source_lang: str, target_lang: str, **load_kwargs: Any
) -> DatasetDict:
    """Load a data set by its Hub name (or a local folder in a Hub layout).

    Both layouts in use are understood: a ``translation`` column (``iwslt2017``, ``wmt14``) and a
    column for each language (``bentrevett/multi30k``).

    Args:
        name: the data set, as for :func:`datasets.load_dataset`.
        config_name: its configuration, such as ``"iwslt2017-de-en"``.
        source_lang: the language translated from.
        target_lang: the language translated to.
        **load_kwargs: handed to :func:`datasets.load_dataset`.

    Raises:
        ValueError: a language is not in the data; the message lists the keys that are.
    """
    raw = load_dataset(name, config_name, **load_kwargs)
    splits = {}
    for split, dataset in raw.items():
        if len(dataset) == 0:
            raise ValueError(f"split {split!r} of data set {name!r} is empty")
        nested = "translation" in dataset.column_names
        keys = dataset[0]["translation"] if nested else dataset.column_names
        require_languages(keys, source_lang, target_lang, f"split {split!r} of data set {name!r}")
        rows = dataset["translation"] if nested else dataset
        pairs = [(row[source_lang], row[target_lang]) for row in rows]
        source, target = ([pair[side] for pair in pairs] for side in (0, 1))
        splits[split] = _to_dataset(source, target, source_lang, target_lang)
    return DatasetDict(splits)


def load_embedded(source_lang: str, target_lang: str, **options: Any) -> DatasetDict:
    """Generate the package's own English-German corpus.

    Args:
        source_lang: "en" or "de".
        target_lang: the other one.
        **options: ``seed``, ``train``, ``validation``, ``test`` (sentence pairs in each split) and
            ``disjoint_skeletons``; see :func:`chts_hf.translation.embedded.generate_corpus`.

    Raises:
        ValueError: a language that the corpus does not have, or more pairs than it has.
    """
    require_languages(("en", "de"), source_lang, target_lang, "the embedded corpus")
    splits = {}
    for split, rows in generate_corpus(**options).items():
        source, target = ([row[lang] for row in rows] for lang in (source_lang, target_lang))
        splits[split] = _to_dataset(source, target, source_lang, target_lang)
    return DatasetDict(splits)


def require_languages(keys: Iterable[str], source_lang: str, target_lang: str, where: str) -> None:
    """Raise a ValueError that lists the keys there are if one of the two languages is not there."""
    there = list(keys)
    if source_lang == target_lang:
        raise ValueError(f"source_lang and target_lang are both {source_lang!r}")
    for argument, lang in (("source_lang", source_lang), ("target_lang", target_lang)):
        if lang not in there:
            raise ValueError(
                f"{argument} {lang!r} is not in {where}; the keys there are "
                + ", ".join(repr(key) for key in there)
            )


def require_split(corpus: Mapping[str, Dataset], split: str, needed_for: str) -> Dataset:
    """Return a split of the corpus, or raise a ValueError that lists the splits there are."""
    if split not in corpus:
        raise ValueError(
            f"{needed_for} needs a {split!r} split, and the data has only "
            + (", ".join(repr(name) for name in corpus) or "none")
        )
    return corpus[split]


def column(dataset: Dataset, lang: str) -> list[str]:
    """Return the sentences of one language, in order."""
    return [row[lang] for row in dataset["translation"]]


def sentences_digest(dataset: Dataset, source_lang: str, target_lang: str) -> str:
    """Sum a split's sentence pairs up in one word, the same wherever they were read from.

    Args:
        dataset: the split.
        source_lang: the language translated from.
        target_lang: the language translated to.

    Returns:
        16 hexadecimal digits, the start of a SHA-256 of the pairs in their order.
    """
    digest = hashlib.sha256()
    pairs = zip(column(dataset, source_lang), column(dataset, target_lang), strict=True)
    for pair in pairs:
        digest.update(json.dumps(pair).encode())
    return digest.hexdigest()[:16]


def _to_dataset(
    source: Sequence[str], target: Sequence[str], source_lang: str, target_lang: str
) -> Dataset:
    rows = [
        {source_lang: one, target_lang: other} for one, other in zip(source, target, strict=True)
    ]
    pair = {source_lang: Value("string"), target_lang: Value("string")}
    return Dataset.from_dict({"translation": rows}, features=Features({"translation": pair}))
