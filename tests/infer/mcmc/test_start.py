"""Where chains start."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from brancher.errors import NonFiniteError
from brancher.infer.initialization import init_to_uniform
from brancher.infer.mcmc import rng
from brancher.infer.mcmc.start import find_start

Tensor = torch.Tensor


def start(value: Any) -> Tensor:
    """Starts of 64 chains in one dimension, for a density without slope."""
    density = SimpleNamespace(like=torch.zeros(0), dim=1, why_bad=lambda position: "site 'x'")
    keys = rng.chain_keys(3, torch.arange(64))
    return find_start(density, lambda x: (value(x[:, 0]), torch.zeros_like(x)), keys, init_to_uniform)


def test_finite_density_keeps_the_first_proposals() -> None:
    plain = start(torch.zeros_like)
    assert plain.abs().max() <= 2.0 and plain.std() > 1.0
    assert torch.equal(start(lambda x: torch.full_like(x, -1e10)), plain)


def test_chains_do_not_start_where_the_density_is_infinite() -> None:
    assert bool((start(lambda x: torch.where(x > -1.0, -torch.inf, 0.0)) <= -1.0).all())


def test_chains_do_not_start_where_steps_would_vanish() -> None:
    assert bool((start(lambda x: torch.where(x > 0.0, -1e30, 0.0)) <= 0.0).all())


def test_chains_start_on_a_slope_where_there_is_nothing_else() -> None:
    assert start(lambda x: torch.full_like(x, -1e30)).shape == (64, 1)


def test_no_finite_density_error() -> None:
    with pytest.raises(NonFiniteError, match="chain 0.*after 100 tries: site 'x'"):
        start(lambda x: torch.full_like(x, torch.nan))
