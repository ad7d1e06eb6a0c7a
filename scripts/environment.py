"""Set up the project's virtual environment, once; a second run finds nothing to do.

`make` calls this before every target. It needs nothing but Python and pip:

1. makes the environment (through `virtualenv` where Python comes without `venv`);
2. uses the torch of the Python it runs under if there is one, without touching that installation,
   else installs `--torch-spec`;
3. installs the project in editable mode with everything pinned by constraints.txt;
4. leaves a stamp, so that the next run stops at a comparison of hashes until constraints.txt,
   pyproject.toml, this file or the place of the checkout changes.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
PROJECT = ROOT / "pyproject.toml"
BROUGHT = "chts_hf_brought_torch.pth"
STAMP = "chts_hf_setup_done"
PIP_INSTALL = ("-m", "pip", "install", "-qq", "--disable-pip-version-check")


def say(text: str) -> None:
    print(f"[setup] {text}", flush=True)


def normalized(requirement: str) -> str:
    """Return the name in a requirement such as `Foo_Bar>=1; marker`, in its canonical form."""
    match = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
    return re.sub(r"[-_.]+", "-", match.group(1)).lower() if match else ""


def dependency_closure(name: str) -> set[str]:
    """Return the names of all installed distributions that `name` needs, itself included."""
    found: set[str] = set()
    open_names = [name]
    while open_names:
        current = open_names.pop()
        if current in found:
            continue
        try:
            requires = importlib.metadata.requires(current) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(current)
        open_names += [normalized(r) for r in requires if "extra ==" not in r]
    return found


def without(constraints: Iterable[str], names: set[str]) -> list[str]:
    """Return the lines of a constraints file that pin none of `names`."""
    return [line for line in constraints if normalized(line) not in names]


def fingerprint() -> str:
    """Hash what the environment depends on."""
    digest = hashlib.sha256(f"{ROOT}\n".encode())
    for path in (CONSTRAINTS, PROJECT, Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def minimum_torch() -> str:
    """Return the oldest torch that pyproject.toml accepts."""
    # There is no TOML parser in Python 3.10's library, nor any package yet.
    match = re.search(r'"torch>=([\d.]+)"', PROJECT.read_text(encoding="utf-8"))
    if match is None:
        raise SystemExit(f'[setup] {PROJECT} has no dependency of the form "torch>=X.Y"')
    return match.group(1)


def leading_numbers(version: str) -> tuple[int, ...]:
    """Return (major, minor) of a version."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def brought_torch(venv: Path) -> tuple[str, Path] | None:
    """Return version and folder of the torch that is here already and not in `venv` itself."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).resolve().parent.parent
    if folder.is_relative_to(venv.resolve()):
        return None
    version = importlib.metadata.version("torch")
    minimum = minimum_torch()
    if leading_numbers(version) < leading_numbers(minimum):
        say(f"torch {version} of {sys.executable} is older than {minimum}: installing another")
        return None
    return version, folder


def run(command: Sequence[str | Path]) -> None:
    """Run a command; on failure stop with its exit status, its own message being above."""
    try:
        subprocess.run([str(part) for part in command], check=True)
    except subprocess.CalledProcessError as error:
        say(f"failed: {shlex.join(map(str, command))}")
        raise SystemExit(error.returncode) from None


def make_venv(venv: Path, base_python: str) -> None:
    """Make an empty virtual environment that has pip."""
    say(f"making {venv} with {base_python}")
    complete = "import ensurepip, venv"  # Some distributions package these apart from Python.
    if subprocess.run([base_python, "-c", complete], stderr=subprocess.DEVNULL).returncode == 0:
        run([base_python, "-m", "venv", "--clear", venv])
        return
    say("this Python has no venv module: fetching virtualenv for the occasion")
    with tempfile.TemporaryDirectory() as folder:
        run([base_python, *PIP_INSTALL, "--target", folder, "virtualenv"])
        os.environ["PYTHONPATH"] = folder
        run([base_python, "-m", "virtualenv", "-q", "--clear", venv])
        del os.environ["PYTHONPATH"]


def site_packages(python: Path) -> Path:
    """Return the folder that `python` installs pure packages into."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.check_output([python, "-c", code], text=True).strip())


def install(venv: Path, torch: tuple[str, Path] | None, torch_spec: str) -> None:
    """Install torch unless it was brought, then the project with its pinned dependencies."""
    python = venv / "bin" / "python"
    pins = venv / CONSTRAINTS.name
    constraints = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pip = [str(python), *PIP_INSTALL, "-c", str(pins)]
    if torch is not None:
        version, folder = torch
        say(f"using torch {version} from {folder}")
        # A .pth line comes after the environment's own packages on the path: pip sees what is
        # there, uses it where it fits and never writes to it.
        (site_packages(python) / BROUGHT).write_text(f"{folder}\n", encoding="utf-8")
        # What was brought decides which versions its dependencies have.
        constraints = without(constraints, dependency_closure("torch"))
        constraints.append(f"torch=={version}")
    pins.write_text("\n".join(constraints) + "\n", encoding="utf-8")
    if torch is None:
        say(f"installing {torch_spec} unless it is there (200 MB for a CPU, several GB with CUDA)")
        run([*pip, *shlex.split(torch_spec)])
    say("installing what is missing of the pinned dependencies (250 MB), and chts-hf itself")
    # Building with the pinned setuptools instead of in isolation keeps this reproducible.
    run([*pip, "setuptools>=77.0.3"])
    run([*pip, "--no-build-isolation", "--editable", f"{ROOT}[analysis,recipes,dev]"])


def works(python: Path) -> bool:
    """Say whether an environment's Python is there, runs and has pip."""
    command = [str(python), "-m", "pip", "--version"]
    return python.exists() and subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0


def prepare(venv: Path) -> None:
    """Make the environment if it is not there or broken, but never in place of anything else."""
    if works(venv / "bin" / "python"):
        return
    if venv.exists() and any(venv.iterdir()) and not (venv / "pyvenv.cfg").is_file():
        raise SystemExit(f"[setup] {venv} exists and is no virtual environment: not touching it")
    shutil.rmtree(venv, ignore_errors=True)
    make_venv(venv, sys.executable)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Set up the virtual environment, once.")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--torch-spec", required=True, help="what pip installs")
    arguments = parser.parse_args(argv)

    venv: Path = arguments.venv.absolute()
    python = venv / "bin" / "python"
    stamp = venv / STAMP
    wanted = fingerprint()
    if python.exists() and stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return

    inside = Path(sys.prefix).resolve() == venv.resolve()
    if works(python) and not inside:
        # Whether a torch was brought was settled when the environment was made: ask its Python.
        say(
            f"updating {venv}: it is unfinished, or {CONSTRAINTS.name}, pyproject.toml, "
            "the setup script or the place of the checkout has changed"
        )
        run([python, __file__, "--venv", venv, "--torch-spec", arguments.torch_spec])
        return
    started = time.monotonic()
    torch = brought_torch(venv)
    if not inside:
        prepare(venv)
    install(venv, torch, arguments.torch_spec)
    stamp.write_text(wanted, encoding="utf-8")
    say(f"done in {time.monotonic() - started:.0f} s; the next run will not need to")


if __name__ == "__main__":
    main()
