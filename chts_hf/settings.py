"""Every field of ``CHTsConfig`` with its default and meaning, as its docstring tells them."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, fields

from chts_hf.config import CHTsConfig

_FIELD = re.compile(r"^(\w+): (.*)$")


def settings() -> dict[str, tuple[str, str]]:
    """What can be set.

    Returns:
        Field → its default as Python writes it, "the method's" where it comes with the method, and
        its meaning.
    """
    meanings = _meanings()
    found = {}
    for field in fields(CHTsConfig):
        default = field.default
        if default is MISSING:
            assert field.default_factory is not MISSING
            default = field.default_factory()
        of_method = field.name in CHTsConfig.ingredients()
        meaning = meanings[field.name].removeprefix("(method) ")
        found[field.name] = "the method's" if of_method else repr(default), meaning
    return found


def settings_table() -> str:
    """A Markdown table: a row for each field."""
    lines = ["| field | default | meaning |", "| --- | --- | --- |"]
    for name, (default, meaning) in settings().items():
        shown = default if default == "the method's" else f"`{default}`"
        text = meaning.replace("``", "`").replace("|", "\\|")
        lines.append(f"| `{name}` | {shown} | {text} |")
    return "\n".join(lines)


def _meanings() -> dict[str, str]:
    """Field → its text in the docstring's list of arguments."""
    docstring = inspect.getdoc(CHTsConfig) or ""
    arguments = docstring.partition("Args:\n")[2].partition("\n\n")[0]
    texts: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(arguments).splitlines():
        if start := _FIELD.match(line):
            name = start[1]
            texts[name] = start[2]
        else:
            texts[name] += " " + line.strip()
    return texts
