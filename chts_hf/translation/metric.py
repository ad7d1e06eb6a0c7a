"""BLEU and chrF by sacreBLEU, as an ``evaluate`` metric that needs no download."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

_DESCRIPTION = "BLEU and chrF on detokenised text, computed by sacreBLEU, with their signatures."
_INPUTS = """
Args:
    predictions: the translations, plain text.
    references: one reference for each prediction, or a list of references for each.
"""
_CITATION = """@inproceedings{post-2018-call,
  title = "A Call for Clarity in Reporting {BLEU} Scores", author = "Post, Matt",
  booktitle = "Proceedings of the Third Conference on Machine Translation", year = "2018"}"""


class SacreBleu(evaluate.Metric):
    """BLEU (Papineni et al., 2002) and chrF (Popović, 2015) of a corpus.

    ``evaluate.load("sacrebleu")`` fetches its code from the Hub; this class gives the same
    numbers without it, and adds chrF and the signatures that say how both were computed.

    Returns (from :meth:`compute`):
        ``bleu`` and ``chrf`` in [0, 100], ``bleu_signature`` and ``chrf_signature``,
        ``brevity_penalty``, and ``length_ratio`` (translation tokens / reference tokens).

    Example:
        >>> SacreBleu().compute(predictions=["a b c d"], references=["a b c d"])["bleu"]
        100.0
    """

    def __init__(self, tokenize: str = "13a", **kwargs: Any) -> None:
        self.tokenize = tokenize
        # In memory: the sentences are few, and the cache files of several processes would collide.
        super().__init__(**{"keep_in_memory": True, **kwargs})

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=[
                datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
                datasets.Features({"predictions": text, "references": text}),
            ],
            reference_urls=["https://github.com/mjpost/sacrebleu"],
        )

    def _compute(
        self, predictions: Sequence[str], references: Sequence[str] | Sequence[Sequence[str]]
    ) -> dict[str, Any]:
        per_sentence = [[one] if isinstance(one, str) else list(one) for one in references]
        counts = {len(one) for one in per_sentence}
        if len(counts) != 1:
            raise ValueError(
                "every prediction needs the same number of references; there are sentences with "
                + " and ".join(str(count) for count in sorted(counts))
            )
        streams = [list(stream) for stream in zip(*per_sentence, strict=True)]
        bleu, chrf = BLEU(tokenize=self.tokenize), CHRF()
        bleu_score = bleu.corpus_score(list(predictions), streams)
        chrf_score = chrf.corpus_score(list(predictions), streams)
        return {
            "bleu": bleu_score.score,
            "chrf": chrf_score.score,
            "bleu_signature": str(bleu.get_signature()),
            "chrf_signature": str(chrf.get_signature()),
            "brevity_penalty": bleu_score.bp,
            "length_ratio": bleu_score.ratio,
        }
