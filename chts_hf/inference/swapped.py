"""A dense linear layer for the few rows of a decoding step."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SwappedLinear(nn.Linear):
    """An ``nn.Linear`` that computes ``(W xᵀ)ᵀ`` where x has few rows, with the same parameters.

    What a CPU's BLAS makes of a product depends on which factor comes first: with a matrix of many
    rows there and few columns behind it, it can take a fraction of the time of ``x Wᵀ``. Beam
    search multiplies by few rows all the time, and the output head over a vocabulary is the largest
    matrix of most translation models. Results differ from those of ``nn.Linear`` by rounding.

    Args:
        weight: of shape (out, in); a parameter is shared, so that a tied one stays tied.
        bias: of shape (out,), or None.
        most_rows: up to how many rows of x the order is swapped.

    Example:
        >>> layer = nn.Linear(3, 5)
        >>> x = torch.randn(4, 3)
        >>> swapped = SwappedLinear(layer.weight, layer.bias, most_rows=32)
        >>> torch.allclose(swapped(x), layer(x), atol=1e-6)
        True
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, most_rows: int) -> None:
        out_features, in_features = weight.shape
        super().__init__(in_features, out_features, bias is not None, device="meta")
        self.weight = _parameter(weight)
        self.register_parameter("bias", None if bias is None else _parameter(bias))
        self.most_rows = most_rows

    def forward(self, input: Tensor) -> Tensor:
        """Multiply: shape (…, in) to a contiguous (…, out)."""
        rows = input.shape[:-1].numel()
        if not 1 < rows <= self.most_rows:
            return super().forward(input)
        columns = input.reshape(rows, self.in_features).T
        if self.bias is None:
            product = self.weight @ columns
        else:
            product = torch.addmm(self.bias[:, None], self.weight, columns)
        return product.T.contiguous().view(*input.shape[:-1], self.out_features)


def _parameter(values: Tensor) -> nn.Parameter:
    if isinstance(values, nn.Parameter):
        return values
    return nn.Parameter(values, requires_grad=False)
