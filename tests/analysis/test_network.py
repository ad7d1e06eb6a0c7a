"""Masks as graphs, and their null models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from chts_hf import find_targets
from chts_hf.analysis import (
    Chain,
    adjacency,
    chains_of,
    erdos_renyi,
    layer_masks,
    rewire,
    single_layer,
)
from chts_hf.analysis.checkpoint import targets_of
from chts_hf.analysis.network import as_mask
from chts_hf.analysis.nulls import null_chain
from chts_hf.analysis.structure import side_by_side
from chts_hf.config import CHTsConfig
from chts_hf.targets import find_pairs
from tests.analysis.networks import small_chain
from tests.builders import tiny_marian


def test_adjacency_has_inputs_first_then_level_after_level():
    first, second = np.array([[1, 0], [1, 1], [0, 0]]) > 0, np.array([[0, 1, 1]]) > 0
    chain = Chain("c", ("a", "b"), (first, second))
    matrix = adjacency(chain).toarray()
    assert chain.sizes == (2, 3, 1)
    assert np.array_equal(matrix, matrix.T)
    links = {tuple(link) for link in np.argwhere(np.triu(matrix))}
    assert links == {(0, 2), (0, 3), (1, 3), (3, 5), (4, 5)}


def test_a_chain_as_one_bipartite_mask_has_the_same_links():
    rng = np.random.default_rng(1)
    sizes = (5, 4, 3, 6)
    masks = tuple(rng.random((b, a)) < 0.5 for a, b in zip(sizes, sizes[1:], strict=False))
    chain = Chain("c", ("a", "b", "c"), masks)
    side = chain.levels % 2
    matrix = adjacency(chain).toarray() > 0
    assert np.array_equal(side_by_side(chain), matrix[side == 1][:, side == 0])


def test_chains_refuse_layers_that_do_not_fit():
    with pytest.raises(ValueError, match="a has 3 outputs, but b has 4 inputs"):
        Chain("c", ("a", "b"), (np.ones((3, 2), bool), np.ones((2, 4), bool)))
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        as_mask(torch.ones(3))


def test_chains_follow_the_sequential_pairs_of_a_model():
    targets = find_targets(tiny_marian())
    masks = {t.parameter_name: torch.ones(t.weight.shape, dtype=torch.bool) for t in targets}
    chains = chains_of(targets, find_pairs(targets), layer_masks(targets, masks))
    names = {c.layers[0].split(".")[-2] + ">" + c.layers[1].split(".")[-2] for c in chains}
    assert names == {"v_proj>out_proj", "fc1>fc2"}
    assert len(chains) == 5  # attention of the encoder, two of the decoder, two feed-forwards
    assert chains[0].name == "model.encoder.layers.0.self_attn: v_proj → out_proj"


def test_targets_are_found_again_from_masks_alone():
    for model in (tiny_marian(), _Stack()):
        config = CHTsConfig(targets=model.patterns) if isinstance(model, _Stack) else CHTsConfig()
        targets = find_targets(model, config)
        masks = {t.parameter_name: torch.ones(t.weight.shape, dtype=torch.bool) for t in targets}
        again = targets_of(masks, config)
        assert [(t.name, t.kind, t.shape) for t in again] == [
            (t.name, t.kind, t.shape) for t in targets
        ]


def test_what_a_pattern_took_out_is_not_missed_in_the_masks():
    """What exclude matched is not in the mask file, nor is a head that targets named."""
    for config in (
        CHTsConfig(exclude=["decoder"]),
        CHTsConfig(targets={"head": "lm_head", "ffn.up": r".*fc1"}),
    ):
        name = "model.encoder.layers.0.fc1.weight"
        (found,) = targets_of({name: torch.ones(32, 16, dtype=torch.bool)}, config)
        assert (found.name, found.kind) == (name, "ffn.up")


class _Stack(nn.Module):
    patterns = {"ffn.up": r"a\.\d", "ffn.down": r"b"}

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.ModuleList([nn.Linear(4, 6)])
        self.b = nn.Linear(6, 3)


@pytest.mark.parametrize("shape", [(30, 20), (21, 40), (1, 9)])
def test_rewiring_keeps_degrees_and_moves_links(shape):
    rng = np.random.default_rng(0)
    mask = rng.random(shape) < rng.random(shape[1]) * 0.6
    rewired = rewire(mask, rng)
    assert np.array_equal(mask.sum(axis=0), rewired.sum(axis=0))
    assert np.array_equal(mask.sum(axis=1), rewired.sum(axis=1))
    assert shape[0] == 1 or (mask ^ rewired).any()


def test_rewiring_draws_all_graphs_of_the_degrees_alike():
    # The 3 × 3 permutation matrices: six graphs with all degrees 1.
    rng = np.random.default_rng(0)
    draws = 1200
    codes = [tuple(rewire(np.eye(3, dtype=bool), rng, 8).argmax(axis=1)) for _ in range(draws)]
    _, counts = np.unique(codes, axis=0, return_counts=True)
    assert len(counts) == 6
    assert ((counts - draws / 6) ** 2 / (draws / 6)).sum() < 20.5  # χ² of 5 degrees, p = 0.001


def test_erdos_renyi_keeps_the_links_only():
    mask = np.zeros((40, 50), bool)
    mask[:, :10] = True
    drawn = erdos_renyi(mask, np.random.default_rng(0))
    assert drawn.sum() == mask.sum() == 400
    assert drawn.sum(axis=0).max() < 30


def test_null_chains_are_drawn_layer_by_layer():
    chain = small_chain()
    null = null_chain(chain, "degrees", np.random.default_rng(0))
    assert null.sizes == chain.sizes
    for a, b in zip(null.masks, chain.masks, strict=True):
        assert np.array_equal(a.sum(axis=0), b.sum(axis=0))
    with pytest.raises(ValueError, match="no null model 'x'; there are er, degrees"):
        null_chain(chain, "x", np.random.default_rng(0))
    assert single_layer("a", chain.masks[0]).sizes == (12, 24)
