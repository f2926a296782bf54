"""Random numbers that belong to one chain: a function of (seed, chain, counter), with no state elsewhere.

Threefry-2x32 with 13 rounds (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3",
table 2: passes BigCrush), in 64-bit integers that never overflow. It is plain tensor arithmetic: the same
bits come out in eager mode, inside a compiled loop and on every device, whatever other chains run beside.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY = 0x1BD11BDA


def threefry(
    key: tuple[Tensor, Tensor], counter: tuple[Tensor, Tensor], rounds: int = 13
) -> tuple[Tensor, Tensor]:
    """Hash a counter of two 32-bit words under a key of two 32-bit words; all int64, broadcast.

    Example:
        >>> zero = torch.zeros((), dtype=torch.int64)
        >>> [hex(int(word)) for word in threefry((zero, zero), (zero, zero))]
        ['0x9d1c5ec6', '0x8bd50731']
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    a, b = (counter[0] + keys[0]) & _MASK, (counter[1] + keys[1]) & _MASK
    for i in range(rounds):
        turn = _ROTATIONS[i % 8]
        a = (a + b) & _MASK
        b = (((b << turn) | (b >> (32 - turn))) & _MASK) ^ a
        if i % 4 == 3:
            j = i // 4 + 1
            a, b = (a + keys[j % 3]) & _MASK, (b + keys[(j + 1) % 3] + j) & _MASK
    return a, b


def chain_keys(seed: int, chains: Tensor) -> Tensor:
    """Derive the key of each chain from the run's seed and the chain's number.

    Args:
        seed: any integer; its lowest 64 bits count.
        chains: int64 chain numbers, shape ``(C,)``.

    Returns:
        Keys, int64 of shape ``(C, 2)``.
    """
    words = [torch.full_like(chains, (seed >> shift) & _MASK) for shift in (0, 32)]
    return torch.stack(threefry((words[0], words[1]), (chains, torch.zeros_like(chains)), 20), dim=-1)


def _words(key: Tensor, tick: Tensor, lanes: int, first: int) -> tuple[Tensor, Tensor]:
    lane = torch.arange(first, first + lanes, device=key.device)
    return threefry((key[:, :1], key[:, 1:]), (tick[:, None], lane[None, :]))


def _unit(word: Tensor, dtype: torch.dtype) -> Tensor:
    return (word.to(dtype) + 0.5) * 2.0**-32


def uniforms(key: Tensor, tick: Tensor, count: int, dtype: torch.dtype, first: int = 0) -> Tensor:
    """Draw ``count`` numbers in (0, 1] for each chain.

    Args:
        key: shape ``(C, 2)``.
        tick: counter of each chain, shape ``(C,)``; a new value gives new numbers.
        count: numbers a chain.
        dtype: floating type of the result.
        first: the first lane; calls with the same tick must use lanes that do not overlap.

    Returns:
        Shape ``(C, count)``; lanes ``first`` to ``first + ceil(count / 2) - 1`` are used up.
    """
    words = _words(key, tick, (count + 1) // 2, first)
    return _unit(torch.cat(words, dim=-1)[:, :count], dtype)


def normals(key: Tensor, tick: Tensor, count: int, dtype: torch.dtype, first: int = 8) -> Tensor:
    """Draw ``count`` standard normal numbers for each chain, by Box and Muller; as `uniforms` otherwise."""
    a, b = _words(key, tick, (count + 1) // 2, first)
    radius = (-2 * _unit(a, dtype).log()).sqrt()
    angle = _unit(b, dtype) * (2 * math.pi)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=-1)[:, :count]
