"""Numbers as text: means with their standard errors, and Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, stdev

#: What a cell says where there is no number.
NONE = "–"


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and standard error of the mean ``s / sqrt(n)``; no error of a single value.

    Example:
        >>> mean_and_error([20.0, 21.0, 25.0])  # s² = (4 + 1 + 9) / 2
        (22.0, 1.5275252316519465)
    """
    if not values:
        return math.nan, None
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return mean(values), error


def with_error(value: float | None, error: float | None, digits: int) -> str:
    """A number ± its error, if it has one; a dash if there is no number."""
    if value is None or value != value:
        return NONE
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def mean_text(values: Sequence[float | None], digits: int) -> str:
    """The mean of what is there ± its standard error, if there are several; a dash if none is."""
    return with_error(*mean_and_error([value for value in values if value is not None]), digits)


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])
