#!/usr/bin/env python
"""Translate sentences that are in no split of the embedded corpus, and show what was expected.

    python recipes/unseen.py output/demo --count 3

It is for models that recipes/translation.py trained on that corpus; sentences of your own, with
any model, are for chts-hf translate.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from chts_hf.commands.translate import load_model
from chts_hf.runs.recipe import run_script
from chts_hf.translation import TokenizerPair
from chts_hf.translation.embedded import generate_corpus, unseen_sentences
from chts_hf.translation.inference import translate


def main(argv: Sequence[str] | None = None) -> list[str]:
    """Print sentences, their translations and the references; return the translations."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of a model that was trained on the corpus")
    parser.add_argument("--count", type=int, default=3, help="sentences (3)")
    parser.add_argument("--num_beams", type=int, default=4, help="1 is greedy search (4)")
    options = parser.parse_args(argv)

    pairs, (source, target) = unseen_pairs(options.folder, options.count)
    model = load_model(str(options.folder), "dense")
    tokenizers = TokenizerPair.load(str(options.folder))
    sentences = [pair[source] for pair in pairs]
    translations = translate(model, tokenizers, sentences, num_beams=options.num_beams)
    for pair, translation in zip(pairs, translations, strict=True):
        print(f"sentence     {pair[source]}\ntranslation  {translation}")
        print(f"reference    {pair[target]}\n")
    return translations


def unseen_pairs(folder: Path, count: int) -> tuple[list[dict[str, str]], list[str]]:
    """Draw sentence pairs that were in no split of the corpus that a model was trained on.

    Args:
        folder: the model's; its ``all_results.json`` says how the corpus was generated.
        count: how many.

    Returns:
        The pairs, and the source and the target language.

    Raises:
        ValueError: there is no such model, or it was not trained on the embedded corpus.
    """
    path = folder / "all_results.json"
    if not path.is_file():
        raise ValueError(f"there is no {str(path)!r}: name the output folder of a training run")
    results = json.loads(path.read_text(encoding="utf-8"))
    if "embedded_corpus" not in results:
        raise ValueError(
            f"{str(path)!r} is of a model that was not trained on the embedded corpus; for others "
            "use chts-hf translate"
        )
    corpus = generate_corpus(**results["embedded_corpus"])
    return unseen_sentences(corpus, count), results["languages"].split("-")


if __name__ == "__main__":
    run_script(main)
