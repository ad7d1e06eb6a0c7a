"""A multilayer perceptron for images, as a transformers model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_outputs import ImageClassifierOutput

from chts_hf.inference.sizes import register_sizes


class MLPConfig(PretrainedConfig):
    """Sizes of an :class:`MLPForImageClassification`.

    Args:
        image_size: height and width of the images, in pixels.
        num_channels: colour channels; 1 for grey images.
        hidden_sizes: neurons of each hidden layer.
        hidden_act: activation behind each hidden layer, a name that transformers knows.
        image_mean: what is subtracted from each channel of pixels in [0, 1] …
        image_std: … and what the difference is divided by.
        **kwargs: of ``PretrainedConfig``, such as ``num_labels`` or ``id2label``.

    Example:
        >>> MLPConfig(image_size=(28, 28), hidden_sizes=[1568, 1568, 1568], num_labels=10)
    """

    model_type = "mlp"

    def __init__(
        self,
        image_size: Sequence[int] = (28, 28),
        num_channels: int = 1,
        hidden_sizes: Sequence[int] = (1568, 1568, 1568),
        hidden_act: str = "relu",
        image_mean: Sequence[float] = (0.0,),
        image_std: Sequence[float] = (1.0,),
        **kwargs: Any,
    ) -> None:
        if not hidden_sizes or min(hidden_sizes) < 1:
            raise ValueError(f"hidden_sizes={list(hidden_sizes)} must be sizes of at least 1")
        if hidden_act not in ACT2FN:
            raise ValueError(f"hidden_act={hidden_act!r} is none of {', '.join(ACT2FN)}")
        for name, values in (("image_mean", image_mean), ("image_std", image_std)):
            if len(values) != num_channels:
                raise ValueError(
                    f"{name} has {len(values)} values; the images have {num_channels} channels"
                )
        self.image_size = list(image_size)
        self.num_channels = num_channels
        self.hidden_sizes = list(hidden_sizes)
        self.hidden_act = hidden_act
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        super().__init__(**kwargs)

    @property
    def input_size(self) -> int:
        """Features of an image: channels · height · width."""
        height, width = self.image_size
        return self.num_channels * height * width


class MLPForImageClassification(PreTrainedModel):
    """Hidden layers with an activation each, and a linear classifier.

    Weights start from He's normal distribution, ``std = sqrt(2 / fan_in)``, biases from 0.
    ``find_targets`` takes the hidden layers, in a chain whose neurons percolation follows, and
    leaves the classifier dense.

    Args:
        config: the sizes.

    Example:
        >>> model = MLPForImageClassification(MLPConfig(hidden_sizes=[300, 100], num_labels=10))
        >>> model(pixel_values=torch.rand(5, 1, 28, 28)).logits.shape
        torch.Size([5, 10])
    """

    config_class = MLPConfig
    main_input_name = "pixel_values"
    # The loss is a mean over the batch; it takes no number of items.
    accepts_loss_kwargs = False

    def __init__(self, config: MLPConfig) -> None:
        super().__init__(config)
        sizes = [config.input_size, *config.hidden_sizes]
        self.hidden = nn.ModuleList(
            nn.Linear(before, after) for before, after in zip(sizes, sizes[1:], strict=False)
        )
        self.activation = ACT2FN[config.hidden_act]
        assert config.num_labels is not None  # the parent class has a default
        self.classifier = nn.Linear(sizes[-1], config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.kaiming_normal_(module.weight, nonlinearity="relu")
            init.zeros_(module.bias)

    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, return_dict: bool = True
    ) -> ImageClassifierOutput | tuple[Tensor, ...]:
        """Classify images.

        Args:
            pixel_values: (batch, channels, height, width), values in [0, 1].
            labels: (batch,), the right classes; with them the output has a loss.
            return_dict: False gives a tuple.

        Returns:
            ``loss``, the mean cross-entropy in nats per image, where there are labels, and
            ``logits``, (batch, classes).

        Raises:
            ValueError: images of another size than the model was made for.
        """
        size = (self.config.num_channels, *self.config.image_size)
        if pixel_values.shape[1:] != size:
            raise ValueError(
                f"pixel_values are {tuple(pixel_values.shape)}; this model takes (batch, channels, "
                f"height, width) with {size} for the last three"
            )
        mean = torch.tensor(self.config.image_mean, device=pixel_values.device)
        std = torch.tensor(self.config.image_std, device=pixel_values.device)
        values = (pixel_values - mean[:, None, None]) / std[:, None, None]
        values = values.flatten(1).to(self.classifier.weight.dtype)
        for layer in self.hidden:
            values = self.activation(layer(values))
        logits = self.classifier(values)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        output = ImageClassifierOutput(loss=loss, logits=logits)
        return output if return_dict else output.to_tuple()


def express_hidden_sizes(config: MLPConfig, needed: Mapping[str, int]) -> dict[str, int]:
    """Set the widths of the hidden layers, each for itself; see :mod:`chts_hf.inference.sizes`.

    Args:
        config: changed in place.
        needed: the layer that reads the neurons ("hidden.1", …, "classifier") → how many.

    Returns:
        The same; at least one neuron each.
    """
    widths = {name: max(1, count) for name, count in needed.items()}
    for name, width in widths.items():
        reader = name.rpartition(".")[2]
        place = int(reader) - 1 if reader.isdigit() else len(config.hidden_sizes) - 1
        config.hidden_sizes[place] = width
    return widths


def register() -> None:
    """Have transformers' Auto classes, and ``compact``, know the model; called on import."""
    register_sizes(MLPConfig.model_type, express_hidden_sizes)
    AutoConfig.register(MLPConfig.model_type, MLPConfig, exist_ok=True)
    AutoModelForImageClassification.register(MLPConfig, MLPForImageClassification, exist_ok=True)


register()
