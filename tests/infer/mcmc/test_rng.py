"""The chains' own random numbers."""

from __future__ import annotations

import math

import torch

from brancher.infer.mcmc import rng

KEYS = rng.chain_keys(7, torch.arange(64))
TICK = torch.arange(64)


def test_threefry_gives_the_published_words():
    # Random123's known answers for threefry2x32 with 20 rounds, key and counter all ones bits.
    ones = torch.tensor(0xFFFFFFFF)
    assert [int(w) for w in rng.threefry((ones, ones), (ones, ones), 20)] == [0x1CB996FC, 0xBB002BE7]


def test_threefry_of_zeros_with_thirteen_rounds():
    zero = torch.tensor(0)
    assert [int(w) for w in rng.threefry((zero, zero), (zero, zero))] == [0x9D1C5EC6, 0x8BD50731]


def test_chain_keys_do_not_depend_on_the_other_chains():
    assert torch.equal(rng.chain_keys(7, torch.tensor([5])), KEYS[5:6])


def test_chain_keys_use_all_64_bits_of_the_seed():
    assert not torch.equal(rng.chain_keys(7 + 2**40, torch.arange(2)), KEYS[:2])


def test_normals_do_not_depend_on_the_other_chains():
    together = rng.normals(KEYS, TICK, 5, torch.float64)
    alone = rng.normals(KEYS[3:4], TICK[3:4], 5, torch.float64)
    # Vector and scalar code may round the logarithm and the sine differently.
    assert torch.allclose(together[3:4], alone, rtol=1e-14, atol=1e-14)


def test_uniforms_are_uniform():
    # n = 64,000; the largest distance to the uniform cdf exceeds 1.95 / sqrt(n) once in 1000 (Kolmogorov).
    u = rng.uniforms(KEYS, TICK, 1000, torch.float64).flatten().sort().values
    distance = (u - (torch.arange(64_000) + 0.5) / 64_000).abs().max()
    assert float(distance) < 1.95 / math.sqrt(64_000)


def test_normals_have_the_moments_of_a_normal():
    # n = 64,000; |z| < 4 for four moments: false alarms 2.5 in 10,000.
    z = rng.normals(KEYS, TICK, 1000, torch.float64).flatten()
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((z**power).mean()) - mean) < 4 * math.sqrt(variance / 64_000)


def test_lanes_and_ticks_are_apart():
    u = rng.uniforms(KEYS, TICK, 3, torch.float64)
    z = rng.uniforms(KEYS, TICK, 3, torch.float64, first=8)
    later = rng.uniforms(KEYS, TICK + 1, 3, torch.float64)
    assert torch.cat([u, z, later]).unique().numel() == 3 * 64 * 3


def test_float32_uniforms_are_never_zero():
    assert float(rng.uniforms(KEYS, TICK, 1000, torch.float32).min()) > 0
