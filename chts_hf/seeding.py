"""Random generators that depend on what they are for, and on nothing that ran before."""

from __future__ import annotations

import hashlib

import torch


def generator_for(seed: int, update: int, layer: str, purpose: str = "") -> torch.Generator:
    """A fresh CPU generator for one draw.

    It is the same on every rank and after every resume, whatever else used random numbers in
    between, because its state is a hash (BLAKE2b) of the arguments.

    Args:
        seed: the run's ``CHTsConfig.seed``.
        update: the number of the topology update; 0 for the initial masks.
        layer: the target's name.
        purpose: tells two draws of one layer in one update apart.
    """
    text = "\0".join((str(seed), str(update), layer, purpose)).encode()
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
