"""BLEU and chrF: sacreBLEU's numbers and signatures, without a network."""

from __future__ import annotations

import socket

import pytest
import sacrebleu

from chts_hf.translation.metric import SacreBleu

PREDICTIONS = ["Ein Mann geht nach Hause .", "Zwei Hunde spielen im Gras, ja.", "Sie liest."]
REFERENCES = ["Ein Mann geht heim.", "Zwei Hunde spielen im Gras.", "Sie liest ein Buch."]
OTHERS = ["Ein Mann geht nach Hause.", "Im Gras spielen zwei Hunde.", "Sie liest."]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the metric reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_equals_sacrebleu() -> None:
    scores = SacreBleu().compute(predictions=PREDICTIONS, references=REFERENCES)
    assert scores["bleu"] == pytest.approx(sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES]).score)
    assert scores["chrf"] == pytest.approx(sacrebleu.corpus_chrf(PREDICTIONS, [REFERENCES]).score)
    assert 0 < scores["bleu"] < 100
    assert scores["bleu_signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|")
    assert scores["chrf_signature"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|")
    assert sacrebleu.__version__ in scores["bleu_signature"]


def test_several_references() -> None:
    both = [list(pair) for pair in zip(REFERENCES, OTHERS, strict=True)]
    scores = SacreBleu().compute(predictions=PREDICTIONS, references=both)
    expected = sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES, OTHERS]).score
    assert scores["bleu"] == pytest.approx(expected)
    assert scores["bleu_signature"].startswith("nrefs:2|")


def test_another_tokenization_is_in_the_signature() -> None:
    scores = SacreBleu(tokenize="char").compute(predictions=PREDICTIONS, references=REFERENCES)
    assert "tok:char" in scores["bleu_signature"]
    expected = sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES], tokenize="char").score
    assert scores["bleu"] == pytest.approx(expected)


def test_in_pieces_as_evaluate_allows() -> None:
    metric = SacreBleu()
    for prediction, reference in zip(PREDICTIONS, REFERENCES, strict=True):
        metric.add(prediction=prediction, reference=reference)
    whole = SacreBleu().compute(predictions=PREDICTIONS, references=REFERENCES)
    assert metric.compute() == whole


def test_errors() -> None:
    with pytest.raises(ValueError, match="same number of references.* 1 and 2"):
        SacreBleu().compute(predictions=["a", "b"], references=[["a"], ["b", "c"]])
