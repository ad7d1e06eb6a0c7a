"""The engine: masks on a model, kept true step by step and rewired update by update."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from chts_hf import initialise, optimizers, unrecognised
from chts_hf.apply import Turnover, comes_to_rest, turnover, write_links
from chts_hf.attached import attach, detach, refuse_attached
from chts_hf.config import CHTsConfig
from chts_hf.density_end import check_steps_left, excess_links, warn_of_late_fall
from chts_hf.distributed.layout import Gathered, layout_of, local, reshard
from chts_hf.distributed.ranks import fingerprint, world_size
from chts_hf.distributed.wrappers import refuse_wrapped
from chts_hf.gradients import GradientMasks, as_factor, gradient_or_zero
from chts_hf.lr import LearningRateFactor
from chts_hf.machine import settled_time
from chts_hf.plan import EndedPlan, Plan
from chts_hf.sharded_update import link_counts, update_layers, whole, write_part
from chts_hf.shared_update import Block, needing_memory
from chts_hf.state import Parts, check_state, whole_tensors
from chts_hf.stats import network_stats
from chts_hf.steps import OptimizerSteps
from chts_hf.targets import Pair, Target, blocks_of, find_pairs
from chts_hf.update import LayerInput, LayerOutput
from chts_hf.zero_links import forget_zero_links, known_zero_links


class Sparsifier:
    """Trains the projections of a model sparsely, in any PyTorch loop.

    From its creation until :meth:`close` it holds, at every moment anyone can look:
    ``weight[~mask] == 0``, gradients and per-weight optimizer states (of 16 bits and more) are 0
    there, and each layer has exactly the number of links that its schedule asks for,
    ``round((1 - s) · out · in)``.

    Memory beside the model's: one byte per sparsified weight for the masks, one to know which
    links ever were (ITOP rate), and with ``regrow_init="history"`` one value per weight. Methods
    that regrow by gradient hold a second gradient during the step before an update.

    Where several processes train together, each of them must make one and call the same methods.
    Under FSDP2 (``fully_shard`` first) that goes for ``stats()`` and ``state_dict()`` too, and what
    it holds lies as the parameters do: each process has its rows.

    Args:
        model: the model itself, not a wrapper; its parameters must be on their device already.
        optimizer: the optimizer that trains it, plain or prepared by accelerate. None: only the
            weights and gradients are kept sparse.
        config: the method and its settings.
        total_steps: optimizer steps of the whole run; schedules are fractions of it.
        state: a :meth:`state_dict` to go on from. The model must hold the weights it was taken
            with; without a state, the initial masks are made and applied.
        masks: name → the first links of each sparsified parameter, bool, instead of those of
            ``config.init``; each layer keeps the number it has, as with ``init="from_weights"``.
        scaler: the loss scaler of fp16 training, which scores that add a gradient to a weight
            ("mest") must know of. None: the one in an optimizer that accelerate prepared.
        correlation: for layers with ``init="csti"``: the Pearson correlations of their inputs over
            the training data, (in, in); see :func:`chts_hf.topology.csti`. Data, not a setting, so
            it is no part of the configuration; the masks made from it are in the state.

    Attributes:
        masks: parameter name → bool tensor of the parameter's shape, True where there is a link;
            under FSDP2, of the shape of this process's shard.
        ever: likewise, True where there ever was a link, before a resume too.
        targets: what is sparsified.
        layout: where the elements of the weights are.
        step_count: optimizer steps seen.
        turnover: layer → what the last update changed, for the layers that it touched.

    Raises:
        ValueError: no layer matches, the model is wrapped or has a sparsifier already, the run is
            too short for an update, or for the density of ``state`` to fall on to its end, a layer
            would be left without any link, or all would keep all of them though zeros are asked
            for; ``masks`` are of other layers or shapes or not bool; ``correlation`` is given and
            no layer wants it.

    Example:
        >>> sparsifier = Sparsifier(model, optimizer, CHTsConfig(), total_steps=5000)
        >>> for batch in loader:
        ...     model(**batch).loss.backward()
        ...     optimizer.step()
        ...     sparsifier.step()
        ...     optimizer.zero_grad()
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        config: CHTsConfig,
        total_steps: int,
        state: dict[str, Any] | None = None,
        *,
        masks: Mapping[str, Tensor] | None = None,
        scaler: torch.amp.GradScaler | None = None,
        correlation: Tensor | None = None,
    ) -> None:
        refuse_wrapped(model)
        reshard(model)
        refuse_attached(model)
        self.config = config
        self.plan = Plan(config, total_steps)
        self.step_count = self.updates = 0
        self.topology_runtime = 0.0
        self.targets = unrecognised.training_targets(model, config)
        self.masks: dict[str, Tensor] = {}
        self._parameters = {t.parameter_name: t.weight for t in self.targets}
        self._layer_config = {t.name: config.for_layer(t.name) for t in self.targets}
        by_size = any(layer.removal == "mest" for layer in self._layer_config.values())
        scaler = scaler or optimizers.loss_scaler(optimizer, needed=by_size)
        self.layout = layout_of(model, self._parameters, scaler)
        self._pairs = find_pairs(self.targets)
        self._blocks = blocks_of(self.targets, self._pairs)
        self._history: dict[str, Tensor] = {}
        self.ever: dict[str, Tensor] = {}
        self._resting: set[str] = set()
        self.turnover: dict[str, Turnover] = {}
        self._regrown_at: int | None = None
        self._optimizer = optimizers.base_optimizer(optimizer)
        optimizers.check_trains(self._optimizer, self._parameters.values())
        self._steps: OptimizerSteps | None = None
        self.owner: object | None = None  # the training run, where a callback made this
        self._stats: dict[str, Any] | None = None
        self._initial, self._final = initialise.layer_sparsities(self.targets, config)
        self._gradients = GradientMasks(self._parameters, self.masks, scaler)
        returning = initialise.with_history(self.targets, config)
        for name, weight in self._parameters.items():
            self.masks[name] = torch.zeros_like(local(weight), dtype=torch.bool)
            self.ever[name] = torch.zeros_like(local(weight), dtype=torch.bool)
            if name in returning:
                self._history[name] = torch.zeros_like(local(weight), requires_grad=False)
        with self.layout.beginning(state is not None, masks is not None):
            if state is not None:
                self.load_state_dict(state)
                check_steps_left(self.plan, self.step_count, self.links_to_lose())
            elif self.targets:
                self._set_initial_masks(masks, model, correlation)
        forget_zero_links(model)  # training changes them
        self.check_ranks()
        self._gradients.attach()
        self._handles: list[Any] = []
        if optimizer is not None and self._optimizer is not None and self.targets:
            self._steps = OptimizerSteps(optimizer, self._parameters.values())
            self._handles = [self._steps, LearningRateFactor(self._optimizer, self._lr_factor)]
        self._announce_gradient()
        attach(model, self)
        self._model = weakref.ref(model)

    # -- the loop ----------------------------------------------------------------------------

    @torch.no_grad()
    def step(self) -> None:
        """Call after each ``optimizer.step()``: keeps zeros zero, and updates when one is due.

        A step that the optimizer skipped (a gradient scaler found infinities) does not count, nor
        does a call for a micro-batch, after which gradients are added up further. If you skip one
        yourself, call its ``zero_grad()`` first, so that the batch's gradients are not used.

        Raises:
            RuntimeError: weights or gradients are not finite when an update is due, the masks
                differ between ranks, or another optimizer than the one given trains the weights.
        """
        if self._steps is not None and not self._steps.taken():
            if self._gradients.collect and not self._steps.to_come():
                self._gradients.take()  # of a batch that the optimizer never saw
            return
        self.step_count += 1
        if not self.targets:
            return
        self._enforce()
        if self.plan.is_update(self.step_count):
            self._timed_update()
        self._announce_gradient()

    @torch.no_grad()
    def finish(self) -> None:
        """Have the density fall to its end now, if it has not; call after a run's last step.

        Steps that the optimizer skipped do not count, so the last update may not have come. No
        link is replaced, now or later. Every rank must call it.
        """
        if self.step_count < self.plan.last_update and (links := self.links_to_lose()):
            warn_of_late_fall(self.plan, self.step_count, links)
            self.plan = EndedPlan(self.config, self.plan.total_steps)
            self._timed_update()

    def links_to_lose(self) -> int:
        """How many links more there are than at the end of the density's fall; on every rank."""
        links = link_counts(self.targets, self.masks, self.layout)
        return excess_links(self.targets, links, self._final)

    def check_ranks(self) -> None:
        """Compare the masks of all ranks; done before and after each update, and at checkpoints.

        Every rank must call it.

        Raises:
            RuntimeError: names the first layer whose masks differ.
        """
        self.layout.check(self.masks)

    def close(self) -> None:
        """Let go of model and optimizer; masks and statistics stay readable, zeros stay zero."""
        self._gradients.remove()
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if self.model is not None:
            detach(self.model)

    @property
    def model(self) -> nn.Module | None:
        """The model, if it still exists."""
        return self._model()

    def stats(self) -> dict[str, Any]:
        """What the network is now.

        Returns:
            ``links``, ``weights``, ``sparsity`` of the sparsified weights; ``by_kind``: the same
            for each kind; ``itop_rate``: the fraction of weights that ever were a link (Liu et al.
            2021); ``anp``: of the neurons between two targets, the fraction with links on both
            sides (1.0 if there are none); ``updates``; ``topology_runtime`` in seconds.
        """
        if self._stats is None:  # masks change at updates only
            masks, ever = (Gathered(self.layout, parts) for parts in (self.masks, self.ever))
            self._stats = network_stats(self.targets, self._pairs, masks, ever)
        return self._stats | {"updates": self.updates, "topology_runtime": self.topology_runtime}

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything a later process needs to go on exactly, weights and optimizer aside.

        Returns:
            ``masks``, ``ever`` and ``history``: name → tensor; ``weights``: name → a fingerprint of
            the weights it belongs to; ``config`` and numbers beside them. Under FSDP2 the tensors
            are whole, on the host, and the first process alone has them.
        """
        parts = self._parameters, self.masks, self.ever, self._history
        return whole_tensors(self.layout, *parts) | {
            "config": self.config.to_dict(),
            "step_count": self.step_count,
            "updates": self.updates,
            "topology_runtime": self.topology_runtime,
            "regrown_at": self._regrown_at,
            "resting": sorted(self._resting),
            "world_size": world_size(),
            "initial": dict(self._initial),
            "final": dict(self._final),
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`; the model's weights must be those it was taken with.

        The number of processes may be another one. Under FSDP2 each is given the whole state.

        Raises:
            ValueError: the state is of another configuration, model or weights, or lacks history.
        """
        check_state(state, self.config, self._parameters, self.layout, self._history.keys())
        for key, mine in (("masks", self.masks), ("ever", self.ever), ("history", self._history)):
            for name, part in mine.items():
                part.copy_(self.layout.part(name, state[key][name]))
        self._stats = None
        self.step_count, self.updates = state["step_count"], state["updates"]
        self.topology_runtime = state["topology_runtime"]
        self._regrown_at, self._resting = state["regrown_at"], set(state["resting"])
        self._initial, self._final = dict(state["initial"]), dict(state["final"])
        self._gradients.take()
        self._announce_gradient()

    # -- inside ------------------------------------------------------------------------------

    @torch.no_grad()
    def _set_initial_masks(
        self, given: Mapping[str, Tensor] | None, model: nn.Module, correlation: Tensor | None
    ) -> None:
        initialise.check_given(given, self._parameters, correlation, self._layer_config.values())
        fingerprints, lost, asked = {}, 0, dict(self._final)
        for target in self.targets:
            config, name = self._layer_config[target.name], target.parameter_name
            target = whole(target, self.layout)
            ends = self._initial[target.name], self._final[target.name]
            if given is not None:
                mask = initialise.given_mask(target, given[name])
            else:
                mask = initialise.initial_mask(
                    target, config, *ends, correlation, known_zero_links(model, name)
                )
                lost += initialise.lost_links(target, mask)
            if keeps := (given is not None or config.init == "from_weights"):
                ends = initialise.sparsities_from_links(target, mask, config, ends[1])
                self._initial[target.name], self._final[target.name] = ends
            write_part(target, self.layout, self.masks[name], mask)
            if self.config.rescale_init and not keeps:
                initialise.rescale(target, mask)
                weight = target.view(target.weight)
                write_part(target, self.layout, local(self._parameters[name]).data, weight)
            if self.layout.sharded:
                fingerprints[target.name] = fingerprint(mask)
        initialise.warn_of_lost_links(lost)
        initialise.check_kept_sparsity(self.targets, asked, self._final)
        self.layout.check_copies(fingerprints)
        self._enforce()
        for name, weight in self._parameters.items():
            self.ever[name].copy_(self.masks[name])
            optimizers.clear_states(self._optimizer, weight, ~self.masks[name])

    def _enforce(self) -> None:
        weights = [local(parameter).data for parameter in self._parameters.values()]
        torch._foreach_mul_(weights, [as_factor(mask) for mask in self.masks.values()])

    def _lr_factor(self) -> float:
        since = None if self._regrown_at is None else self.step_count + 1 - self._regrown_at
        return self.plan.lr_factor(since)

    def _announce_gradient(self) -> None:
        """Have the next step's dense gradient gathered if an update will ask for it."""
        self._gradients.collect = self.config.needs_gradient and self.plan.is_update(
            self.step_count + 1
        )

    def _timed_update(self) -> None:
        started = settled_time(self.masks.values())
        with needing_memory():
            self._update()
        self.topology_runtime += settled_time(self.masks.values()) - started

    def _update(self) -> None:
        self.check_ranks()  # the shared result would cover up a difference
        self.turnover = {}
        gradients = self._gradients.take()
        links = link_counts(self.targets, self.masks, self.layout)
        due = [
            block
            for targets, pairs in self._blocks
            if (block := self._block(targets, pairs, gradients, links)) is not None
        ]
        regrown = False
        for block, results in update_layers(due, self.config.seed, self.updates + 1, self.layout):
            regrown |= self._apply_block(block, results)
        self.updates += 1
        if regrown:
            self._regrown_at = self.step_count
        self.check_ranks()

    def _block(
        self, targets: list[Target], pairs: list[Pair], gradients: Parts, links: dict[str, int]
    ) -> Block | None:
        """What is to be done with a block that has so many links; None if nothing is."""
        layers = [self._layer_input(target, gradients, links[target.name]) for target in targets]
        if all(layer.zeta == 0 and layer.links == links[layer.target.name] for layer in layers):
            return None
        moving = {x.target.name for x in layers if x.config.percolation and not x.resting}
        return Block(layers, [p for p in pairs if {p.first.name, p.second.name} <= moving])

    def _apply_block(self, block: Block, results: list[LayerOutput]) -> bool:
        regrown = False
        self._stats = None
        with needing_memory(block.names):
            for layer, result in zip(block.layers, results, strict=True):
                name = layer.target.parameter_name
                change = turnover(layer, result, self.layout)
                tensors = self.masks[name], self.ever[name], self._history.get(name)
                write_links(layer.target, result, *tensors, self._optimizer)
                self.turnover[layer.target.name] = change
                if comes_to_rest(layer, change):
                    self._resting.add(layer.target.name)
                regrown |= change.regrown > 0
        return regrown

    def _layer_input(self, target: Target, gradients: Parts, links: int) -> LayerInput:
        config, name = self._layer_config[target.name], target.parameter_name
        ends = self._initial[target.name], self._final[target.name]
        scheduled = self.plan.links(self.step_count, math.prod(target.shape), *ends)
        # What is frozen since could not learn a link that is new.
        resting = target.name in self._resting or not target.weight.requires_grad
        parameter, dense = self._parameters[name], self.config.needs_gradient
        gradient = gradient_or_zero(gradients, name, parameter) if dense else None
        return LayerInput(
            target=target,
            config=config,
            mask=self.masks[name],
            weight=local(parameter).data,
            gradient=gradient,
            # A run resumed with more steps may be denser by its schedule than it is already.
            links=min(scheduled, links),
            zeta=0.0 if resting else self.plan.zeta(self.step_count),
            delta=self.plan.delta(self.step_count),
            heads=target.heads if config.per_head and target.role in "qkv" else 1,
            resting=resting,
        )
