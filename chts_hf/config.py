"""The one configuration: every ingredient of a sparse training run, checked when it is made."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from copy import copy
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from chts_hf import contradictions, presets
from chts_hf.methods import METHODS
from chts_hf.patterns import check_patterns
from chts_hf.topology import INITIAL_TOPOLOGIES, PREDICTORS

#: Allowed values of each field that is a choice.
CHOICES: dict[str, tuple[str, ...]] = {
    "init": (*INITIAL_TOPOLOGIES, "full", "from_weights"),
    "distribution": ("uniform", "erk"),
    "removal": ("magnitude", "relative_importance", "mest", "none"),
    "removal_choice": ("soft", "hard"),
    "zeta_schedule": ("cosine", "constant"),
    "regrowth": (*PREDICTORS, "random", "gradient", "none"),
    "regrowth_choice": ("soft", "hard"),
    "regrow_init": ("history", "zero"),
    "density_schedule": ("constant", "sigmoid", "cubic", "linear", "two_drops"),
    "pruning": ("magnitude", "relative_importance"),
}

#: What an entry of ``overrides`` may change for the layers it matches.
OVERRIDABLE = (
    "sparsity",
    "initial_sparsity",
    "init",
    "init_options",
    "removal",
    "removal_choice",
    "regrowth",
    "regrowth_choice",
    "percolation",
    "per_head",
)

_FROM_METHOD: Any = None  # the default of a field whose value comes with the method


@dataclass
class CHTsConfig:
    """How a model is trained sparsely. A method is a named preset of these fields.

    Fields marked (method) take the value of the method's preset unless they are given, so every
    ingredient can be changed alone; to sweep over methods, sparsities or intervals, change them by
    :meth:`replace`. Formulas follow [P] Zhang et al., NeurIPS 2025 (arXiv 2501.19107), unless
    another source is named.

    Args:
        method: the preset, a key of ``chts_hf.METHODS``.
        sparsity: ``s`` in [0, 1): the fraction of the sparsified weights that are no links when
            training ends. Embeddings, norms, biases and output heads stay dense and do not count.
        update_interval: optimizer steps between two topology updates.
        zeta: ``ζ`` in [0, 1]: the fraction of its links that a layer replaces in an update.
        t_end: the fraction of all optimizer steps, in (0, 1], after which the topology rests.
        seed: of all random draws; each depends on (seed, update number, layer name) alone.
        zeta_schedule: (method) "cosine": ``ζ(t) = ζ/2 · (1 + cos(π t / t_end))``, or "constant".
        init: (method) the first masks: a kind of ``chts_hf.topology.initial_mask`` ("brf", "bsw",
            "er", "magnitude", …), "full" (no zeros), or "from_weights" (the links are the
            non-zero weights that the model comes with; their number per layer is kept). "csti", for
            the first layer of an MLP, needs the data: ``Sparsifier(..., correlation=...)``.
        init_options: options of that kind, such as ``{"r": 0.25}``.
        distribution: (method) how the sparsity is spread over the layers: "uniform" or "erk".
            Layers with a sparsity of their own in ``overrides`` take no part in it.
        rescale_init: multiply each layer so that its links have
            ``std = sqrt(2 / (density · fan_in))``; not one that starts "from_weights".
        removal: (method) the score of a link: "magnitude" ``|W|``, "relative_importance", "mest"
            ``|W| + 0.01 |gradient|`` (Yuan et al. 2021), or "none".
        removal_choice: (method) "hard" keeps the highest scores; "soft" draws what is kept with
            probability ∝ ``score^(δ/(1-δ))``.
        delta_start: δ at the first step, in [0, 1); it rises linearly …
        delta_end: … to this at ``t_end``, in [0, 1).
        regrowth: (method) what predicts new links: "CH2-L3n", "CH3-L3n", "CH3.1-L3n", "CH2-L3p",
            "CH3-L3p" (topology alone), "gradient" (``|dense gradient|``), "random", or "none".
        regrowth_choice: (method) "soft" draws new links ∝ their scores; "hard" takes the highest.
        regrow_init: (method) the weight of a new link: "history" (the value it had when it was
            last a link, 0 if it never was) or "zero". History costs one more value per weight in
            memory, and one per link that once was in checkpoints.
        percolation: (method) before regrowth, also remove the links of neurons that have none on
            their other side.
        per_head: choose and regrow the links of q, k and v within each attention head.
        density_schedule: (method) "constant"; or the sparsity rises from ``initial_sparsity``:
            "sigmoid", "cubic" (Zhu & Gupta 2017), "linear", "two_drops".
        initial_sparsity: (method) the sparsity at the start of such a rise. None: that of twice
            the final density.
        decay_end: (method) the fraction of all steps at which the rise ends, in (0, 1].
        decay_steepness: ``k`` of the sigmoid.
        pruning: (method) which links go when the density falls: the lowest "magnitude" or
            "relative_importance".
        early_stop_overlap: (method) a layer's topology rests for good once this fraction of the
            removed links comes back in the same update; None: never (Zhang et al., ICLR 2024).
        rewarm_steps: after an update that regrew links the learning rate climbs back to its value
            over so many steps ("inoam"). None: a fifth of the interval. 0: off.
        exclude: regular expressions: modules whose name contains a match stay dense.
        targets: instead of the built-in rules: kind → regular expression that matches whole module
            names.
        overrides: regular expression → fields that differ for the layers whose name contains a
            match; later entries win.

    Raises:
        ValueError: a value is unknown or out of range, two fields contradict each other, or the
            ingredients are those of another method than the named one.

    Example:
        >>> CHTsConfig(method="chts", sparsity=0.9)
        >>> CHTsConfig(method="chts", regrowth="random")  # one ingredient changed
        >>> CHTsConfig(sparsity=0.95).replace(method="rigl")  # RigL at the same sparsity
    """

    method: str = "chts"
    sparsity: float = 0.9
    update_interval: int = 100
    zeta: float = 0.3
    t_end: float = 0.75
    seed: int = 0
    zeta_schedule: str = _FROM_METHOD
    init: str = _FROM_METHOD
    init_options: dict[str, Any] = field(default_factory=dict)
    distribution: str = _FROM_METHOD
    rescale_init: bool = False
    removal: str = _FROM_METHOD
    removal_choice: str = _FROM_METHOD
    delta_start: float = 0.5
    delta_end: float = 0.9
    regrowth: str = _FROM_METHOD
    regrowth_choice: str = _FROM_METHOD
    regrow_init: str = _FROM_METHOD
    percolation: bool = _FROM_METHOD
    per_head: bool = False
    density_schedule: str = _FROM_METHOD
    initial_sparsity: float | None = _FROM_METHOD
    decay_end: float = _FROM_METHOD
    decay_steepness: float = 6.0
    pruning: str = _FROM_METHOD
    early_stop_overlap: float | None = _FROM_METHOD
    rewarm_steps: int = _FROM_METHOD
    exclude: list[str] = field(default_factory=list)
    targets: dict[str, str] | None = None
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = dict(vars(self))
        self._complete()
        contradictions.refuse_idle_density(given, self)
        contradictions.refuse_idle_options(self)
        presets.refuse_false_name(vars(self))

    def _complete(self) -> None:
        """Fill in what was not given, as JSON values, and check every field."""
        if self.method not in METHODS:
            raise ValueError(_unknown("method", self.method, METHODS))
        vars(self).update(_json_value(presets.filled_in(vars(self))))
        if self.is_dense:
            self.sparsity = 0.0  # "dense" in a sweep over sparsities
        self._check_values()
        contradictions.check_init_options(self)
        contradictions.check_together(self)
        self._check_overrides()

    def _with(self, changes: Mapping[str, Any]) -> CHTsConfig:
        """A copy with other fields, whatever method its ingredients are then of."""
        other = copy(self)
        vars(other).update(changes)
        other._complete()
        return other

    def replace(self, **changes: Any) -> CHTsConfig:
        """Make a configuration anew from what differs from this one's method, and these changes.

        Fields that are as the method sets them follow a new method, and ``rewarm_steps`` and
        ``initial_sparsity`` the fields that they came from; all others stay. It goes by values, so
        that a configuration from a file behaves as the one it was written from: a field that was
        given what the method has anyway follows too, unless it is given again.
        ``dataclasses.replace`` copies all fields instead, and RigL made so of CHTs is CHTs.

        Args:
            **changes: field → its new value; None gives the method's.

        Raises:
            ValueError: there is no such field, or the values are refused.

        Example:
            >>> [CHTsConfig().replace(method=method).regrowth for method in ("set", "rigl")]
            ['random', 'gradient']
        """
        own = presets.changed(vars(self), self.ingredients())
        made = self.from_dict(own | changes)
        if self.is_dense and not made.is_dense and "sparsity" not in changes:
            raise ValueError(
                f"method={self.method!r} has no sparsity to keep: replace(sparsity=…, …) gives one"
            )
        return made

    @classmethod
    def ingredients(cls) -> list[str]:
        """The fields whose default comes with the method: what a method is made of."""
        return [f.name for f in fields(cls) if f.default is _FROM_METHOD and f.name != "targets"]

    # -- derived -----------------------------------------------------------------------------

    @property
    def is_dense(self) -> bool:
        """Whether no weight is ever masked."""
        return self.init == "full" and self.density_schedule == "constant"

    @property
    def changes_topology(self) -> bool:
        """Whether masks change after the first step."""
        return self.density_schedule != "constant" or any(
            layer.removal != "none" for layer in self._layer_kinds()
        )

    @property
    def needs_gradient(self) -> bool:
        """Whether an update needs the dense gradient."""
        return any(
            layer.regrowth == "gradient" or layer.removal == "mest" for layer in self._layer_kinds()
        )

    def _layer_kinds(self) -> list[CHTsConfig]:
        """This configuration and those that its overrides make of it."""
        return [self, *(self.for_layer(pattern, exact=True) for pattern in self.overrides)]

    def for_layer(self, name: str, *, exact: bool = False) -> CHTsConfig:
        """The configuration of one layer: this one with the overrides that match its name.

        Raises:
            ValueError: two of these overrides contradict each other.
        """
        changes: dict[str, Any] = {}
        for pattern, values in self.overrides.items():
            if pattern == name if exact else re.search(pattern, name):
                changes.update(values)
        if "sparsity" in changes and self._starts_twice_as_dense():
            changes.setdefault("initial_sparsity", presets.twice_as_dense(changes["sparsity"]))
        try:
            return self._with({"overrides": {}, **changes}) if changes else self
        except ValueError as error:
            where = f"overrides[{name!r}]" if exact else f"{name}, by all overrides that match it"
            raise ValueError(f"{where}: {error}") from None

    def _starts_twice_as_dense(self) -> bool:
        """Whether the start follows from the end, as in MEST, and so does in each layer."""
        return (
            METHODS[self.method].ingredients.get("initial_sparsity") is None
            and self.density_schedule != "constant"
            and self.initial_sparsity == presets.twice_as_dense(self.sparsity)
        )

    # -- files -------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON values; presets are written out."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CHTsConfig:
        """The configuration with these fields.

        Raises:
            ValueError: a key is no field, or the values are refused.
        """
        cls._check_names(values)
        return cls(**values)

    @classmethod
    def from_saved(cls, values: Mapping[str, Any]) -> CHTsConfig:
        """The configuration of a run that was, from its checkpoint or record.

        As :meth:`from_dict`, but it does not ask whether the ingredients are another method's: the
        run is what it is, and that method may have been registered after it.
        """
        cls._check_names(values)
        return cls()._with(dict.fromkeys(cls.ingredients()) | dict(values))

    @classmethod
    def _check_names(cls, values: Mapping[str, Any]) -> None:
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                raise ValueError(_unknown("CHTsConfig field", name, known))

    @classmethod
    def from_file(cls, path: str | Path) -> CHTsConfig:
        """Read a ``.json``, ``.yaml`` or ``.yml`` file of fields."""
        text = Path(path).read_text(encoding="utf-8")
        # Every JSON document is a YAML document, so one parser reads both.
        values = yaml.safe_load(text)
        if not isinstance(values, dict):
            raise ValueError(
                f"{path}: expected a mapping of CHTsConfig fields, found {values!r:.80}"
            )
        return cls.from_dict(values)

    def to_file(self, path: str | Path) -> None:
        """Write all fields as JSON, or as YAML where the file's name says so."""
        path = Path(path)
        if path.suffix in (".yaml", ".yml"):
            text = yaml.safe_dump(self.to_dict(), sort_keys=False)
        else:
            text = json.dumps(self.to_dict(), indent=2) + "\n"
        path.write_text(text, encoding="utf-8")

    # -- checks ------------------------------------------------------------------------------

    def _check_values(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(_unknown(name, getattr(self, name), allowed))
        self._check_range("sparsity", 0, 1, open_end=True)
        self._check_range("zeta", 0, 1)
        self._check_range("t_end", 0, 1, open_start=True)
        self._check_range("delta_start", 0, 1, open_end=True)
        self._check_range("delta_end", 0, 1, open_end=True)
        self._check_range("decay_end", 0, 1, open_start=True)
        self._check_range("decay_steepness", 0, 100, open_start=True)
        if self.initial_sparsity is not None:
            self._check_range("initial_sparsity", 0, 1, open_end=True)
        if self.early_stop_overlap is not None:
            self._check_range("early_stop_overlap", 0, 1, open_start=True)
        self._check_int("update_interval", 1)
        self._check_int("rewarm_steps", 0)
        self._check_int("seed", 0)
        for name in ("percolation", "per_head", "rescale_init"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {getattr(self, name)!r}")
        check_patterns(self.exclude, self.targets, self.overrides)

    def _check_range(
        self,
        name: str,
        low: float,
        high: float,
        *,
        open_start: bool = False,
        open_end: bool = False,
    ) -> None:
        value = getattr(self, name)
        inside = (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and (low < value if open_start else low <= value)
            and (value < high if open_end else value <= high)
        )
        if not inside:
            left, right = "(["[not open_start], ")]"[not open_end]
            message = f"{name} must be in {left}{low}, {high}{right}, got {value!r}"
            if high == 1 and isinstance(value, (int, float)) and 1 < value <= 100:
                message += f"; {value:g} % is {value / 100:g}"
            raise ValueError(message)

    def _check_int(self, name: str, low: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise ValueError(f"{name} must be a whole number of at least {low}, got {value!r}")

    def _check_overrides(self) -> None:
        for pattern, values in self.overrides.items():
            for name in values:
                if name not in OVERRIDABLE:
                    raise ValueError(
                        f"overrides[{pattern!r}]: " + _unknown("field", name, OVERRIDABLE)
                    )
            self.for_layer(pattern, exact=True)


def _json_value(value: Any) -> Any:
    """Mappings as dictionaries and tuples as lists, as they come back from a file."""
    if isinstance(value, Mapping):
        return {name: _json_value(one) for name, one in value.items()}
    return [_json_value(one) for one in value] if isinstance(value, (list, tuple)) else value


def _unknown(
    what: str, value: object, allowed: Mapping[str, Any] | list[str] | tuple[str, ...]
) -> str:
    by_lower_case = {name.lower(): name for name in allowed}
    close = get_close_matches(str(value).lower(), list(by_lower_case), n=2)
    names = " or ".join(repr(by_lower_case[name]) for name in close)
    hint = f"; did you mean {names}?" if close else ""
    return f"unknown {what} {value!r}: choose one of {', '.join(allowed)}{hint}"
