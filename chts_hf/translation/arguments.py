"""The recipe's arguments: from a YAML file and the command line, later ones winning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chts_hf.config import CHTsConfig
from chts_hf.runs import arguments as runs
from chts_hf.runs.arguments import SECTION, parse, require_positive
from chts_hf.runs.arguments import option as _option
from chts_hf.runs.topology import TopologyArguments
from chts_hf.translation.trainer import NoamType, TranslationTrainingArguments

#: The value of ``dataset_name`` that means the generated corpus.
EMBEDDED = "embedded"


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
    attention_dropout: float = _option(
        0.0, "From scratch: dropout of attention weights; in T5, dropout is."
    )
    activation_dropout: float = _option(
        0.0, "From scratch: dropout behind the feed-forward layers' activation; likewise."
    )
    activation: str = _option("relu", "From scratch: activation of the feed-forward layers.")
    max_positions: int = _option(512, "From scratch: longest sequence; T5 has no limit.")
    vocab_size: int = _option(4000, "From scratch: pieces of the (or each) trained vocabulary.")
    joint_vocabulary: bool = _option(
        True, "From scratch: one vocabulary for both languages, or (Marian only) one for each."
    )


@dataclass
class DataTrainingArguments(TopologyArguments):
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
    measure_speed: bool = _option(
        False,
        "At the end, time generation with sparse products beside dense ones, on the CPU, for the "
        "results and the model card.",
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
        require_positive(
            self, "max_source_length", "max_target_length", "val_max_target_length", "num_beams",
            "max_train_samples", "max_eval_samples", "max_predict_samples",
        )  # fmt: skip


#: Everything a run is told.
_CLASSES = (ModelArguments, DataTrainingArguments, TranslationTrainingArguments)
Arguments = runs.Arguments[ModelArguments, DataTrainingArguments, TranslationTrainingArguments]


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
    parsed = parse(_CLASSES, argv, "Train a translation model, sparsely.")
    (model, data, training), section = parsed.values, parsed.section
    _match_rewarming(training, section)
    section.setdefault("seed", training.seed)
    chts = CHTsConfig.from_dict(section)
    if data.measure_speed and (chts.is_dense or not (training.do_train and training.do_predict)):
        raise ValueError(
            "measure_speed times a sparse model that was just trained, on test sentences: give "
            f"do_train and do_predict, and a {SECTION}.method that is sparse, or leave it out"
        )
    return Arguments(model, data, training, chts, parsed.setting)


def refuse_mistakes(argv: Sequence[str]) -> None:
    """Refuse unknown names and values of a wrong type, as :func:`read_arguments` would.

    Args:
        argv: as for that function.

    Raises:
        ValueError: likewise.
    """
    runs.refuse_mistakes(_CLASSES, argv)


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
