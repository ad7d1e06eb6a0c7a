"""Using a sparse model: products that skip the zeros, neurons cut out."""

from chts_hf.inference.choice import Choice, choose, measure
from chts_hf.inference.convert import to_sparse_inference
from chts_hf.inference.linear import SparseLinear

__all__ = ["Choice", "SparseLinear", "choose", "measure", "to_sparse_inference"]
