"""The recipe's arguments: from a YAML file and the command line, later ones winning."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import yaml
from transformers import HfArgumentParser

from chts_hf.config import CHTsConfig
from chts_hf.translation.trainer import NoamType, TranslationTrainingArguments

#: The nested section of a YAML file, and the prefix of its names on the command line.
SECTION = "chts"
YAML_SUFFIXES = (".yaml", ".yml")
#: The value of ``dataset_name`` that means the generated corpus.
EMBEDDED = "embedded"


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass
class ModelArguments:
    """The model: one to fine-tune, or an architecture and sizes to train from scratch."""

    model_name_or_path: str | None = _option(
        None, "A model to fine-tune: a folder, or a name on the Hub; its tokenizer comes with it."
    )
    model_revision: str = _option("main", "Revision of that model on the Hub.")
    architecture: str = _option("marian", "From scratch: marian, bart, pegasus or t5.")
    d_model: int = _option(128, "From scratch: width of the model.")
    encoder_layers: int = _option(2, "From scratch: encoder layers.")
    decoder_layers: int = _option(2, "From scratch: decoder layers.")
    attention_heads: int = _option(4, "From scratch: heads of every attention.")
    ffn_dim: int = _option(512, "From scratch: width of the feed-forward layers.")
    dropout: float = _option(0.1, "From scratch: dropout.")
    attention_dropout: float = _option(0.0, "From scratch: dropout of attention weights.")
    activation: str = _option("relu", "From scratch: activation of the feed-forward layers.")
    max_positions: int = _option(512, "From scratch: longest sequence; T5 has no limit.")
    vocab_size: int = _option(4000, "From scratch: pieces of the (or each) trained vocabulary.")
    joint_vocabulary: bool = _option(
        True, "From scratch: one vocabulary for both languages, or (Marian only) one for each."
    )


@dataclass
class DataTrainingArguments:
    """The data, how it is tokenized, and how translations are searched."""

    source_lang: str = _option("en", "The language translated from: its key in the data.")
    target_lang: str = _option("de", "The language translated to.")
    dataset_name: str | None = _option(
        None, f"A data set on the Hub, or {EMBEDDED!r} for the corpus this package generates."
    )
    dataset_config_name: str | None = _option(None, "The configuration of that data set.")
    data_dir: str | None = _option(None, "The folder that the local files are in.")
    train_file: str | None = _option(
        None,
        'Training data: JSON lines with a "translation" field (.json, .jsonl), or two parallel '
        "text files by a name with {lang} in it; each also .gz.",
    )
    validation_file: str | None = _option(None, "Validation data, likewise.")
    test_file: str | None = _option(None, "Test data, likewise.")
    embedded_train: int = _option(12000, "Embedded corpus: training pairs.")
    embedded_validation: int = _option(400, "Embedded corpus: validation pairs.")
    embedded_test: int = _option(400, "Embedded corpus: test pairs.")
    embedded_seed: int = _option(0, "Embedded corpus: its seed.")
    embedded_disjoint_skeletons: bool = _option(
        False, "Embedded corpus: no sentence pattern is in two of the splits."
    )
    source_prefix: str = _option("", "Written before each source sentence (T5 models).")
    max_source_length: int = _option(128, "Sources are cut to so many tokens.")
    max_target_length: int = _option(128, "Training targets are cut to so many tokens.")
    val_max_target_length: int | None = _option(
        None, "Most tokens of a translation, and of targets in evaluation; max_target_length."
    )
    num_beams: int = _option(
        4, "Beams for the test set; evaluations during training use generation_num_beams, or 1."
    )
    max_train_samples: int | None = _option(None, "Use only so many training pairs.")
    max_eval_samples: int | None = _option(None, "Use only so many validation pairs.")
    max_predict_samples: int | None = _option(None, "Use only so many test pairs.")
    pad_to_multiple_of: int | None = _option(None, "Pad lengths up to a multiple of this.")
    record_topology: bool = _option(
        False, "Keep counts and masks of the run in output_dir/topology, for `chts-hf report`."
    )

    def __post_init__(self) -> None:
        """Check what does not need the data.

        Raises:
            ValueError: no data, two sources of data, or a number below 1.
        """
        self.dataset_name = self.dataset_name or None  # "" takes back what a file says
        if self.val_max_target_length is None:
            self.val_max_target_length = self.max_target_length
        local = [self.train_file, self.validation_file, self.test_file]
        if (self.dataset_name is None) == (not any(local)):
            raise ValueError(
                "give either dataset_name or local files (train_file, validation_file, test_file)"
                + (", not both" if self.dataset_name else "")
            )
        for name in (
            "max_source_length", "max_target_length", "val_max_target_length", "num_beams",
            "max_train_samples", "max_eval_samples", "max_predict_samples",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")


@dataclass
class Arguments:
    """Everything a run is told.

    Attributes:
        model: the model.
        data: the data.
        training: the Trainer's arguments.
        chts: the sparse training.
        setting: the name of the (last) YAML file without its suffix, or "command line".
    """

    model: ModelArguments
    data: DataTrainingArguments
    training: TranslationTrainingArguments
    chts: CHTsConfig
    setting: str


def read_arguments(argv: Sequence[str]) -> Arguments:
    """Read YAML files and command-line options in the order given; later ones win.

    A YAML file holds the names of the arguments flat, and one section ``chts:`` with the fields of
    :class:`~chts_hf.CHTsConfig`. On the command line those are ``--chts.NAME VALUE``, with VALUE
    written as in YAML. ``chts.seed`` is the run's ``seed`` unless it is given.

    Args:
        argv: YAML files first, then options, such as
            ``["configs/demo.yaml", "--max_steps", "100", "--chts.sparsity", "0.95"]``.

    Raises:
        ValueError: an unknown name (with the names near it), a value of the wrong type, or one
            that its dataclass or :class:`~chts_hf.CHTsConfig` refuses.
    """
    classes: list[Any] = [ModelArguments, DataTrainingArguments, TranslationTrainingArguments]
    parser = _Parser(
        classes,
        allow_abbrev=False,
        description="Train a translation model, sparsely.",
        epilog=f"Sparse training: --{SECTION}.NAME VALUE, NAME a field of CHTsConfig.",
    )
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
            raise _unknown(f"option --{name}", name, known)
    model, data, training = parser.parse_args_into_dataclasses(
        words + rest, look_for_args_file=False
    )
    _match_rewarming(training, section)
    section.setdefault("seed", training.seed)
    return Arguments(model, data, training, CHTsConfig.from_dict(section), setting)


def _match_rewarming(training: TranslationTrainingArguments, section: dict[str, Any]) -> None:
    """Let "noam" turn re-warming off, and refuse a schedule and a setting that contradict."""
    schedule, steps = training.lr_scheduler_type, section.get("rewarm_steps")
    if schedule == NoamType.NOAM:
        if steps:
            raise ValueError(
                f"lr_scheduler_type noam is without re-warming, and {SECTION}.rewarm_steps is "
                f"{steps}; use inoam, or leave rewarm_steps out"
            )
        section["rewarm_steps"] = 0
    elif schedule == NoamType.INOAM and steps == 0:
        raise ValueError(
            f"lr_scheduler_type inoam is noam with re-warming, and {SECTION}.rewarm_steps is 0; "
            "use noam, or leave rewarm_steps out"
        )


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
