"""Resolve every dependency to its newest version and write constraints.txt.

Nothing is installed: pip only reports what it would install. torch and its CUDA packages are left
out, since users bring their own torch. A package whose newest version needs a later Python than
the project's oldest gets a marker, so that pip may choose an older one there.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = "3.10"
NOT_PINNED = ("chts-hf", "torch", "triton", "nvidia-", "cuda-")
HEADER = """\
# The exact version of everything the project and its checks were run with, apart from torch.
# Written by `make pins`; `make` installs from it. A marker names the Python a version needs.
"""


def resolve(torch_spec: str) -> list[dict[str, Any]]:
    """Return pip's metadata of all packages the project needs, at their newest versions."""
    command = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    command += ["--dry-run", "--ignore-installed", "--report", "-", *shlex.split(torch_spec)]
    command += ["--editable", f"{ROOT}[analysis,browser,recipes,dev]"]
    report = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [entry["metadata"] for entry in json.loads(report)["install"]]


def constraint_lines(packages: Iterable[dict[str, Any]]) -> list[str]:
    """Return one `name==version` line per package to pin, in alphabetical order."""
    lines = {}
    for package in packages:
        name = canonicalize_name(package["name"])
        if name.startswith(NOT_PINNED):
            continue
        needs = SpecifierSet(package.get("requires_python") or "")
        marker = "" if needs.contains(OLDEST_PYTHON) else f' ; python_version >= "{lowest(needs)}"'
        lines[name] = f"{name}=={package['version']}{marker}"
    return [lines[name] for name in sorted(lines)]


def lowest(needs: SpecifierSet) -> str:
    """Return the first minor version of Python that meets `needs`."""
    minors = (f"3.{minor}" for minor in range(10, 40))
    return next(minor for minor in minors if needs.contains(f"{minor}.99"))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write constraints.txt.")
    parser.add_argument("--torch-spec", required=True, help="what pip takes for torch")
    arguments = parser.parse_args(argv)
    lines = constraint_lines(resolve(arguments.torch_spec))
    (ROOT / "constraints.txt").write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"constraints.txt: {len(lines)} packages pinned")


if __name__ == "__main__":
    main()
