"""What holds the project together and no other test would notice when it breaks."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
CODE_FOLDERS = ("chts_hf", "recipes", "tests", "benchmarks", "scripts")
LINE_LIMIT = 400
PURE_IMPORTS = {"torch", "numpy"}  # all that chts_hf.topology may know of beside the library


@cache
def project_files() -> list[Path]:
    """All files that are or would be in the repository."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        names = [name for name in listed.stdout.split("\0") if name]
    else:  # an unpacked archive: everything but environments, caches and outputs
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
        names = [name for name in names if not re.match(r"\.(?!ci/)|output/|.*__pycache__", name)]
    return [path for name in names if (path := ROOT / name).is_file()]


def texts(*suffixes: str) -> Iterator[tuple[str, str]]:
    """Name and text of each file with one of the suffixes, or of every text file."""
    for path in project_files():
        if suffixes and path.suffix not in suffixes:
            continue
        try:
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            assert not suffixes, f"{path} is not UTF-8"


def pyproject_strings(pattern: str) -> list[str]:
    """What a pattern with one group finds in pyproject.toml; Python 3.10 has no TOML parser."""
    return re.findall(pattern, (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M | re.S)


def dependency_list(name: str) -> list[Requirement]:
    (block,) = pyproject_strings(rf"^{name} = \[\n(.*?)^\]")
    return [Requirement(text) for text in re.findall(r'^    "(.+)",$', block, re.M)]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def imports(tree: ast.AST, *, at_top_only: bool) -> set[str]:
    """Full names of the modules a file imports; those for type checkers alone left out."""
    found: set[str] = set()
    nodes = list(ast.iter_child_nodes(tree))
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes += node.orelse
        elif not (at_top_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            nodes += ast.iter_child_nodes(node)
    return found


@cache
def package_trees() -> dict[str, ast.Module]:
    """Module name → syntax tree, for every module of the package."""
    trees = {}
    for name, text in texts(".py"):
        if name.startswith("chts_hf/"):
            module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            trees[module] = ast.parse(text)
    return trees


def module_of(imported: str) -> str | None:
    """The module of the package that `from module import name` loads, if it is one of them."""
    trees = package_trees()
    return next((m for m in (imported, imported.rpartition(".")[0]) if m in trees), None)


def code_blocks(text: str) -> Iterator[str]:
    """Each command in the fenced blocks of a Markdown page, continuation lines joined."""
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            yield line.strip().removeprefix("$ ")


def test_files_that_pyproject_names_exist() -> None:
    (readme,) = pyproject_strings(r'^readme = "(.+?)"')
    (licence,) = pyproject_strings(r'^license-files = \["(.+?)"\]')
    assert (ROOT / readme).is_file()
    assert (ROOT / licence).is_file()
    for entry_point in pyproject_strings(r'^chts-hf = "([\w.]+:\w+)"'):
        module, _, function = entry_point.partition(":")
        tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        assert function in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}


def test_the_version_is_written_once() -> None:
    assert pyproject_strings(r'^version = \{ attr = "(.+?)" \}') == ["chts_hf.__version__"]
    versions = [
        ast.literal_eval(node.value)
        for node in package_trees()["chts_hf"].body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"
    ]
    assert len(versions) == 1
    assert str(Version(versions[0])) == versions[0]


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions: dict[str, str] = {}
    for pin in pins:
        versions[canonicalize_name(pin.name)] = str(pin.specifier).removeprefix("==")
    torch_spec = re.search(r"^TORCH_SPEC \?= torch==(.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert torch_spec is not None
    assert "torch" not in versions, "users bring their own torch"
    versions["torch"] = torch_spec[1]
    for list_name in ("dependencies", "analysis", "browser", "recipes", "dev"):
        for requirement in dependency_list(list_name):
            version = versions.get(canonicalize_name(requirement.name))
            assert version is not None, f"{requirement.name} is not in constraints.txt: make pins"
            assert requirement.specifier.contains(version), f"{requirement} excludes {version}"


def test_the_package_imports_only_what_it_depends_on() -> None:
    distributions = importlib.metadata.packages_distributions()
    required = {canonicalize_name(r.name) for r in dependency_list("dependencies")}
    extras = [r for name in ("analysis", "recipes") for r in dependency_list(name)]
    optional = required | {canonicalize_name(r.name) for r in extras}
    for module, tree in package_trees().items():
        for at_top_only, allowed in ((True, required), (False, optional)):
            for imported in imports(tree, at_top_only=at_top_only):
                top = imported.partition(".")[0]
                if top in sys.stdlib_module_names or top == "chts_hf":
                    continue
                owners = {canonicalize_name(d) for d in distributions.get(top, [top])}
                assert owners & allowed, f"{module} imports {imported}, which is no dependency"


def test_imports_go_one_way() -> None:
    graph = {
        module: {m for i in imports(tree, at_top_only=True) if (m := module_of(i))} - {module}
        for module, tree in package_trees().items()
        if module != "chts_hf"
    }
    assert len(graph) > 5
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " imports ".join((*path, module))
        if module not in done:
            for imported in sorted(graph.get(module, set()) - {"chts_hf"}):
                visit(imported, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def tiers() -> dict[str, int]:
    """Part of the package → its place in CONTRIBUTING's picture, from the top.

    A line with nothing but the vertical stroke stands between two tiers.
    """
    (picture,) = re.findall(
        r"^```\n( recipes/ .*?)^```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.M | re.S
    )
    found = {}
    for place, tier in enumerate(re.split(r"^ +│ *$", picture, flags=re.M)):
        for line in tier.splitlines():
            for name in re.findall(r"([a-z_]+)(?:\.py|/)", line[:43]):
                found[name] = place
    return found


def test_imports_go_down_the_picture() -> None:
    places = tiers()
    modules = {m: tree for m, tree in package_trees().items() if m != "chts_hf"}
    assert {m.split(".")[1] for m in modules} == places.keys() - {"recipes", "benchmarks"}
    for module, tree in modules.items():
        for imported in imports(tree, at_top_only=True):
            other = module_of(imported)
            if other not in (None, "chts_hf"):
                assert places[module.split(".")[1]] <= places[other.split(".")[1]], (
                    f"{module} imports {imported}, which is above it"
                )


def test_topology_is_pure() -> None:
    pure = {m: t for m, t in package_trees().items() if m.startswith("chts_hf.topology")}
    assert pure
    for module, tree in pure.items():
        for imported in imports(tree, at_top_only=False):
            top = imported.partition(".")[0]
            allowed = top in sys.stdlib_module_names or top in PURE_IMPORTS
            assert allowed or imported.startswith("chts_hf.topology"), f"{module}: {imported}"


def test_the_package_never_imports_what_is_around_it() -> None:
    around = {"recipes", "tests", "benchmarks", "scripts"}
    for module, tree in package_trees().items():
        tops = {name.partition(".")[0] for name in imports(tree, at_top_only=False)}
        assert not tops & around, module


def test_no_file_holds_two_ideas() -> None:
    lengths = {name: len(text.splitlines()) for name, text in texts(".py")}
    assert len(lengths) > 20
    too_long = {name: length for name, length in lengths.items() if length > LINE_LIMIT}
    assert not too_long


def test_nothing_refers_to_one_machine() -> None:
    local = re.compile(r"(?<![\w./:~*-])/(?:home|Users|root|mnt|opt|work|workspace)/\w+")
    for name, text in texts():
        match = local.search(text)
        assert match is None, f"{name} names a local path: {match and match[0]}"


def test_the_setup_names_no_host() -> None:
    # Where packages come from is for each machine's pip configuration to say.
    setup = ("Makefile", "constraints.txt", "pyproject.toml", ".ci/run")
    for name, text in texts():
        if name in setup or name.startswith("scripts/"):
            assert "://" not in text, f"{name} names an address"


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key given twice, of which plain YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key is given twice: {node.start_mark}"
        return super().construct_mapping(node, deep)


def test_configs_mean_what_they_say() -> None:
    configs = [(n, t) for n, t in texts(".yaml", ".yml") if n.startswith("configs/")]
    assert configs
    for name, text in configs:
        values = yaml.load(text, _UniqueKeyLoader)
        assert isinstance(values, dict), name
        for key, value in settings(values):
            assert isinstance(key, str), f"{name}: {key!r} needs quotes"
            # YAML reads 1e-4 as text and only 1.0e-4 as a number.
            assert not is_number(value), f"{name}: {key}: {value!r} is text, write it like 1.0e-4"


def settings(values: dict[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """All keys with their values, those of nested sections too."""
    for key, value in values.items():
        yield key, value
        if isinstance(value, dict):
            yield from settings(value)


def is_number(value: object) -> bool:
    """Whether a value is text that looks like a number."""
    return isinstance(value, str) and re.fullmatch(r"[-+]?[\d.]+([eE][-+]?\d+)?", value) is not None


def test_documented_commands_exist() -> None:
    targets = make_targets()
    for name, text in texts(".md"):
        for command in code_blocks(text):
            for target in re.findall(r"\bmake((?: [a-z-]+)+)\s*(?:#|$|[A-Z_]+=)", command):
                unknown = set(target.split()) - targets
                assert not unknown, f"{name}: `{command}`: no make target {unknown}"
            for path in re.findall(
                r"\b(?:recipes|configs|benchmarks|scripts|tests)/[\w/.-]+", command
            ):
                assert (ROOT / path.split("::")[0]).exists(), f"{name}: `{command}`: no {path}"


def test_the_example_of_a_new_method_runs() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    # In a process of its own: what it registers would stay for the tests after it.
    ran = subprocess.run([sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_documented_links_lead_somewhere() -> None:
    for name, text in texts(".md"):
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if "://" not in link and not link.startswith("mailto:"):
                assert ((ROOT / name).parent / link).exists(), f"{name} links to {link}"


def test_help_lists_every_target() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, check=True, text=True)
    assert set(re.findall(r"^\s+make ([a-z-]+)", listed.stdout, re.M)) == make_targets()
