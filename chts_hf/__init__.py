"""Dynamic sparse training of Transformers by the Cannistraci-Hebb training soft rule (CHTs)."""

from chts_hf.callback import CHTsCallback
from chts_hf.checkpoint import quantizer as _registered_on_import  # noqa: F401
from chts_hf.checkpoint.complete import last_complete_checkpoint
from chts_hf.checkpoint.load import load_sparse
from chts_hf.checkpoint.mask_file import MaskFileError
from chts_hf.checkpoint.save import SparseSizes, save_sparse
from chts_hf.checkpoint.section import SparseFileError
from chts_hf.config import CHTsConfig
from chts_hf.methods import METHODS, Method, register_method
from chts_hf.sparsifier import Sparsifier
from chts_hf.targets import find_targets

__version__ = "0.1.0.dev0"

__all__ = [
    "METHODS",
    "CHTsCallback",
    "CHTsConfig",
    "MaskFileError",
    "Method",
    "SparseFileError",
    "SparseSizes",
    "Sparsifier",
    "find_targets",
    "last_complete_checkpoint",
    "load_sparse",
    "register_method",
    "save_sparse",
]
