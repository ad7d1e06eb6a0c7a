"""The table of measures, the verdict and the conclusion, from rows that are made up."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs the extra `analysis`")

from chts_hf.analysis import single_layer  # noqa: E402
from chts_hf.analysis.measures import HYPERBOLIC, Comparison, Row, judge  # noqa: E402
from chts_hf.analysis.report import measured  # noqa: E402
from chts_hf.analysis.report.svg import with_error  # noqa: E402
from tests.analysis.pages import beside, read_table  # noqa: E402


def _row(name: str, value: float, error: float, er: list[float], degrees: list[float]) -> Row:
    nulls = {
        model: Comparison(float(np.mean(v)), float(np.std(v)), p, tuple(v))
        for model, v, p in (("er", er, 0.15), ("degrees", degrees, 0.05))
    }
    return Row(name, value, error, nulls)


def _rows(shift: float = 0.0, far: float = 0.05) -> list[Row]:
    spread = list(np.linspace(-0.01, 0.01, 19))
    made = []
    for i, name in enumerate(("clustering", "modularity", *HYPERBOLIC)):
        value = 0.5 + 0.01 * i + shift
        er, degrees = ([base + s for s in spread] for base in (0.2, 0.3))
        row = _row(name, value, 0.001 * i, er, degrees)
        nulls = dict(row.nulls)
        c = nulls["degrees"]
        nulls["degrees"] = Comparison(c.mean, c.deviation, far, c.values)
        made.append(Row(name, value, row.error, nulls))
    return made


def test_every_column_of_the_table_has_its_own_numbers():
    rows, before = _rows(), _rows(-0.35, far=0.3)
    chain = single_layer("x", np.ones((2, 2), bool))
    part = measured.table(rows, before, chain).html()
    groups, heads, *lines = read_table(part, "measures")
    assert groups == ["", "at the start", "at the end"]
    assert heads == [
        "measure", "network", "same degrees", "p", "network", "same density", "p",
        "same degrees", "p",
    ]  # fmt: skip
    one = ["", "", "|one-sided", "|one-sided"]
    for row, first, line, side in zip(rows, before, lines, one, strict=True):
        assert line[0].split("|")[0] == row.measure.replace("_", " ")
        two_sided = not side
        start = "0.3" if two_sided else "1"
        expected = [
            with_error(first.value, first.error), beside(first, "degrees"), start + side,
            with_error(row.value, row.error), beside(row, "er"),
            ("0.15" if two_sided else "0.05") + side + ("" if two_sided else "*"),
            beside(row, "degrees"), "0.05" + side + "*",
        ]  # fmt: skip
        assert [cell.replace(" |", " ") for cell in line[1:]] == expected
    alone = read_table(measured.table(rows, None, chain).html(), "measures")
    assert [line[1:] for line in alone[1:]] == [line[4:] for line in lines]


def test_the_verdict_has_the_tables_numbers():
    rows = _rows()
    assert measured.verdict(rows) == (
        "hyperbolic beyond its degrees, GR-score 0.5200 ± 0.0020 (rewired 0.3000 ± 0.0061, "
        "one-sided p = 0.05), ASI 0.5300 ± 0.0030 (rewired 0.3000 ± 0.0061, one-sided p = 0.05)."
    )
    lower = _rows(-0.35, far=0.05)
    said = measured.verdict(lower)
    assert said.startswith("not hyperbolic beyond its degrees, GR-score 0.1700 ± 0.0020")
    assert "one-sided p = 1)" in said
    assert measured.verdict(rows[:2]) == "not tested, too few of its links hang together."
    few = [
        Row(r.measure, r.value, 0.0, {"degrees": Comparison(0.3, 0.0, 0.1, (0.3, 0.31))})
        for r in rows
    ]
    assert "2 rewired networks are too few for a verdict" in measured.verdict(few)


def test_judgement_and_table_share_one_p():
    values = tuple(np.linspace(0, 1, 19))
    for value, p in ((2.0, 0.05), (0.95, 0.1), (-1.0, 1.0)):
        nulls = {"degrees": Comparison(0.5, 0.3, 0.05, values)}
        rows = [Row(n, value, 0.0, nulls) for n in ("greedy_routability", "angular_separation")]
        assert [row.p("degrees") for row in rows] == [p, p]
        assert judge(rows).p == p
        assert judge(rows).hyperbolic == (p <= 0.05)
    assert Row("modularity", 2.0, 0.0, nulls).p("degrees") == 0.05  # two-sided


def test_the_conclusion_tells_what_training_brought_and_took():
    chance, above = _rows(-0.35, far=0.3), _rows()
    less = [Row(r.measure, r.value - 0.05, 0.0, r.nulls) for r in above]
    assert measured.conclusion(above, chance) == (
        "Beyond what its degrees explain (p ≤ 0.05 each), new since the start, it is more clustered"
        " (0.15 → 0.5), more modular (0.16 → 0.51), more navigable in the disk (0.17 → 0.52) and "
        "more separated by angle (0.18 → 0.53)."
    )
    lost = measured.conclusion(less, above)
    assert "the network is more clustered (0.5 → 0.45), more modular (0.51 → 0.46)" in lost
    assert "at both ends, but nearer to chance than at the start: training lost some" in lost
    assert lost.endswith("Nothing is new since the start.")
    assert "and farther from chance than at the start" in measured.conclusion(above, less)
    mixed = measured.conclusion([less[0], *above[1:]], [above[0], *less[1:]])
    assert "at both ends; nearer to chance than at the start: clustering." in mixed
    gone = measured.conclusion(chance, above)
    assert "At the start it was more clustered (0.5 → 0.15), more modular" in gone
    assert "nothing is new since the start." in gone
    assert "Neither end differs" in measured.conclusion(chance, chance)
    assert measured.conclusion(above, None).startswith(
        "Beyond what its degrees explain, the network is more clustered, more modular"
    )
    below = [Row("clustering", 0.1, 0.0, above[0].nulls)]
    assert "is less clustered (" in measured.conclusion(below, below)
