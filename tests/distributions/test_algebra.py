"""Independent, MaskedDistribution, ExpandedDistribution and what every distribution inherits."""

from __future__ import annotations

import threading

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import brancher.distributions as dist
from brancher.errors import DistributionError, DistributionTypeError


def test_to_event_twice_is_one_layer() -> None:
    d = dist.Normal(torch.zeros(4, 3, 2), 1.0).to_event(1).to_event(1)
    assert (d.batch_shape, d.event_shape, d.reinterpreted_batch_ndims) == ((4,), (3, 2), 2)
    assert isinstance(d.base_dist, dist.Normal)


def test_to_event_of_nothing_is_the_distribution_itself() -> None:
    d = dist.Normal(torch.zeros(2), 1.0)
    assert d.to_event(0) is d


def test_independent_refuses_a_broadcast_event_error() -> None:
    d = dist.Normal(torch.zeros(3, 2), 1.0).to_event(1)
    with pytest.raises(DistributionError, match=r"event shape \(2,\), got shape \(3, 1\)"):
        d.log_prob(torch.zeros(3, 1))


def test_independent_wraps_foreign_distributions() -> None:
    d = dist.Independent(torch.distributions.Normal(torch.zeros(3), torch.ones(3)), 1)
    assert float(d.log_prob(torch.zeros(3))) == pytest.approx(-2.756815)


def test_independent_too_many_dimensions_error() -> None:
    with pytest.raises(DistributionError, match="Independent: .*got 2"):
        dist.Independent(dist.Normal(torch.zeros(3), 1.0), 2)


def test_mask_false_is_zero_and_true_changes_nothing() -> None:
    d, x = dist.Normal(torch.zeros(3), 1.0), torch.ones(3)
    assert torch.equal(d.mask(False).log_prob(x), torch.zeros(3))
    assert torch.equal(d.mask(True).log_prob(x), d.log_prob(x))


def test_mask_enlarges_the_batch() -> None:
    d = dist.Normal(0.0, 1.0).mask(torch.tensor([True, False]))
    assert d.batch_shape == (2,)
    assert d.sample().shape == (2,)


def test_mask_that_does_not_broadcast_error() -> None:
    with pytest.raises(DistributionError, match=r"'mask'.*\(2,\), \(3,\)"):
        dist.Normal(torch.zeros(3), 1.0).mask(torch.ones(2))


def test_mask_of_wrong_type_error() -> None:
    with pytest.raises(DistributionTypeError, match="Normal: expected mask as a bool or a tensor, got list"):
        dist.Normal(torch.zeros(2), 1.0).mask([True, False])  # type: ignore[arg-type]


def test_masked_value_outside_the_support_passes_validation() -> None:
    d = dist.Gamma(torch.ones(2), 1.0).mask(torch.tensor([True, False]))
    assert d.log_prob(torch.tensor([1.0, -3.0])).tolist() == [-1.0, 0.0]


def test_masked_value_outside_the_support_error_where_it_counts() -> None:
    d = dist.Gamma(torch.ones(2), 1.0).mask(torch.tensor([True, False]))
    with pytest.raises(DistributionError, match="-3.0"):
        d.log_prob(torch.tensor([-3.0, 1.0]))


@pytest.mark.parametrize(
    "d",
    [
        dist.Dirichlet(torch.ones(2, 3)),
        dist.OneHotCategorical(torch.ones(2, 3)),
        dist.Multinomial(4, torch.ones(2, 3)),
        dist.LKJCholesky(3, torch.ones(2)),
        dist.Wishart(torch.tensor([4.0, 5.0]), torch.eye(3)),
        dist.Uniform(torch.zeros(2), torch.ones(2)),
        dist.MixtureSameFamily(dist.Categorical(torch.ones(2, 2)), dist.Uniform(torch.zeros(2, 2), 1.0)),
        dist.Gamma(torch.ones(2, 3), 1.0).to_event(1),
    ],
    ids=lambda d: type(d).__name__,
)
def test_masked_nan_reaches_no_gradient(d: dist.Distribution) -> None:
    x = d.sample()
    broken = x.clone()
    broken[1] = float("nan")
    broken.requires_grad_()
    log_prob = d.mask(torch.tensor([True, False])).log_prob(broken)
    torch.testing.assert_close(log_prob.detach(), d.log_prob(x) * torch.tensor([1.0, 0.0]))
    if log_prob.requires_grad:
        (gradient,) = torch.autograd.grad(log_prob.sum(), broken)
        assert bool((gradient[1] == 0).all())


def test_mask_keeps_draws_with_their_gradient() -> None:
    scale = torch.tensor(2.0, requires_grad=True)
    d = dist.Normal(0.0, scale).mask(False)
    assert d.has_rsample
    assert d.rsample().requires_grad


def test_mask_of_entropy() -> None:
    d = dist.Normal(torch.zeros(2), 1.0).mask(torch.tensor([True, False]))
    assert d.entropy().tolist() == [pytest.approx(1.4189385), 0.0]


class _Coin(dist.Distribution):
    """A family without expand, batch shape (1, 3)."""

    arg_constraints = {}
    support = dist.constraints.boolean
    has_enumerate_support = True

    def __init__(self) -> None:
        super().__init__(torch.Size([1, 3]))

    def sample(self, sample_shape: torch.Size = torch.Size()) -> torch.Tensor:  # noqa: B008
        return torch.bernoulli(torch.tensor([0.0, 0.5, 1.0]).expand(self.shape(sample_shape)))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        return torch.tensor([0.0, -0.6931, 0.0]) + 0 * value

    def enumerate_support(self, expand: bool = True) -> torch.Tensor:
        values = torch.tensor([0.0, 1.0]).reshape(2, 1, 1)
        return values.expand(2, 1, 3) if expand else values


