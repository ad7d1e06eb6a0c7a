"""A recipe's arguments: from YAML files and the command line, later ones winning."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

import yaml
from transformers import HfArgumentParser, TrainingArguments

from chts_hf.config import CHTsConfig
from chts_hf.settings import settings

#: The nested section of a YAML file, and the prefix of its names on the command line.
SECTION = "chts"
YAML_SUFFIXES = (".yaml", ".yml")


def option(default: Any, help: str) -> Any:
    """A dataclass field with a default and the text that ``--help`` shows."""
    return field(default=default, metadata={"help": help})


Model = TypeVar("Model")
Data = TypeVar("Data")
Training = TypeVar("Training", bound=TrainingArguments)


@dataclass
class Arguments(Generic[Model, Data, Training]):
    """Everything a run of a recipe is told.

    Attributes:
        model: the model.
        data: the data.
        training: the Trainer's arguments.
        chts: the sparse training.
        setting: the name of the (last) YAML file without its suffix, or "command line".

    Raises:
        ValueError: the Trainer's arguments ask for nothing to be done.
    """

    model: Model
    data: Data
    training: Training
    chts: CHTsConfig
    setting: str

    def __post_init__(self) -> None:
        if not (self.training.do_train or self.training.do_eval or self.training.do_predict):
            raise ValueError(
                "nothing to do: name a YAML file of configs/, or say --do_train, --do_eval or "
                "--do_predict"
            )


def require_positive(arguments: object, *names: str) -> None:
    """Refuse numbers below 1; None is no number.

    Raises:
        ValueError: names the first such argument.
    """
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")


@dataclass
class Parsed:
    """What files and command line said.

    Attributes:
        values: an instance of each dataclass asked for, in that order.
        section: the fields of :class:`~chts_hf.CHTsConfig` that were given.
        setting: the name of the (last) YAML file without its suffix, or "command line".
    """

    values: tuple[Any, ...]
    section: dict[str, Any]
    setting: str


def parse(classes: Sequence[Any], argv: Sequence[str], description: str) -> Parsed:
    """Read YAML files and command-line options in the order given; later ones win.

    A YAML file holds the names of the arguments flat, and one section ``chts:`` with the fields of
    :class:`~chts_hf.CHTsConfig`. On the command line those are ``--chts.NAME VALUE``, with VALUE
    written as in YAML.

    Args:
        classes: dataclasses whose fields are the arguments.
        argv: YAML files first, then options, such as
            ``["configs/demo.yaml", "--max_steps", "100", "--chts.sparsity", "0.95"]``.
        description: what ``--help`` says of the script.

    Raises:
        ValueError: an unknown name (with the names near it), or a value of the wrong type or that
            its dataclass refuses.
    """
    parser = _parser(classes, description)
    words, section, setting = _read(classes, argv)
    values = parser.parse_args_into_dataclasses(words, look_for_args_file=False)
    return Parsed(tuple(values), section, setting)


def refuse_mistakes(classes: Sequence[Any], argv: Sequence[str]) -> None:
    """Refuse names and types as :func:`parse` does, without making anything of the values.

    So it takes no device and no folder, as making ``TrainingArguments`` may.

    Args:
        classes: as for :func:`parse`.
        argv: likewise.

    Raises:
        ValueError: an unknown name (with the names near it), or a value of the wrong type.
    """
    _parser(classes, "").parse_args(_read(classes, argv)[0])


def _parser(classes: Sequence[Any], description: str) -> _Parser:
    return _Parser(
        list(classes),
        allow_abbrev=False,
        description=description,
        epilog=f"Sparse training: --{SECTION}.NAME VALUE, NAME one of {', '.join(settings())}. "
        "docs/configuration.md says what each means.",
    )


def _read(classes: Sequence[Any], argv: Sequence[str]) -> tuple[list[str], dict[str, Any], str]:
    """All arguments as command-line words, the nested section, and the setting's name."""
    known = [f.name for cls in classes for f in fields(cls) if f.init]
    options, section, setting = list(argv), {}, "command line"
    words: list[str] = []
    while options and options[0].endswith(YAML_SUFFIXES):
        path = Path(options.pop(0))
        setting = path.stem
        flat, nested = _read_yaml(path, known)
        words += flat
        section.update(nested)
    rest, dotted = _split_dotted(options)
    section.update(dotted)
    for word in rest:
        name = word.removeprefix("--").split("=", 1)[0].replace("-", "_")
        if word.startswith("--") and name.removeprefix("no_") not in [*known, "help"]:
            if name in settings():
                raise ValueError(f"unknown option --{name}; did you mean --{SECTION}.{name}?")
            raise _unknown(f"option --{name}", name, known)
    return words + rest, section, setting


class _Parser(HfArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _read_yaml(path: Path, known: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Return a YAML file's arguments as command-line words, and its nested section."""
    if not path.is_file():
        raise ValueError(f"configuration file {str(path)!r} does not exist")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{str(path)!r} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} must hold names and values, not {content!r}")
    section = content.pop(SECTION, None) or {}
    if not isinstance(section, dict):
        raise ValueError(f"{str(path)!r}: {SECTION} must be a section of names and values")
    words = []
    for name, value in content.items():
        if name not in known:
            raise _unknown(f"key {name!r} in {str(path)!r}", str(name), [*known, SECTION])
        if value is None:
            raise ValueError(f"{str(path)!r}: {name} has no value; leave it out for its default")
        if isinstance(value, list):
            words += [f"--{name}", *(str(one) for one in value)]
        elif isinstance(value, dict):
            words.append(f"--{name}={json.dumps(value)}")
        else:
            words.append(f"--{name}={value}")
    return words, {name: _number(value) for name, value in section.items()}


def _split_dotted(options: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Take ``--chts.NAME VALUE`` and ``--chts.NAME=VALUE`` out of the command line."""
    rest: list[str] = []
    section: dict[str, Any] = {}
    words = iter(options)
    for word in words:
        if not word.startswith(f"--{SECTION}."):
            rest.append(word)
            continue
        name, equals, value = word.removeprefix(f"--{SECTION}.").partition("=")
        if not equals:
            found = next(words, None)
            if found is None or found.startswith("--"):
                raise ValueError(f"--{SECTION}.{name} needs a value")
            value = found
        section[name] = _number(yaml.safe_load(value))
    return rest, section


def _number(value: Any) -> Any:
    """Read ``1e-3`` as a number: YAML 1.1 wants a point in it and calls it a string otherwise."""
    if isinstance(value, dict):
        return {name: _number(one) for name, one in value.items()}
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _unknown(what: str, name: str, known: Sequence[str]) -> ValueError:
    near = get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(near)}?" if near else "; --help lists the names"
    return ValueError(f"unknown {what}{hint}")
