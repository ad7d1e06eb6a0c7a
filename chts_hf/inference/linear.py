"""A linear layer that multiplies by its non-zero weights only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from chts_hf.inference.native import native_kernel
from chts_hf.topology.csr import csr_matrix, to_csr

KERNELS = ("native", "torch")
_UINT16_COLUMNS = 2**16


class SparseLinear(nn.Module):
    """y = x Wᵀ + b on the CPU, with W in compressed sparse rows (CSR), for inference.

    Takes the place of an ``nn.Linear`` (or of GPT-2's ``Conv1D``): same inputs, same outputs to
    rounding, and in a ``state_dict`` the same dense ``weight``, so that a model saved with it is an
    ordinary one. It has no gradient, and its ``weight`` is None; :meth:`to_dense` gives the matrix.

    Args:
        weight: float32 matrix of shape (out, in) on the CPU; its zeros are left out.
        bias: of shape (out,), kept as it is; or None.
        kernel: "native", the kernel of ``csr_linear.c`` (built on first use by the machine's C
            compiler), or "torch", ``torch.mm`` with a sparse matrix, which is MKL's product.
        transposed: whether a ``state_dict`` gives the weight as (in, out), as ``Conv1D`` does.

    Raises:
        ValueError: an unknown kernel, a weight that is no float32 matrix on the CPU, or more than
            2³¹ - 1 links.

    Example:
        >>> layer = SparseLinear(torch.tensor([[0.0, 2.0], [0.0, 0.0]]), torch.tensor([1.0, 3.0]))
        >>> layer(torch.tensor([[5.0, 7.0]])).tolist()
        [[15.0, 3.0]]
    """

    weight: None
    start: Tensor
    column: Tensor
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
        start, column, value = to_csr(weight.detach())
        # Half the bytes of an index are half the traffic that a product with few tokens waits for.
        short = kernel == "native" and self.in_features <= _UINT16_COLUMNS
        self.register_parameter("weight", None)
        self.register_buffer("start", start, persistent=False)
        column = column.to(torch.uint16 if short else torch.int32)
        self.register_buffer("column", column, persistent=False)
        self.register_buffer("value", value, persistent=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    @property
    def links(self) -> int:
        """The number of weights that are not zero."""
        return self.value.numel()

    def to_dense(self) -> Tensor:
        """The weight matrix, of shape (out, in)."""
        dense = self.value.new_zeros(self.out_features, self.in_features)
        rows = torch.arange(self.out_features).repeat_interleave(self.start.diff())
        dense[rows, self.column.long()] = self.value
        return dense

    def forward(self, x: Tensor) -> Tensor:
        """Multiply.

        Args:
            x: float32 of shape (…, in) on the CPU.

        Returns:
            A contiguous tensor of shape (…, out).

        Raises:
            RuntimeError: a gradient is asked for, or ``x`` has another type, device or width.
        """
        if torch.is_grad_enabled() and x.requires_grad:
            raise RuntimeError(
                "a sparse inference layer has no gradient: call it under torch.no_grad(), and "
                "train the model as it was before to_sparse_inference"
            )
        # The kernel trusts what it is given.
        if x.shape[-1] != self.in_features or not x.dtype == self.value.dtype == torch.float32:
            raise RuntimeError(
                f"the input is {x.dtype} of shape {tuple(x.shape)} and the weight "
                f"{self.value.dtype}; a sparse inference layer of {self.in_features} inputs needs "
                f"both to be float32, and the shape to end in {self.in_features}"
            )
        if x.device.type != "cpu" or self.value.device.type != "cpu":
            raise RuntimeError(
                f"the input is on {x.device} and the weight on {self.value.device}; sparse "
                "inference layers multiply on the CPU only"
            )
        # An operator can be traced by torch.compile, and costs more than a call of the function.
        multiply = _compilable if torch.compiler.is_compiling() else _multiply
        return multiply(x, self.start, self.column, self.value, self.bias, self.kernel)

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


def _multiply(
    x: Tensor, start: Tensor, column: Tensor, value: Tensor, bias: Tensor | None, kernel: str
) -> Tensor:
    shape = (*x.shape[:-1], start.shape[0] - 1)
    x = x.reshape(-1, x.shape[-1]).contiguous()
    native = native_kernel() if kernel == "native" else None
    if native is not None:
        return native(start, column, value, bias, x).view(shape)
    # A model made where there is a compiler may be used where there is none.
    column = column if column.dtype == torch.int32 else column.int()
    size = (start.shape[0] - 1, x.shape[-1])
    matrix = csr_matrix(start, column, value, size)
    # Contiguous, as a dense layer's: attention takes its slow path for transposed projections.
    y = torch.empty(x.shape[0], size[0])
    product = torch.mm(matrix, x.t()).t()
    return (y.copy_(product) if bias is None else torch.add(product, bias, out=y)).view(shape)


@torch.library.custom_op("chts_hf::csr_linear", mutates_args=())
def _compilable(
    x: Tensor, start: Tensor, column: Tensor, value: Tensor, bias: Tensor | None, kernel: str
) -> Tensor:
    return _multiply(x, start, column, value, bias, kernel)


@_compilable.register_fake
def _(
    x: Tensor, start: Tensor, column: Tensor, value: Tensor, bias: Tensor | None, kernel: str
) -> Tensor:
    return x.new_empty(*x.shape[:-1], start.shape[0] - 1)