def test_expand_without_its_own_method_draws_each_copy() -> None:
    d = _Coin().expand([5, 200, 3])
    x = d.sample(torch.Size([2]))
    assert x.shape == (2, 5, 200, 3)
    assert torch.equal(x[..., 0], torch.zeros(2, 5, 200))
    assert torch.equal(x[..., 2], torch.ones(2, 5, 200))
    assert 0.4 < float(x[..., 1].mean()) < 0.6  # 2000 draws, 9 standard errors


def test_expand_without_its_own_method_scores_and_enumerates() -> None:
    d = _Coin().expand([5, 4, 3])
    assert d.log_prob(torch.zeros(3)).shape == (5, 4, 3)
    assert d.enumerate_support().shape == (2, 5, 4, 3)
    assert d.enumerate_support(expand=False).shape == (2, 1, 1, 1)


def test_expand_to_a_smaller_shape_error() -> None:
    with pytest.raises(DistributionError, match="batch_shape"):
        _Coin().expand([2])


def test_user_subclass_with_its_own_constructor_expands() -> None:
    class Shifted(dist.TransformedDistribution):
        def __init__(self, shift: float) -> None:
            self.shift = shift
            super().__init__(dist.Normal(0.0, 1.0), [dist.AffineTransform(shift, 1.0)])

    d = Shifted(2.0).expand([3])
    assert d.batch_shape == (3,)
    torch.testing.assert_close(d.log_prob(torch.tensor(2.0)), torch.full((3,), -0.9189385))


def test_user_subclass_of_a_family_keeps_its_attributes() -> None:
    class Named(dist.Normal):
        def __init__(self, name: str) -> None:
            super().__init__(0.0, 1.0)
            self.name = name

    assert Named("a").expand([2]).name == "a"  # type: ignore[attr-defined]


def test_validated_object_is_unchecked_where_validation_is_off() -> None:
    d = dist.Normal(0.0, 1.0)
    with dist.validation_enabled(False):
        assert d.log_prob(torch.tensor(float("nan"))).isnan()
    with pytest.raises(DistributionError):
        d.log_prob(torch.tensor(float("nan")))


def test_validate_args_false_is_kept_by_expand() -> None:
    d = dist.Normal(0.0, -1.0, validate_args=False).expand([2]).to_event(1)
    assert d.log_prob(torch.zeros(2)).isnan()


def test_validation_is_local_to_a_thread() -> None:
    seen: list[bool] = []
    with dist.validation_enabled(False):
        thread = threading.Thread(target=lambda: seen.append(dist.is_validating()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_torch_compile_switching_its_own_validation_off_changes_nothing() -> None:
    before = torch.distributions.Distribution._validate_args
    torch.distributions.Distribution.set_default_validate_args(False)
    try:
        with pytest.raises(DistributionError):
            dist.Normal(0.0, -1.0)
    finally:
        torch.distributions.Distribution.set_default_validate_args(before)


def test_mixed_numbers_and_tensors_follow_the_tensor() -> None:
    d = dist.Normal(0, torch.ones(2, dtype=torch.float64))
    assert d.loc.dtype == torch.float64
    assert d.loc.shape == (2,)


def test_integer_tensors_become_floating() -> None:
    assert dist.Poisson(torch.tensor(3)).sample().is_floating_point()


def test_parameter_of_wrong_type_error() -> None:
    with pytest.raises(
        DistributionTypeError, match="Normal: expected parameter 'loc' as a real number or tensor, got list"
    ):
        dist.Normal([0.0], 1.0)  # type: ignore[arg-type]


def test_parameters_that_do_not_broadcast_error() -> None:
    with pytest.raises(DistributionError, match=r"Normal: .*loc \(2,\), scale \(3,\)"):
        dist.Normal(torch.zeros(2), torch.ones(3))


def test_two_parametrisations_error() -> None:
    with pytest.raises(
        DistributionError, match="Bernoulli: expected exactly one of probs, logits, got probs and logits"
    ):
        dist.Bernoulli(probs=0.5, logits=0.0)


def test_mixture_of_wrong_size_error() -> None:
    with pytest.raises(DistributionError, match="last batch dimension of 3"):
        dist.MixtureSameFamily(dist.Categorical(torch.ones(3)), dist.Normal(torch.zeros(2), 1.0))


def test_masked_density_traces(unvalidated: None) -> None:
    mask = torch.tensor([True, False])

    def log_prob(x: torch.Tensor, loc: torch.Tensor) -> torch.Tensor:
        return dist.Normal(loc, 1.0).mask(mask).to_event(1).log_prob(x)

    arguments = torch.ones(2), torch.zeros(2)
    graph = make_fx(log_prob)(*arguments)
    assert torch.equal(graph(*arguments), log_prob(*arguments))


def test_law_of_a_program_may_say_nothing_of_its_arguments():
    class Shifted(dist.TorchDistribution):
        def __init__(self, loc):
            self.loc = loc
            super().__init__(event_shape=loc.shape)

        def sample(self, sample_shape=()):
            return self.loc + torch.randn(tuple(sample_shape) + self.loc.shape)

        def log_prob(self, value):
            return dist.Normal(self.loc, 1.0).log_prob(value).sum(-1)

    law = Shifted(torch.zeros(2))
    assert law.log_prob(law.sample((3,))).shape == (3,)
