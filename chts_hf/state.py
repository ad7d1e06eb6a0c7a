"""A sparsifier's tensors as they are saved, and whether they belong to the model they come to."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Set
from typing import Any

import torch
from torch import Tensor, nn

from chts_hf.config import CHTsConfig
from chts_hf.distributed.layout import Whole, local

#: Parameter name → what this rank holds of a tensor of the parameter's shape.
Parts = Mapping[str, Tensor]


def whole_tensors(
    layout: Whole, parameters: Mapping[str, nn.Parameter], masks: Parts, ever: Parts, history: Parts
) -> dict[str, Any]:
    """The tensors of :meth:`chts_hf.Sparsifier.state_dict`, each of its parameter's whole shape.

    Where ranks hold shards, the first has them, on the host, and the others have empty
    dictionaries; all must call it. One tensor after the other is gathered.
    """
    return {
        "weights": _fingerprints(layout, parameters),
        "masks": whole_masks(layout, masks),
        "ever": dict(_gather(layout, ever)),
        "history": dict(_gather(layout, history)),
    }


def whole_masks(layout: Whole, masks: Parts) -> dict[str, Tensor]:
    """Masks of their parameters' whole shapes, on the ranks that :func:`whole_tensors` says."""
    return dict(_gather(layout, masks))


def _gather(layout: Whole, parts: Parts) -> Iterator[tuple[str, Tensor]]:
    for name, part in parts.items():
        whole = layout.at(name, part, 0)
        if whole is not None:
            yield name, whole.cpu() if layout.sharded else whole.clone()


def _fingerprints(
    layout: Whole, parameters: Mapping[str, nn.Parameter]
) -> dict[str, tuple[str, int]]:
    gathered = ((n, layout.at(n, local(p).detach(), 0)) for n, p in parameters.items())
    return {name: fingerprint(whole) for name, whole in gathered if whole is not None}


#: Fields of a configuration that a run which goes on may change: they act from then on, or, as
#: ``exclude``, say which layers are sparse, and these are compared by their masks.
MAY_CHANGE = (
    "update_interval", "rewarm_steps", "zeta", "t_end", "init", "init_options", "exclude",
)  # fmt: skip


def check_config(saved: Mapping[str, Any], config: CHTsConfig) -> None:
    """Refuse to go on with a configuration whose result would be neither one's.

    Args:
        saved: the fields of the configuration that a state was made with.
        config: the one to go on with.

    Raises:
        ValueError: names each field that differs, and both values.
    """
    saved = CHTsConfig.from_saved(saved).to_dict()  # its values as JSON has them, as now
    keeps = saved["density_schedule"] == config.density_schedule == "constant"
    free = (*MAY_CHANGE, *(("initial_sparsity", "decay_end") if keeps else ()))
    differing = [
        f"{name} was {saved[name]!r} and is {now!r}"
        for name, now in config.to_dict().items()
        if name not in free and saved[name] != now
    ]
    if differing:
        raise ValueError(
            f"the checkpoint was made with another configuration: {'; '.join(differing)}. Resume "
            "with the old values, or start a new run from these weights: with "
            'init="from_weights" on the links they have, as many in each layer, or with '
            'init="magnitude" on the largest that another sparsity leaves'
        )


def check_state(
    state: Mapping[str, Any],
    config: CHTsConfig,
    parameters: Mapping[str, nn.Parameter],
    layout: Whole,
    history: Set[str],
) -> None:
    """Compare a sparsifier's state, whole on every rank, with the weights of a model.

    Args:
        state: what is to be taken up.
        config: of the sparsifier that takes it up.
        parameters: name → parameter, of the sparsified weights.
        layout: of the parameters.
        history: those of which values of past links are wanted.

    Raises:
        ValueError: it is of another configuration, other layers, other shapes or other weights, or
            lacks these values.
    """
    mine = _fingerprints(layout, parameters)

    def check() -> None:
        # Those of another run on the same layers may have any configuration; it is not to blame.
        if state["masks"].keys() == parameters.keys():
            _check_weights(state, mine)
        check_config(state["config"], config)
        _check_masks(state, parameters, layout)
        if missing := sorted(history - state["history"].keys()):
            raise ValueError(
                f"the state has no values of past links of {missing[0]}, which "
                'regrow_init="history" needs; go on with the regrow_init that it was made with'
            )

    layout.together(check)


def _check_masks(
    state: Mapping[str, Any], parameters: Mapping[str, nn.Parameter], layout: Whole
) -> None:
    missing = sorted(parameters.keys() - state["masks"].keys())
    extra = sorted(state["masks"].keys() - parameters.keys())
    if missing or extra:
        raise ValueError(
            f"the masks are of another model or configuration: missing {missing[:3]}, "
            f"unexpected {extra[:3]}. To go on without masks that are missing, name their layers "
            "in exclude; a layer that was frozen (requires_grad=False) since its mask was saved "
            "has to be unfrozen until the masks are taken up"
        )
    for name, mask in state["masks"].items():
        if mask.shape != parameters[name].shape:
            raise ValueError(
                f"the mask of {name} has shape {tuple(mask.shape)}, the weight "
                f"{tuple(parameters[name].shape)}: the masks are of another model"
            )
        links = layout.part(name, mask).cpu()
        if bool((local(parameters[name]).detach() != 0).cpu().logical_and(~links).any()):
            raise ValueError(
                f"{name} has weights where its mask has no links: the masks are of other weights"
            )


def _check_weights(state: Mapping[str, Any], mine: Mapping[str, tuple[str, int]]) -> None:
    for name, (dtype, value) in mine.items():
        saved = state["weights"][name]
        if saved[0] == dtype and saved[1] != value:
            raise ValueError(
                f"the masks were saved with other weights of {name} than the model has now; load "
                "the weights of the same checkpoint, and make the sparsifier with "
                "Sparsifier(..., state=state), which leaves them as they are"
            )


def fingerprint(weight: Tensor) -> tuple[str, int]:
    """The dtype and the CRC-32 of a weight's bytes; a fingerprint holds within one dtype."""
    data = weight.detach().cpu().contiguous().view(torch.uint8).numpy()
    return str(weight.dtype), zlib.crc32(data.data)
