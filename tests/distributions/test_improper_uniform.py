from __future__ import annotations

import pytest
import torch

from brancher.distributions import ImproperUniform, constraints
from brancher.errors import DistributionError


def test_density_is_flat() -> None:
    d = ImproperUniform(constraints.positive, (2,), (3,))
    assert d.log_prob(torch.rand(5, 2, 3) + 0.1).tolist() == [[0.0, 0.0]] * 5


def test_support_covers_the_whole_event() -> None:
    assert ImproperUniform(constraints.positive, (), (3,)).support.event_dim == 1
    assert ImproperUniform(constraints.ordered_vector, (), (3,)).support is constraints.ordered_vector


def test_expand_keeps_the_event() -> None:
    d = ImproperUniform(constraints.simplex, (), (3,)).expand((4,))
    assert (d.batch_shape, d.event_shape) == ((4,), (3,))


def test_value_outside_the_support_error() -> None:
    with pytest.raises(DistributionError, match="support"):
        ImproperUniform(constraints.positive, (), ()).log_prob(torch.tensor(-1.0))


def test_draw_error() -> None:
    with pytest.raises(NotImplementedError, match="no draws"):
        ImproperUniform(constraints.real).sample()
