"""Schedules: how a quantity changes over training, as pure functions of the step."""

from __future__ import annotations

import math


def cosine(step: float, end: float, start_value: float) -> float:
    """Falls from ``start_value`` to 0 as half a cosine wave; the share of links to remove.

    ``zeta(t) = zeta / 2 * (1 + cos(pi t / t_end))`` (RigL, Evci et al., 2020; Zhang et al.,
    NeurIPS 2025).

    Args:
        step: The step t; values outside [0, end] are clamped.
        end: The step t_end at which 0 is reached; 0 means that it has been reached.
        start_value: The value zeta at step 0.

    Returns:
        The value at ``step``; exactly ``start_value`` at 0 and exactly 0 from ``end`` on.
    """
    progress = _progress(step, end)
    if progress == 1.0:
        return 0.0
    return start_value / 2 * (1 + math.cos(math.pi * progress))


def linear(step: float, end: float, start: float, stop: float) -> float:
    """Moves from ``start`` at step 0 to ``stop`` at step ``end`` on a straight line.

    The softness ``delta`` of the removal rises so from 0.5 to 0.9 (Zhang et al., NeurIPS 2025).

    Args:
        step: The step; values outside [0, end] are clamped.
        end: The step at which ``stop`` is reached; 0 means that it has been reached.
        start: The value at step 0.
        stop: The value from step ``end`` on.

    Returns:
        The value at ``step``, exact at both ends.
    """
    return _between(start, stop, _progress(step, end))


def sigmoid_sparsity(tau: float, initial: float, final: float, k: float = 6.0) -> float:
    """Sparsity on an S-shaped path: slow, fast, slow (CHTss; Zhang et al., NeurIPS 2025).

    ``s(tau) = s_i + (s_f - s_i) * ((sigma(k (2 tau - 1)) - 1/2) / (sigma(k) - sigma(-k)) + 1/2)``
    with the logistic function ``sigma``.

    Args:
        tau: Progress through the decay window, clamped to [0, 1].
        initial: The sparsity s_i at tau = 0.
        final: The sparsity s_f at tau = 1.
        k: Steepness, positive; the larger, the closer to a step at tau = 1/2.

    Returns:
        The sparsity, exact at both ends.
    """
    if not k > 0:
        raise ValueError(f"k = {k} must be positive")
    # sigma(x) - 1/2 = tanh(x / 2) / 2, which neither overflows nor cancels.
    share = 0.5 + math.tanh(k * (2 * _unit(tau) - 1) / 2) / (2 * math.tanh(k / 2))
    return _between(initial, final, share)


def cubic_sparsity(tau: float, initial: float, final: float) -> float:
    """Sparsity that rises steeply, then levels off (GMP, Zhu and Gupta, 2017; GraNet, Liu 2021).

    ``s(tau) = s_i + (s_f - s_i) * (1 - (1 - tau)**3)``.

    Args:
        tau: Progress through the decay window, clamped to [0, 1].
        initial: The sparsity s_i at tau = 0.
        final: The sparsity s_f at tau = 1.

    Returns:
        The sparsity, exact at both ends.
    """
    return _between(initial, final, 1 - (1 - _unit(tau)) ** 3)


def linear_sparsity(tau: float, initial: float, final: float) -> float:
    """Sparsity on a straight line.

    Args:
        tau: Progress through the decay window, clamped to [0, 1].
        initial: The sparsity at tau = 0.
        final: The sparsity at tau = 1.

    Returns:
        The sparsity, exact at both ends.
    """
    return _between(initial, final, _unit(tau))


def two_drops_sparsity(tau: float, initial: float, final: float) -> float:
    """Sparsity in two equal jumps (the shrinking of MEST's EM&S, Yuan et al., 2021).

    ``s_i`` while tau < 1/2, ``(s_i + s_f) / 2`` while tau < 1, then ``s_f``.

    Args:
        tau: Progress through the decay window, clamped to [0, 1].
        initial: The sparsity s_i at first.
        final: The sparsity s_f at tau = 1.

    Returns:
        The sparsity, exact at both ends.
    """
    return _between(initial, final, math.floor(2 * _unit(tau)) / 2)


def _progress(step: float, end: float) -> float:
    if not end >= 0:
        raise ValueError(f"end = {end} must not be negative")
    return 1.0 if end == 0 else _unit(step / end)


def _unit(tau: float) -> float:
    if math.isnan(tau):
        raise ValueError("progress is nan")
    return min(max(tau, 0.0), 1.0)


def _between(start: float, stop: float, share: float) -> float:
    # Two products rather than start + share * (stop - start), which can miss stop by a rounding.
    return start * (1 - share) + stop * share
