from __future__ import annotations

import pytest
import torch

from brancher.distributions import Delta, Normal, kl_divergence
from brancher.errors import DistributionError, DistributionTypeError


def test_log_density_is_returned_at_the_point() -> None:
    d = Delta(torch.zeros(2, 3), log_density=torch.tensor([1.0, 2.0]), event_dim=1)
    assert d.log_prob(torch.zeros(2, 3)).tolist() == [1.0, 2.0]


def test_one_differing_entry_makes_the_event_impossible() -> None:
    d = Delta(torch.zeros(2, 3), event_dim=1)
    value = torch.zeros(2, 3)
    value[1, 2] = 1.0
    assert d.log_prob(value).tolist() == [0.0, -torch.inf]


def test_draw_passes_the_gradient_of_the_point() -> None:
    v = torch.tensor([1.0, 2.0], requires_grad=True)
    assert torch.autograd.grad(Delta(v).rsample(torch.Size([3])).sum(), v)[0].tolist() == [3.0, 3.0]


def test_log_density_passes_its_gradient() -> None:
    log_density = torch.tensor([0.5], requires_grad=True)
    d = Delta(torch.zeros(1), log_density)
    assert torch.autograd.grad(d.log_prob(torch.zeros(1)).sum(), log_density)[0].item() == 1.0


def test_integer_point_keeps_its_dtype() -> None:
    d = Delta(torch.tensor([1, 2]))
    assert d.sample().dtype == torch.int64
    assert d.log_prob(torch.tensor([1, 2])).dtype == torch.get_default_dtype()


@pytest.mark.parametrize("shape", [(3,), (2, 3), (1,)])
def test_log_density_of_another_shape_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(DistributionError, match="log_density"):
        Delta(torch.zeros(2, 3), torch.zeros(shape), event_dim=1)


def test_log_density_of_another_type_error() -> None:
    with pytest.raises(DistributionTypeError, match="log_density"):
        Delta(torch.zeros(2), "a")  # type: ignore[arg-type]


def test_event_dim_beyond_the_rank_error() -> None:
    with pytest.raises(DistributionError, match="event_dim <= 1"):
        Delta(torch.zeros(2), event_dim=2)


def test_point_that_is_no_tensor_error() -> None:
    with pytest.raises(DistributionTypeError, match="'v' as a tensor"):
        Delta([1.0])  # type: ignore[arg-type]


def test_kl_is_minus_the_other_log_density() -> None:
    p, q = Delta(torch.tensor([0.5, 1.0]), 0.25), Normal(0.0, 1.0)
    torch.testing.assert_close(kl_divergence(p, q), 0.25 - q.log_prob(p.v))


def test_kl_to_a_law_of_other_events_error() -> None:
    with pytest.raises(DistributionError, match="event shape"):
        kl_divergence(Delta(torch.zeros(2), event_dim=1), Normal(0.0, 1.0))
