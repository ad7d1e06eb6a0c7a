"""A linear layer that multiplies by its non-zero weights only."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from chts_hf.inference.blocks import Blocks, from_blocks, to_blocks
from chts_hf.inference.native import native_kernel
from chts_hf.topology.csr import csr_matrix, to_csr

KERNELS = ("native", "torch")


class SparseLinear(nn.Module):
    """y = x Wᵀ + b on the CPU, by the non-zero entries of W alone, for inference.

    Takes the place of an ``nn.Linear`` (or of GPT-2's ``Conv1D``): same inputs, same outputs to
    rounding, and in a ``state_dict`` the same dense ``weight``, so that a model saved with it is an
    ordinary one. It has no gradient, and its ``weight`` is None; :meth:`to_dense` gives the matrix.

    Args:
        weight: float32 matrix of shape (out, in) on the CPU; its zeros are left out.
        bias: of shape (out,), kept as it is; or None.
        kernel: "native", the kernel of ``sparse_linear.c`` (built on first use by the machine's C
            compiler), or "torch", ``torch.mm`` with a matrix in compressed sparse rows, which is
            MKL's product.
        transposed: whether a ``state_dict`` gives the weight as (in, out), as ``Conv1D`` does.

    Raises:
        ValueError: an unknown kernel, a weight that is no float32 matrix on the CPU, a bias that
            does not go with it, or more than 2³¹ - 1 links.

    Example:
        >>> layer = SparseLinear(torch.tensor([[0.0, 2.0], [0.0, 0.0]]), torch.tensor([1.0, 3.0]))
        >>> layer(torch.tensor([[5.0, 7.0]])).tolist()
        [[15.0, 3.0]]
    """

    weight: None
    value: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        kernel: str = "torch",
        *,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        if kernel not in KERNELS:
            raise ValueError(f"kernel is {kernel!r}; it must be one of {KERNELS}")
        if weight.dim() != 2 or weight.dtype != torch.float32 or weight.device.type != "cpu":
            raise ValueError(
                f"weight is {weight.dtype} of shape {tuple(weight.shape)} on {weight.device}; "
                "sparse products need a float32 matrix on the CPU"
            )
        self.out_features, self.in_features = weight.shape
        self.kernel = kernel
        self.transposed = transposed
        self.register_parameter("weight", None)
        for name, links in _ordered(weight.detach(), kernel).items():
            self.register_buffer(name, links, persistent=False)
        if bias is not None:
            if bias.shape != (self.out_features,) or bias.dtype != torch.float32 or not bias.is_cpu:
                raise ValueError(
                    f"bias is {bias.dtype} of shape {tuple(bias.shape)} on {bias.device}; sparse "
                    f"products need {self.out_features} float32 values on the CPU"
                )
            bias = nn.Parameter(bias.detach().contiguous(), requires_grad=False)
        self.register_parameter("bias", bias)

    @property
    def links(self) -> int:
        """The number of weights that are not zero."""
        return self.value.numel()

    def to_dense(self) -> Tensor:
        """The weight matrix, of shape (out, in)."""
        return _dense(list(self.buffers()), self.kernel, (self.out_features, self.in_features))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply.

        Args:
            x: float32 of shape (…, in) on the CPU.

        Returns:
            A contiguous tensor of shape (…, out).

        Raises:
            RuntimeError: a gradient is asked for, ``x`` has another type, device or width, or this
                is a ``torch.jit.trace``.
        """
        if torch.is_grad_enabled() and x.requires_grad:
            raise RuntimeError(
                "a sparse inference layer has no gradient: call it under torch.no_grad(), and "
                "train the model as it was before to_sparse_inference"
            )
        if torch.jit.is_tracing():
            raise RuntimeError(
                "torch.jit.trace sees nothing of a sparse product: use torch.compile, or trace the "
                "model as it was before to_sparse_inference"
            )
        # Of a decoding step's time the way to a product is a good part, and attributes of modules
        # are slow to find.
        links, bias = cast("dict[str, Tensor]", self._buffers), self._parameters["bias"]
        value = links["value"]
        # The kernel trusts what it is given.
        if x.shape[-1] != self.in_features or not x.dtype == value.dtype == torch.float32:
            raise RuntimeError(
                f"the input is {x.dtype} of shape {tuple(x.shape)} and the weight "
                f"{value.dtype}; a sparse inference layer of {self.in_features} inputs needs "
                f"both to be float32, and the shape to end in {self.in_features}"
            )
        if not (x.is_cpu and value.is_cpu):
            raise RuntimeError(
                f"the input is on {x.device} and the weight on {value.device}; sparse "
                "inference layers multiply on the CPU only"
            )
        # An operator can be traced by torch.compile, and costs more than a call of the function.
        multiply = _compilable if torch.compiler.is_compiling() else _multiply
        return multiply(x, list(links.values()), bias, self.kernel, self.out_features)

    def _save_to_state_dict(
        self, destination: dict[str, Tensor], prefix: str, keep_vars: bool
    ) -> None:
        # A checkpoint without the weight's own key would load elsewhere with random weights.
        super()._save_to_state_dict(destination, prefix, keep_vars)
        dense = self.to_dense()
        destination[f"{prefix}weight"] = dense.T.contiguous() if self.transposed else dense

    def extra_repr(self) -> str:
        """Sizes, density and kernel, for the model's printed form."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}, links={self.links}, kernel={self.kernel}"
        )


def _ordered(weight: Tensor, kernel: str) -> dict[str, Tensor]:
    """The links of a matrix as a kernel reads them."""
    if kernel == "native":
        return to_blocks(weight)._asdict()
    start, column, value = to_csr(weight)
    return {"start": start, "column": column.to(torch.int32), "value": value}


def _dense(links: list[Tensor], kernel: str, shape: tuple[int, int]) -> Tensor:
    if kernel == "native":
        return from_blocks(Blocks(*links), shape)
    start, column, value = links
    return csr_matrix(start, column, value, shape).to_dense()


def _multiply(
    x: Tensor, links: list[Tensor], bias: Tensor | None, kernel: str, out_features: int
) -> Tensor:
    if kernel == "native":
        native = native_kernel()
        if native is not None:
            return native(links, bias, x, out_features)
        # A model made where there is a compiler may be used where there is none.
        dense = _dense(links, kernel, (out_features, x.shape[-1]))
        return nn.functional.linear(x, dense, bias)
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    start, column, value = links
    matrix = csr_matrix(start, column, value, (out_features, x.shape[-1]))
    # Contiguous, as a dense layer's: attention takes its slow path for transposed projections.
    y = x.new_empty(rows.shape[0], out_features)
    product = torch.mm(matrix, rows.t()).t()
    y = y.copy_(product) if bias is None else torch.add(product, bias, out=y)
    return y.view(*x.shape[:-1], out_features)


@torch.library.custom_op("chts_hf::sparse_linear", mutates_args=())
def _compilable(
    x: Tensor, links: list[Tensor], bias: Tensor | None, kernel: str, out_features: int
) -> Tensor:
    return _multiply(x, links, bias, kernel, out_features)


@_compilable.register_fake
def _(
    x: Tensor, links: list[Tensor], bias: Tensor | None, kernel: str, out_features: int
) -> Tensor:
    return x.new_empty(*x.shape[:-1], out_features)
