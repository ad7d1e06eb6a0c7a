"""torch.compile of a sparse model's decoder: whole graphs, the same tokens."""

from __future__ import annotations

import copy

import pytest
import torch

from chts_hf.inference import Choice, to_sparse_inference
from tests.inference.models import SEQ2SEQ, sentences, sparsify


@pytest.mark.slow
def test_a_compiled_decoder_gives_the_same_tokens_without_a_graph_break():
    dense = SEQ2SEQ["marian"]().eval()
    sparsify(dense)
    sparse = to_sparse_inference(
        copy.deepcopy(dense), choose=lambda *_: Choice("native", {}, "told so")
    )
    decoder = sparse.get_decoder()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    # A graph break is an error under fullgraph=True.
    decoder.forward = torch.compile(decoder.forward, dynamic=True, fullgraph=True, backend=backend)
    options = {"num_beams": 4, "do_sample": False, "no_repeat_ngram_size": 1}
    made = []
    for tokens in (6, 12):
        want = dense.generate(**sentences(), **options, max_new_tokens=tokens)
        assert want.unique().numel() > 6
        assert torch.equal(sparse.generate(**sentences(), **options, max_new_tokens=tokens), want)
        made.append(len(graphs))
    assert 0 < made[0] == made[1]  # those of the first steps serve all later ones
    calls = [str(node.target) for graph in graphs for node in graph.graph.nodes]
    assert sum("sparse_linear" in call for call in calls) >= 20  # 2 layers of 10
