"""What a comparison is made of: methods × sparsities × seeds under one recipe, from a YAML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from chts_hf.config import CHTsConfig
from chts_hf.contradictions import idle_density

#: The recipe's arguments that say where and how fast a run is done, not what comes out.
EXECUTION = (
    "output_dir", "data_dir", "seed", "disable_tqdm", "per_device_eval_batch_size",
    "logging_steps", "report_to", "use_cpu",
    "dataloader_num_workers", "dataloader_pin_memory", "dataloader_prefetch_factor",
    "dataloader_persistent_workers", "save_total_limit", "push_to_hub",
)  # fmt: skip
SECTION = "chts"
#: Fields of that section that the comparison sets.
_PER_RUN = ("method", "sparsity", "seed")


@dataclass(frozen=True)
class Run:
    """One run of a comparison.

    Attributes:
        label: the method's name in this comparison: a preset's, or a variant's own.
        sparsity: asked for; 0 for dense.
        seed: of weights, data order, dropout and topology.
        chts: the fields of :class:`~chts_hf.CHTsConfig` that make the method.
    """

    label: str
    sparsity: float
    seed: int
    chts: Mapping[str, Any] = field(hash=False)

    @property
    def name(self) -> str:
        """A name for files: ``chtss_s90_seed0``."""
        if self.is_dense:
            return f"{self.label}_seed{self.seed}"
        return f"{self.label}_s{100 * self.sparsity:g}_seed{self.seed}"

    @property
    def is_dense(self) -> bool:
        """Whether nothing is sparsified."""
        return self.sparsity == 0.0

    @property
    def config(self) -> CHTsConfig:
        """The method's configuration, written out."""
        return CHTsConfig.from_dict({**self.chts, "seed": self.seed})


@dataclass(frozen=True)
class Comparison:
    """A comparison of methods.

    Attributes:
        setting: its name; results go to ``docs/results/<setting>/``.
        recipe: what every run is told (recipes/translation.py's arguments, flat), less what makes
            its method; ``chts`` holds the topology settings that all methods share.
        methods: label → fields of :class:`~chts_hf.CHTsConfig`; ``method`` is the label unless it
            is among them.
        sparsities: asked of every method but dense.
        seeds: of the runs.
        proposed: the labels that are not baselines.
        reference: the label that all are compared with.
        published: the table of published numbers to show beside ours, if any.
        shares: settings of other comparisons whose finished runs count here too, where they were
            told the same.
        threads: of each run on a CPU.
        source: the YAML file, as it was named.
        title: one line that says what is compared.
    """

    setting: str
    recipe: Mapping[str, Any]
    methods: Mapping[str, Mapping[str, Any]]
    sparsities: Sequence[float]
    seeds: Sequence[int]
    proposed: Sequence[str] = ("chts", "chtss")
    reference: str = "dense"
    published: str | None = None
    shares: Sequence[str] = ()
    threads: int = 1
    source: str = ""
    title: str = ""

    def runs(self) -> list[Run]:
        """All runs, seed by seed, so that what is there after a while is a table."""
        found: dict[Run, None] = {}
        for seed in self.seeds:
            for sparsity in self.sparsities:
                for label, chts in self.methods.items():
                    own = {"method": label, **chts}
                    wanted = {"sparsity": sparsity, **self._shared(own["method"]), **own}
                    config = CHTsConfig.from_dict(wanted)
                    wanted["sparsity"] = config.sparsity  # 0 for dense, which is then one run
                    found[Run(label, config.sparsity, seed, wanted)] = None
        return list(found)

    def _shared(self, method: str) -> dict[str, Any]:
        """The topology settings that all methods share, as far as this one has use for them."""
        section = self.recipe.get(SECTION) or {}
        idle = () if "density_schedule" in section else idle_density(method)
        return {n: value for n, value in section.items() if n not in (*_PER_RUN, *idle)}

    def arguments(self, run: Run) -> dict[str, Any]:
        """Everything that recipes/translation.py is told for a run, but its output folder."""
        flat = {name: value for name, value in self.recipe.items() if name != SECTION}
        return {**flat, "seed": run.seed, SECTION: dict(run.chts)}

    def identity(self, run: Run) -> dict[str, Any]:
        """Those of the arguments that say what comes out of a run, and where its data is.

        Two places may have the same data: see :mod:`chts_hf.compare.data`.
        """
        arguments = self.arguments(run)
        return {name: arguments[name] for name in sorted(arguments) if name not in EXECUTION}

    @property
    def steps(self) -> int:
        """Optimizer steps of every run."""
        return int(self.recipe["max_steps"])

    def is_baseline(self, label: str) -> bool:
        """Whether a method is one that the proposed ones are measured against."""
        return label != self.reference and label not in self.proposed

    def select(
        self,
        methods: Sequence[str] = (),
        sparsities: Sequence[float] = (),
        seeds: Sequence[int] = (),
    ) -> list[Run]:
        """Those of the runs that are of these methods, sparsities and seeds; all where not given.

        Raises:
            ValueError: nothing is of them.
        """
        chosen = [
            run
            for run in self.runs()
            if (not methods or run.label in methods)
            and (not sparsities or run.sparsity in sparsities or run.is_dense)
            and (not seeds or run.seed in seeds)
        ]
        unknown = [label for label in methods if label not in self.methods]
        if unknown or not chosen:
            raise ValueError(
                f"no run of methods {list(methods)}, sparsities {list(sparsities)}, seeds "
                f"{list(seeds)}; there are methods {list(self.methods)}, sparsities "
                f"{list(self.sparsities)}, seeds {list(self.seeds)}"
            )
        return chosen


