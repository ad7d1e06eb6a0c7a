"""Initial topologies taken from something known: pretrained weights, or correlated inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from chts_hf.topology import removal


def magnitude(
    shape: tuple[int, int],
    n_links: int,
    generator: torch.Generator | None = None,
    *,
    weight: Tensor,
) -> Tensor:
    """Keeps the largest ``|weight|``, as where a dense model is made sparse.

    Args:
        shape: (out, in).
        n_links: How many links.
        generator: Not used; nothing is random here.
        weight: Tensor of that shape.

    Returns:
        Bool mask of the shape with exactly ``n_links`` links, on the weight's device.
    """
    _check_shape("weight", weight, shape)
    return _best(weight.abs(), n_links)


def relative_importance(
    shape: tuple[int, int],
    n_links: int,
    generator: torch.Generator | None = None,
    *,
    weight: Tensor,
) -> Tensor:
    """Keeps the weights of highest relative importance.

    Args:
        shape: (out, in).
        n_links: How many links.
        generator: Not used; nothing is random here.
        weight: Tensor of that shape; see :func:`chts_hf.topology.relative_importance`.

    Returns:
        Bool mask of the shape with exactly ``n_links`` links, on the weight's device.
    """
    _check_shape("weight", weight, shape)
    return _best(removal.relative_importance(weight), n_links)


def csti(
    shape: tuple[int, int],
    n_links: int,
    generator: torch.Generator | None = None,
    *,
    correlation: Tensor,
) -> Tensor:
    """Correlated sparse topological initialisation (Zhang et al., ICLR 2024).

    For the first layer of a network: output node u starts as a copy of input feature ``u mod in``
    and is linked to the features that are most correlated with it, itself included. Over the whole
    layer, the links with the highest ``|correlation|`` are taken.

    Args:
        shape: (out, in).
        n_links: How many links.
        generator: Not used; nothing is random here.
        correlation: Pearson correlations of the input features over the training data, of shape
            (in, in), for instance ``torch.corrcoef(samples.T)``, whose rows are repeated over
            the outputs; or of shape (out, in), for one's own pairing of outputs and features.
            The sign does not matter. A nan, which is what a constant feature has, counts as 0.

    Returns:
        Bool mask of the shape with exactly ``n_links`` links, on the device of ``correlation``.
    """
    n_out, n_in = shape
    if tuple(correlation.shape) not in ((n_in, n_in), shape):
        raise ValueError(
            f"correlation has shape {tuple(correlation.shape)}, and must have {(n_in, n_in)} "
            f"or {shape}"
        )
    strength = correlation.abs().nan_to_num(nan=0.0)
    if tuple(correlation.shape) != shape:
        strength = strength[torch.arange(n_out, device=strength.device) % n_in]
    return _best(strength, n_links)


def _best(scores: Tensor, n_links: int) -> Tensor:
    everything = torch.ones(scores.shape, dtype=torch.bool, device=scores.device)
    return removal.keep_hard(scores, everything, n_links)


def _check_shape(name: str, tensor: Tensor, shape: tuple[int, int]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, the layer {shape}")
