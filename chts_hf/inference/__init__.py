"""Using a sparse model: products that skip the zeros, neurons cut out."""

from chts_hf.inference.beams import share_encodings
from chts_hf.inference.choice import Choice, choose, measure
from chts_hf.inference.compact import CompactReport, Width, compact, compact_hidden
from chts_hf.inference.convert import to_sparse_inference
from chts_hf.inference.hidden import HiddenLayer, hidden_layers
from chts_hf.inference.linear import SparseLinear
from chts_hf.inference.sizes import register_sizes, widths_by_field
from chts_hf.inference.speed import GenerationSpeed, generation_speed
from chts_hf.inference.swapped import SwappedLinear

__all__ = [
    "Choice",
    "CompactReport",
    "GenerationSpeed",
    "HiddenLayer",
    "SparseLinear",
    "SwappedLinear",
    "Width",
    "choose",
    "compact",
    "compact_hidden",
    "generation_speed",
    "hidden_layers",
    "measure",
    "register_sizes",
    "share_encodings",
    "to_sparse_inference",
    "widths_by_field",
]
