"""What is computed from a record: how long translations are, and training FLOPs, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from chts_hf import CHTsConfig
from chts_hf.compare.flops import relative_training_flops
from chts_hf.compare.lengths import length_ratio, loop_percent
from chts_hf.compare.record import derived
from chts_hf.compare.significance import encode_statistics, sentence_statistics

#: 9 words for 4, 8 for 4 (just twice: no loop), 1 for 2 and none for 3.
SENTENCES = sentence_statistics(
    ["a b a b a b a b a", "a b c d a b c d", "a", ""], ["a b c d", "a b c d", "a b", "a b c"]
)


def test_lengths_by_hand() -> None:
    assert length_ratio(SENTENCES) == pytest.approx(18 / 13)
    assert loop_percent(SENTENCES) == 25
    assert loop_percent(SENTENCES[1:]) == 0
    same = np.array([[5, 5, 5, 4, 3, 2, 5, 4, 3, 2]])
    assert (length_ratio(same), loop_percent(same)) == (1, 0)


def test_a_record_is_asked_for_what_its_sentences_say() -> None:
    record = {"bleu_statistics": encode_statistics(SENTENCES), "eval_loss": 2.5}
    assert derived(record) == {"length_ratio": pytest.approx(18 / 13), "loop_percent": 25}
    assert derived({"eval_loss": 2.5}) == {}


def test_training_is_charged_anew() -> None:
    mest = CHTsConfig(method="mest", sparsity=0.9, update_interval=10)
    record = {"chts": mest.to_dict(), "steps": 100, "relative_training_flops": 0.5}
    assert derived(record) == {"relative_training_flops": relative_training_flops(mest, 100)}
