"""The sparse layer computes what the dense one does, or says that it cannot."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from chts_hf.inference import SparseLinear, native
from chts_hf.inference.linear import KERNELS

HAS_COMPILER = native.native_kernel() is not None


def sparse_matrix(out: int, width: int, density: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    kept = torch.rand(out, width, generator=generator) < density
    return torch.randn(out, width, generator=generator) * kept


@pytest.mark.parametrize("kernel", KERNELS)
@settings(max_examples=60, deadline=None)
@given(
    out=st.one_of(st.integers(1, 40), st.integers(127, 130)),
    width=st.one_of(st.integers(1, 40), st.integers(255, 258)),
    tokens=st.integers(0, 70),
    density=st.sampled_from([0.0, 0.1, 1.0]),
    with_bias=st.booleans(),
)
def test_products_equal_the_dense_ones(kernel, out, width, tokens, density, with_bias):
    weight = sparse_matrix(out, width, density, seed=out)
    bias = torch.linspace(-1, 1, out) if with_bias else None
    x = torch.randn(tokens, width, generator=torch.Generator().manual_seed(width))
    got = SparseLinear(weight, bias, kernel)(x)
    assert got.is_contiguous()
    torch.testing.assert_close(got, nn.functional.linear(x, weight, bias), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_any_leading_shape_and_strides_are_taken(kernel):
    weight = sparse_matrix(6, 10, 0.3)
    x = torch.randn(10, 4, 3).permute(2, 1, 0)
    assert not x.is_contiguous()
    got = SparseLinear(weight, None, kernel)(x)
    assert got.shape == (3, 4, 6)
    torch.testing.assert_close(got, x @ weight.T)


@pytest.mark.parametrize("kernel", KERNELS)
def test_many_columns(kernel):
    weight = torch.zeros(3, 70_000)
    weight[0, 69_999], weight[2, 1] = 2.0, 3.0
    layer = SparseLinear(weight, None, kernel)
    x = torch.arange(70_000.0)[None]
    assert layer(x).tolist() == [[139_998.0, 0.0, 3.0]]
    assert torch.equal(layer.to_dense(), weight)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_share_the_work(threads):
    weight = sparse_matrix(1003, 300, 0.2)
    x = torch.randn(45, 300)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        got = SparseLinear(weight, None, "native")(x)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(got, x @ weight.T, rtol=1e-4, atol=1e-4)


def test_the_matrix_comes_back_and_copies_are_whole():
    weight = sparse_matrix(9, 20, 0.2)
    layer = SparseLinear(weight, torch.ones(9), "native")
    assert torch.equal(layer.to_dense(), weight)
    assert layer.links == weight.count_nonzero()
    assert torch.equal(copy.deepcopy(layer)(weight[:, :20]), layer(weight[:, :20]))
    assert f"links={layer.links}" in repr(layer)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 5), r"shape \(2, 5\).*to end in 4"),
        (torch.zeros(2, 4, dtype=torch.float64), "float64"),
        (torch.zeros(2, 4, device="meta"), "on meta"),
        (torch.zeros(2, 4, requires_grad=True), "no gradient"),
    ],
)
def test_what_it_cannot_multiply_is_refused(x, message):
    with pytest.raises(RuntimeError, match=message):
        SparseLinear(torch.eye(4), None, "native")(x)


def test_a_layer_moved_to_half_precision_is_refused():
    with pytest.raises(RuntimeError, match="bfloat16"):
        SparseLinear(torch.eye(4)).to(torch.bfloat16)(torch.zeros(1, 4))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(0, 4), (5, 0), (0, 0)])
def test_matrices_of_no_rows_or_columns(shape, kernel):
    x = torch.ones(3, shape[1])
    bias = torch.arange(shape[0]).float()
    got = SparseLinear(torch.zeros(shape), bias, kernel)(x)
    assert torch.equal(got, bias.expand(3, -1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_defaults_of_the_process_change_nothing(dtype):
    weight = sparse_matrix(300, 40, 0.2)
    layer, x = SparseLinear(weight, None, "native"), torch.randn(9, 40)
    want = layer(x)
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            got = layer(x)
    finally:
        torch.set_default_dtype(torch.float32)
    assert got.dtype == torch.float32
    assert torch.equal(got, want)


@pytest.mark.parametrize(
    "bias",
    [torch.zeros(2), torch.zeros(4, 1), torch.zeros(4).double(), torch.zeros(4, device="meta")],
)
def test_a_bias_that_does_not_fit_is_refused(bias):
    with pytest.raises(ValueError, match="bias is .*need 4 float32 values on the CPU"):
        SparseLinear(torch.eye(4), bias, "native")


def test_a_bias_with_gaps_is_read_as_it_is():
    layer = SparseLinear(torch.eye(4), torch.arange(8.0)[::2], "native")
    assert layer(torch.zeros(1, 4)).tolist() == [[0.0, 2.0, 4.0, 6.0]]


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_a_trace_is_refused():
    layer = SparseLinear(torch.eye(4), None, "native")
    with pytest.raises(RuntimeError, match="use torch.compile"):
        torch.jit.trace(layer, torch.randn(4, 4))


@pytest.mark.parametrize("weight", [torch.zeros(3), torch.zeros(2, 2, dtype=torch.bfloat16)])
def test_what_is_no_float32_matrix_is_refused(weight):
    with pytest.raises(ValueError, match="float32 matrix"):
        SparseLinear(weight)
    with pytest.raises(ValueError, match="'mkl'.*'native', 'torch'"):
        SparseLinear(torch.eye(2), None, "mkl")


@pytest.mark.skipif(not HAS_COMPILER, reason="no C compiler")
def test_without_a_working_compiler_the_layer_still_multiplies(monkeypatch, caplog):
    layer = SparseLinear(torch.eye(3) * 2, torch.ones(3), "native")
    assert layer.column.dtype == torch.uint8
    monkeypatch.setenv("CC", "false")
    native.native_kernel.cache_clear()
    try:
        with caplog.at_level(logging.WARNING, "chts_hf.inference.native"):
            assert native.native_kernel() is None
        assert "could not be built with false" in caplog.text
        assert layer(torch.arange(3.0)).tolist() == [1.0, 3.0, 5.0]
    finally:
        native.native_kernel.cache_clear()


@pytest.mark.skipif(not HAS_COMPILER, reason="no C compiler")
def test_a_kernel_that_multiplies_wrongly_is_not_used(monkeypatch, tmp_path):
    source = native._SOURCE.read_text()
    wrong = source.replace("total[v] += sum[0][v]", "total[v] -= sum[0][v]")
    assert wrong != source
    monkeypatch.setattr(native, "_SOURCE", tmp_path / "wrong.c")
    monkeypatch.setattr(native, "_ATTEMPTS", ((),))
    native._SOURCE.write_text(wrong)
    native.native_kernel.cache_clear()
    try:
        assert native.native_kernel() is None
    finally:
        native.native_kernel.cache_clear()
