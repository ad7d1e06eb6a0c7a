#!/usr/bin/env python
"""Translate sentences with a model that recipes/translation.py saved.

::

    python recipes/translate.py output/demo "The dog sees the house."
    python recipes/translate.py output/demo < sentences.txt
    python recipes/translate.py output/demo --unseen 3
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSeq2SeqLM
from transformers.utils import logging

from chts_hf.runs.recipe import run_script
from chts_hf.translation import TokenizerPair
from chts_hf.translation.embedded import generate_corpus, unseen_sentences
from chts_hf.translation.inference import translate


def main(argv: Sequence[str] | None = None) -> list[str]:
    """Translate what the arguments, or else the lines of the standard input, say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", help="the folder of a saved model, or a name on the Hub")
    parser.add_argument("sentences", nargs="*", help="one sentence each; standard input if none")
    parser.add_argument("--num_beams", type=int, default=4, help="beams; 1 is greedy search")
    parser.add_argument("--batch_size", type=int, default=32, help="sentences at once")
    parser.add_argument("--source_prefix", default="", help="written before each sentence (T5)")
    parser.add_argument(
        "--unseen",
        type=int,
        metavar="N",
        help="for a model of the embedded corpus: N sentences that are in no split of it",
    )
    options = parser.parse_args(argv)

    references: list[str] = []
    if options.unseen is not None:
        pairs, (source, target) = unseen_pairs(Path(options.model), options.unseen)
        sentences = [pair[source] for pair in pairs]
        references = [pair[target] for pair in pairs]
    else:
        sentences = options.sentences or sys.stdin.read().removesuffix("\n").split("\n")

    if options.model.count("/") != 1 and not Path(options.model).is_dir():
        raise FileNotFoundError(f"there is no folder {options.model!r} with a saved model")
    logging.disable_progress_bar()
    tokenizers = TokenizerPair.load(options.model)
    model = AutoModelForSeq2SeqLM.from_pretrained(options.model)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    translations = translate(
        model,
        tokenizers,
        sentences,
        num_beams=options.num_beams,
        batch_size=options.batch_size,
        source_prefix=options.source_prefix,
    )
    if not references:
        print("\n".join(translations))
    for sentence, translation, reference in zip(sentences, translations, references, strict=False):
        print(f"sentence     {sentence}\ntranslation  {translation}\nreference    {reference}\n")
    return translations


def unseen_pairs(folder: Path, count: int) -> tuple[list[dict[str, str]], list[str]]:
    """Draw sentence pairs that were in no split of the corpus that a model was trained on.

    Args:
        folder: the model's; its ``all_results.json`` says how the corpus was generated.
        count: how many.

    Returns:
        The pairs, and the source and the target language.

    Raises:
        ValueError: the model was not trained on the embedded corpus.
    """
    path = folder / "all_results.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if "embedded_corpus" not in results:
        raise ValueError(f"--unseen needs a model of the embedded corpus; {str(path)!r} names none")
    corpus = generate_corpus(**results["embedded_corpus"])
    return unseen_sentences(corpus, count), results["languages"].split("-")


if __name__ == "__main__":
    run_script(main)
