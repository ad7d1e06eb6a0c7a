"""Positions of links as bytes: every mask comes back, in the fewest bytes, and no other does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chts_hf.checkpoint.layout import (
    LAYOUTS,
    check_stream,
    choose_layout,
    decode_links,
    decode_weight,
    encode_links,
    stream_limit,
)

STREAMS = [name for name in LAYOUTS if name != "dense"]


def random_mask(shape: tuple[int, ...], density: float, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(shape) < density)


@pytest.mark.parametrize("layout", STREAMS)
@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 70),
    density=st.sampled_from([0, 0.002, 0.05, 0.1, 0.5, 1]),
    seed=st.integers(0, 9),
)
def test_masks_come_back(layout, rows, columns, density, seed):
    mask = random_mask((rows, columns), density, seed)
    links = int(mask.sum())
    stream = encode_links(mask, layout)
    fewest, most = stream_limit(layout, mask.shape, links)
    assert fewest <= stream.numel() <= most
    assert torch.equal(decode_links(stream, layout, tuple(mask.shape), links), mask)


@pytest.mark.parametrize("layout", ["gaps4", "gaps8"])
@pytest.mark.parametrize("gap", [0, 1, 14, 15, 16, 29, 30, 254, 255, 256, 509, 510, 511, 1000])
def test_gaps_of_every_length_around_the_skips_come_back(layout, gap):
    mask = torch.zeros(2 * gap + 40, dtype=torch.bool)
    mask[[gap, 2 * gap + 1]] = True
    stream = encode_links(mask, layout)
    assert torch.equal(decode_links(stream, layout, tuple(mask.shape), 2), mask)


def test_a_gap_stream_is_what_it_is_documented_to_be():
    mask = torch.zeros(40, dtype=torch.bool)
    mask[[0, 3, 20]] = True  # gaps 0, 2, 16 = one skip of 15, then 1
    assert encode_links(mask, "gaps4").tolist() == [0x02, 0xF1]
    assert encode_links(mask, "gaps8").tolist() == [0, 2, 16]
    mask[[21, 39]] = True
    assert encode_links(mask, "gaps4").tolist() == [0x02, 0xF1, 0x0F, 0x2F]


@pytest.mark.parametrize(
    ("density", "layout"),
    [(0.001, "gaps8"), (0.02, "gaps8"), (0.1, "gaps4"), (0.2, "gaps4"), (0.4, "bitmask")],
)
def test_the_smallest_layout_is_chosen(density, layout):
    mask = random_mask((256, 256), density)
    chosen, size = choose_layout(mask, 4)
    sizes = {name: encode_links(mask, name).numel() for name in STREAMS}
    assert (chosen, size) == (layout, min(sizes.values()))
    assert sizes[chosen] == size


@pytest.mark.parametrize(("density", "size", "layout"), [(1, 2, "dense"), (0.97, 4, "dense"),
                                                         (0.97, 8, "bitmask")])  # fmt: skip
def test_dense_is_chosen_where_positions_cost_more_than_zeros(density, size, layout):
    assert choose_layout(random_mask((256, 256), density), size)[0] == layout


@pytest.mark.parametrize("shape", [(0, 5), (1, 1)])
def test_no_weights_and_no_links_have_a_layout(shape):
    mask = torch.zeros(shape, dtype=torch.bool)
    layout, size = choose_layout(mask, 4)
    if layout != "dense":
        stream = encode_links(mask, layout)
        assert stream.numel() == size
        assert torch.equal(decode_links(stream, layout, shape, 0), mask)


def test_four_bit_gaps_come_near_the_entropy():
    """At 90 % sparsity, H(0.1) / 8 = 0.0586 bytes a weight is the least that any code can do."""
    size = choose_layout(random_mask((512, 512), 0.1), 4)[1] / 512**2
    entropy = -(0.1 * math.log2(0.1) + 0.9 * math.log2(0.9)) / 8
    assert entropy < size < 1.1 * entropy


@pytest.mark.parametrize("layout", STREAMS)
def test_a_link_too_many_or_too_few_is_refused(layout):
    mask = random_mask((20, 20), 0.2)
    links, stream = int(mask.sum()), encode_links(mask, layout)
    for wrong in (links - 1, links + 1):
        with pytest.raises(ValueError, match="links"):
            decode_links(stream, layout, (20, 20), wrong)


@pytest.mark.parametrize("layout", ["gaps4", "gaps8"])
def test_a_link_beyond_the_weight_is_refused(layout):
    mask = torch.zeros(100, dtype=torch.bool)
    mask[99] = True
    with pytest.raises(ValueError, match="index 99 of 99 weights"):
        decode_links(encode_links(mask, layout), layout, (99,), 1)


def test_a_bit_beyond_the_weight_is_refused():
    stream = torch.tensor([0b10000000, 0b00000001], dtype=torch.uint8)
    with pytest.raises(ValueError, match="beyond its 15"):
        decode_links(stream, "bitmask", (3, 5), 2)


@pytest.mark.parametrize("layout", STREAMS)
def test_a_huge_shape_costs_nothing(layout):
    """The check of a stream allocates by the stream's size; the shape is only a number."""
    stream = encode_links(random_mask((30, 30), 0.1), layout)
    with pytest.raises(ValueError, match=r"stream|links"):
        check_stream(stream, layout, (2**40, 2**40), 91)


def test_values_must_be_as_many_as_links():
    mask = random_mask((4, 4), 0.5)
    with pytest.raises(ValueError, match="values of shape"):
        decode_weight(torch.ones(int(mask.sum()) + 1), mask)


@settings(max_examples=150, deadline=None)
@given(
    data=st.binary(max_size=40),
    layout=st.sampled_from(STREAMS),
    rows=st.integers(0, 12),
    columns=st.integers(0, 12),
    links=st.integers(0, 60),
)
def test_any_bytes_are_a_mask_or_an_error(data, layout, rows, columns, links):
    stream = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(
        0, dtype=torch.uint8
    )  # fmt: skip
    try:
        mask = decode_links(stream, layout, (rows, columns), links)
    except ValueError:
        return
    assert mask.shape == (rows, columns)
    assert int(mask.sum()) == links
