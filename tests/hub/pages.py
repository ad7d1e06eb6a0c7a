"""The code that the documentation shows."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def page_code(page: str, name: str) -> str:
    """The Python block of a page below ``<!-- test: name -->``."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.search(rf"<!-- test: {name} -->\n```python\n(.*?)```", text, re.S)
    assert found is not None, f"{page} has no code to test by the name {name}"
    return found[1]