def read_comparison(
    path: str | Path,
    layers: Sequence[str | Path] = (),
    options: Mapping[str, Any] | None = None,
) -> Comparison:
    """Read a comparison's YAML file.

    Its keys are the fields of :class:`Comparison`, with ``recipe`` the name of a configuration of
    recipes/translation.py, relative to this file (or a list of such, later ones winning), and
    ``options`` the arguments that differ from it. ``methods`` is a list of presets' names; an entry
    ``{label: {field: value}}`` is a variant.

    Args:
        path: the file.
        layers: further configurations of the recipe, whose arguments win over its own.
        options: arguments of the recipe that win over everything, ``chts.NAME`` among them.

    Raises:
        ValueError: a key is missing or unknown, or a method's fields are refused.
    """
    path = Path(path)
    values = _read_yaml(path)
    known = {one.name for one in fields(Comparison)} - {"source"} | {"options"}
    needed = {"setting", "recipe", "methods", "sparsities", "seeds"}
    if values.keys() - known or needed - values.keys():
        raise ValueError(
            f"{path}: unknown {sorted(values.keys() - known)}, missing "
            f"{sorted(needed - values.keys())}; a comparison has {sorted(known)}"
        )
    named = values.pop("recipe")
    files = [path.parent / one for one in ([named] if isinstance(named, str) else named)]
    recipe: dict[str, Any] = {}
    for layer in [*(_read_yaml(Path(one)) for one in (*files, *layers)), values.pop("options", {})]:
        recipe = _merge(recipe, layer)
    for name, value in (options or {}).items():
        section, dot, field_name = name.partition(".")
        recipe = _merge(recipe, {section: {field_name: value}} if dot else {name: value})
    if "max_steps" not in recipe:
        raise ValueError(f"{path}: the recipe needs max_steps, the same for all methods")
    methods = _read_methods(path, values.pop("methods"))
    comparison = Comparison(recipe=recipe, methods=methods, source=str(path), **values)
    for label in [comparison.reference, *values.get("proposed", ())]:
        if label not in methods:
            raise ValueError(f"{path}: there is no method {label!r} among {list(methods)}")
    comparison.runs()  # builds every configuration, so that a mistake shows here
    return comparison


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say in which arguments two identities differ: ``["max_steps was 10 and is 20"]``."""
    names = sorted(before.keys() | now.keys())
    return [
        f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def _read_methods(path: Path, entries: Any) -> dict[str, dict[str, Any]]:
    methods: dict[str, dict[str, Any]] = {}
    for entry in entries:
        ((label, chts),) = entry.items() if isinstance(entry, dict) else ((entry, {}),)
        if label in methods:
            raise ValueError(f"{path}: method {label!r} is there twice; give a variant a new name")
        methods[label] = dict(chts or {})
    return methods


def _merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    section = {**(first.get(SECTION) or {}), **(second.get(SECTION) or {})}
    return {**first, **second, SECTION: section}


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"configuration file {str(path)!r} does not exist")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} must hold names and values, not {content!r}")
    return content
