"""``chts-hf translate``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedModel
from transformers.utils import logging

from chts_hf.checkpoint.load import load_sparse
from chts_hf.commands.base import CommandError, Commands, add_command, model_folder, positive

if TYPE_CHECKING:
    from chts_hf.translation.tokenizers import TokenizerPair

#: Batches that are read before any is translated, so that sentences of like length meet in one.
_BATCHES_AT_ONCE = 16
# What a tokenizer's class of transformers ends in that does not find its files.
_NO_TOKENIZER = (OSError, ValueError, TypeError, LookupError, AttributeError)


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "translate",
        summary="translate the lines of the standard input",
        description="Translate each line of the standard input by beam search and write it to the "
        "standard output, in the same order; empty lines stay empty. Text is UTF-8.",
        examples=[
            "chts-hf translate output/demo < sentences.en > sentences.de",
            "echo 'The dog sees the house.' | chts-hf translate output/demo --backend csr",
        ],
    )
    parser.add_argument("folder", metavar="FOLDER", help="of a saved model with its tokenizer")
    parser.add_argument("--num_beams", type=positive, default=4, help="1 is greedy search (4)")
    parser.add_argument("--batch_size", type=positive, default=32, help="lines at once (32)")
    parser.add_argument(
        "--max_length", type=positive, help="most tokens of a translation (the model's own)"
    )
    parser.add_argument("--source_prefix", default="", help="written before each line, for T5")
    parser.add_argument(
        "--backend",
        choices=("dense", "csr"),
        default="dense",
        help="csr: products that skip the zeros, on the CPU (dense, on a GPU if there is one)",
    )
    parser.add_argument(
        "--progress", action="store_true", help="count lines on stderr even if it is no terminal"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    # With what translation needs for training it takes seconds to import; others need not wait.
    from chts_hf.translation.inference import translate

    folder = model_folder(arguments.folder)
    model = load_model(str(folder), arguments.backend)
    tokenizers = load_tokenizers(folder)
    lines = read_lines(sys.stdin.buffer)
    done = 0
    while block := list(islice(lines, _BATCHES_AT_ONCE * arguments.batch_size)):
        full = [line for line in block if line.strip()]
        translations = iter(
            translate(
                model,
                tokenizers,
                full,
                num_beams=arguments.num_beams,
                max_length=arguments.max_length,
                batch_size=arguments.batch_size,
                source_prefix=arguments.source_prefix,
            )
        )
        for line in block:
            # One line each, whatever the model wrote.
            print(" ".join(next(translations).splitlines()) if line.strip() else "")
        sys.stdout.flush()
        done += len(block)
        if arguments.progress or sys.stderr.isatty():
            print(f"\r{done} lines", end="", file=sys.stderr, flush=True)
    if done and (arguments.progress or sys.stderr.isatty()):
        print(file=sys.stderr)
    return 0


def load_model(folder: str, backend: str) -> PreTrainedModel:
    """Load a translation model: sparse or dense, or for the backend "csr" a sparse one.

    Raises:
        CommandError: it is no encoder-decoder model.
        SparseFileError: a sparse checkpoint is needed and not there, or it is damaged.
    """
    logging.disable_progress_bar()
    if not getattr(AutoConfig.from_pretrained(folder), "is_encoder_decoder", False):
        raise CommandError(f"the model in {folder!r} is no encoder-decoder, so it can't translate")
    if backend == "csr":
        return load_sparse(folder, backend="csr", dtype=torch.float32)  # its products' only type
    model: PreTrainedModel = AutoModelForSeq2SeqLM.from_pretrained(folder)
    model.to("cuda" if torch.cuda.is_available() else "cpu")  # type: ignore[arg-type]
    return model


def load_tokenizers(folder: Path) -> TokenizerPair:
    """Load the tokenizers that lie beside a model.

    Raises:
        CommandError: there are none, or they are damaged.
        ImportError: they need a package that is not installed.
    """
    from chts_hf.translation.tokenizers import TokenizerPair

    try:
        return TokenizerPair.load(folder)
    except _NO_TOKENIZER as error:
        raise CommandError(
            f"{str(folder)!r} has no tokenizer that can be loaded ({error}); save the model's own "
            f"beside it: tokenizer.save_pretrained({str(folder)!r})"
        ) from error


def read_lines(stream: Iterable[bytes]) -> Iterator[str]:
    """The lines of a UTF-8 stream, without their ends.

    Raises:
        CommandError: a line is not UTF-8; its number is named.
    """
    for number, line in enumerate(stream, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise CommandError(f"line {number} of the input is not UTF-8: {error}") from error
        yield text.removesuffix("\n").removesuffix("\r")
