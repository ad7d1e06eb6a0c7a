"""The fields that name layers by regular expressions, checked for their types."""

from __future__ import annotations

import re
from collections.abc import Mapping


def check_patterns(exclude: object, targets: object, overrides: object) -> None:
    """Refuse what is no list or mapping of regular expressions.

    Args:
        exclude: a list of them.
        targets: kind → one of them; or None.
        overrides: one of them → fields and their values, which are not looked at.

    Raises:
        ValueError: names the field, its value and what would be right.
    """
    if not isinstance(exclude, (list, tuple)):
        example = f"[{exclude!r}]" if isinstance(exclude, str) else "[] or ['decoder']"
        raise ValueError(
            f"exclude must be a list of regular expressions, such as {example}, got {exclude!r}"
        )
    for index, pattern in enumerate(exclude):
        _check_pattern(f"exclude[{index}]", pattern)
    if targets is not None:
        if not isinstance(targets, Mapping):
            raise ValueError(
                "targets must map kinds to regular expressions of whole module names, such as "
                f'{{"ffn.up": r".*\\.fc1"}}, got {targets!r}'
            )
        for kind, pattern in targets.items():
            if not isinstance(kind, str):
                raise ValueError(f'targets: a kind must be a text such as "ffn.up", got {kind!r}')
            _check_pattern(f"targets[{kind!r}]", pattern)
    if not isinstance(overrides, Mapping):
        raise ValueError(
            "overrides must map regular expressions to fields, such as "
            f'{{"fc1": {{"sparsity": 0.5}}}}, got {overrides!r}'
        )
    for pattern, values in overrides.items():
        _check_pattern("overrides", pattern)
        if not isinstance(values, Mapping):
            raise ValueError(
                f"overrides[{pattern!r}] must map fields to values, such as "
                f'{{"sparsity": 0.5}}, got {values!r}'
            )


def _check_pattern(where: str, pattern: object) -> None:
    if not isinstance(pattern, str):
        raise ValueError(f"{where} must be a regular expression, a text, got {pattern!r}")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{where}: {pattern!r} is no regular expression: {error}") from None
