"""What a sparse network has become: measures of masks, beside those of random networks.

Needs the extra ``analysis`` (in a clone: ``pip install ".[analysis]"``), counts and null models
aside.
"""

from chts_hf.analysis.checkpoint import load_network
from chts_hf.analysis.communities import bipartite_modularity, find_communities
from chts_hf.analysis.degrees import PowerLaw, ccdf, degrees, fit_power_law, level_degrees
from chts_hf.analysis.embedding import Embedding, coalescent_embedding
from chts_hf.analysis.graph import Network
from chts_hf.analysis.hyperbolic import angular_separation, greedy_routability
from chts_hf.analysis.links import LinkHistory
from chts_hf.analysis.logger import TopologyLogger
from chts_hf.analysis.measures import MEASURES, Comparison, Row, Verdict, analyse, hyperbolicity
from chts_hf.analysis.network import Chain, adjacency, chains_of, layer_masks, single_layer
from chts_hf.analysis.nulls import NULL_MODELS, erdos_renyi, rewire

__all__ = [
    "MEASURES",
    "NULL_MODELS",
    "Chain",
    "Comparison",
    "Embedding",
    "LinkHistory",
    "Network",
    "PowerLaw",
    "Row",
    "TopologyLogger",
    "Verdict",
    "adjacency",
    "analyse",
    "angular_separation",
    "bipartite_modularity",
    "ccdf",
    "chains_of",
    "coalescent_embedding",
    "degrees",
    "erdos_renyi",
    "find_communities",
    "fit_power_law",
    "greedy_routability",
    "hyperbolicity",
    "layer_masks",
    "level_degrees",
    "load_network",
    "rewire",
    "single_layer",
]
