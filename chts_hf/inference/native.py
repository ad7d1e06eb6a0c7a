"""The compiled sparse product: built by the C compiler that is there, or not at all.

Intel MKL's sparse product, which ``torch.mm`` calls, reaches a fifth of what the processor can do
at the few rows that generation has. ``sparse_linear.c`` is shorter than the code to work around
that. It is compiled when first asked for, which takes some seconds, into a folder that is gone when
it is loaded; nothing is kept between processes, so nothing can be stale or another machine's.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from chts_hf.inference.blocks import to_blocks

_SOURCE = Path(__file__).with_name("sparse_linear.c")
_WIDTH = 32  # tokens that the kernel packs at a time
_LOGGER = logging.getLogger(__name__)
_OPTIMISE = ("-std=gnu11", "-O3", "-fPIC", "-fno-math-errno", "-Wno-psabi")
# What a compiler may lack, best first: instructions of this very processor, threads.
_ATTEMPTS = (("-march=native", "-fopenmp"), ("-mcpu=native", "-fopenmp"), ("-fopenmp",), ())

Kernel = Callable[[Sequence[Tensor], Tensor | None, Tensor, int], Tensor]


@functools.cache
def native_kernel() -> Kernel | None:
    """The compiled product with a matrix whose links are ordered in blocks, or None.

    Returns:
        ``kernel(links, bias, x, out)``: x Wᵀ + b, contiguous and of shape (…, out), for float32
        ``x`` (…, in); ``links`` are the five of :class:`chts_hf.inference.blocks.Blocks`, the
        values in float32; ``bias`` float32 (out,) or None; all on the CPU. Nothing is checked: the
        caller vouches for the indices. None if no C compiler (``CC``, cc, gcc, clang) is found or
        what it makes cannot be loaded or multiplies wrongly; the reason is logged.
    """
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        _LOGGER.info("no C compiler: sparse layers use torch's own sparse product")
        return None
    reasons = []
    for flags in _ATTEMPTS:
        try:
            kernel = _wrap(_build(compiler.split(), flags))
            if _multiplies(kernel):
                return kernel
            reasons.append(f"{' '.join(flags)}: wrong products")
        except (OSError, subprocess.SubprocessError, AttributeError) as error:
            reasons.append(f"{' '.join(flags)}: {_text(error)}")
    _LOGGER.warning(
        "the sparse kernel could not be built with %s; sparse layers use torch's own sparse "
        "product. %s",
        compiler,
        "; ".join(reasons),
    )
    return None


def _text(error: Exception) -> str:
    output = getattr(error, "stderr", None)
    return output.strip().splitlines()[-1] if output else str(error)


def _build(compiler: list[str], flags: tuple[str, ...]) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(prefix="chts_hf_") as folder:
        compiled, library = Path(folder, "sparse.o"), Path(folder, "sparse.so")
        # Linked without -fopenmp on purpose: the calls are then answered by the OpenMP runtime that
        # torch has loaded, with torch's threads and torch.set_num_threads; a second runtime's
        # threads would wait for the same cores.
        for command in (
            [*compiler, *_OPTIMISE, *flags, "-c", str(_SOURCE), "-o", str(compiled)],
            [*compiler, "-shared", str(compiled), "-o", str(library)],
        ):
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        return ctypes.CDLL(str(library))


def _wrap(library: ctypes.CDLL) -> Kernel:
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    function = library.sparse_linear
    function.argtypes = [*[pointer] * 9, *[size] * 4]
    function.restype = None

    def kernel(links: Sequence[Tensor], bias: Tensor | None, x: Tensor, out: int) -> Tensor:
        x = x.contiguous()
        *leading, width = x.shape
        group, start, row, column, value = links
        y = x.new_empty(*leading, out)  # torch.empty's type and device are the caller's to change
        packed = x.new_empty(width * _WIDTH)
        function(
            group.data_ptr(),
            start.data_ptr(),
            row.data_ptr(),
            column.data_ptr(),
            value.data_ptr(),
            None if bias is None else bias.data_ptr(),
            x.data_ptr(),
            y.data_ptr(),
            packed.data_ptr(),
            value.numel(),
            math.prod(leading),
            width,
            out,
        )
        return y

    return kernel


def _multiplies(kernel: Kernel) -> bool:
    """Whether a kernel is right on a small product with whole numbers, where nothing rounds."""
    out, width = 131, 259  # more than one group either way
    matrix = (torch.arange(out * width) % 7 - 3).float().reshape(out, width).clamp(min=0)
    links, bias = to_blocks(matrix), torch.arange(out).float()
    for tokens in (1, 5, 9, 45):
        x = (torch.arange(tokens * width) % 5 - 2).float().reshape(tokens, width)
        if not torch.equal(kernel(links, bias, x, out), x @ matrix.T + bias):
            return False
    return True
