"""Image classification by multilayer perceptrons; importing it registers the model."""

from chts_hf.vision.images import Images
from chts_hf.vision.mlp import MLPConfig, MLPForImageClassification

__all__ = ["Images", "MLPConfig", "MLPForImageClassification"]
