"""Topology of sparse layers: pure functions of tensors and a generator.

Masks are bool tensors of shape (out, in), True at links.
"""

from chts_hf.topology.counts import link_count
from chts_hf.topology.erk import erk_densities
from chts_hf.topology.initial import INITIAL_TOPOLOGIES, initial_mask
from chts_hf.topology.link_prediction import PREDICTORS, ch_scores
from chts_hf.topology.percolation import (
    active_neurons_product,
    active_neurons_sequential,
    percolate_product,
    percolate_sequential,
)
from chts_hf.topology.regrowth import regrow_hard, regrow_random, regrow_soft
from chts_hf.topology.removal import keep_hard, keep_soft, mest_score, relative_importance
from chts_hf.topology.sampling import sample_log_weights, sample_without_replacement
from chts_hf.topology.schedules import (
    cosine,
    cubic_sparsity,
    linear,
    linear_sparsity,
    sigmoid_sparsity,
    two_drops_sparsity,
)

__all__ = [
    "INITIAL_TOPOLOGIES",
    "PREDICTORS",
    "active_neurons_product",
    "active_neurons_sequential",
    "ch_scores",
    "cosine",
    "cubic_sparsity",
    "erk_densities",
    "initial_mask",
    "keep_hard",
    "keep_soft",
    "linear",
    "linear_sparsity",
    "link_count",
    "mest_score",
    "percolate_product",
    "percolate_sequential",
    "regrow_hard",
    "regrow_random",
    "regrow_soft",
    "relative_importance",
    "sample_log_weights",
    "sample_without_replacement",
    "sigmoid_sparsity",
    "two_drops_sparsity",
]
