"""Every registered constraint: its transform maps into it, back, and knows its log-determinant."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from brancher.distributions import biject_to, constraints, transform_to, transforms
from brancher.distributions.constraints import same_constraint
from brancher.distributions.matrix_transforms import read_triangle

LOW, HIGH = torch.tensor([0.0, -math.inf, 1.0, -math.inf]), torch.tensor([math.inf, 2.0, 3.0, math.inf])
# constraint, shape of an unconstrained value for biject_to, and for transform_to
REGISTRY: list[tuple[Any, tuple[int, ...] | None, tuple[int, ...]]] = [
    (constraints.real, (3,), (3,)),
    (constraints.real_vector, (3,), (3,)),
    (constraints.positive, (3,), (3,)),
    (constraints.nonnegative, (3,), (3,)),
    (constraints.softplus_positive, (3,), (3,)),
    (constraints.greater_than(2.0), (3,), (3,)),
    (constraints.greater_than_eq(2.0), (3,), (3,)),
    (constraints.less_than(2.0), (3,), (3,)),
    (constraints.unit_interval, (3,), (3,)),
    (constraints.interval(-1.0, 3.0), (3,), (3,)),
    (constraints.interval(torch.zeros(3), torch.ones(3)), (3,), (3,)),
    (constraints.half_open_interval(-1.0, 3.0), (3,), (3,)),
    (constraints.half_open(-1.0, 3.0), (3,), (3,)),
    (constraints.left_open_interval(-1.0, 3.0), (3,), (3,)),
    (constraints.extended_interval(LOW, HIGH), (4,), (4,)),
    (constraints.independent(constraints.positive, 1), (3,), (3,)),
    (constraints.simplex, (3,), (4,)),
    (constraints.ordered, (4,), (4,)),
    (constraints.ordered_vector, (4,), (4,)),
    (constraints.positive_ordered, (4,), (4,)),
    (constraints.positive_ordered_vector, (4,), (4,)),
    (constraints.sphere, (2,), (3,)),
    (constraints.lower_cholesky, (6,), (3, 3)),
    (constraints.softplus_lower_cholesky, (6,), (3, 3)),
    (constraints.unit_lower_cholesky, (3,), (3, 3)),
    (constraints.corr_cholesky, (6,), (6,)),
    (constraints.corr_matrix, (6,), (6,)),
    (constraints.positive_definite, (6,), (3, 3)),
    (constraints.positive_semidefinite, (6,), (3, 3)),
    (constraints.MixtureSameFamilyConstraint(constraints.positive), (3,), (3,)),
    (constraints.cat([constraints.real, constraints.positive], 0, [1, 2]), (3,), (3,)),
    (constraints.stack([constraints.real, constraints.positive], 0), (2, 3), (2, 3)),
]
IDS = [f"{i}-{type(row[0]).__name__}" for i, row in enumerate(REGISTRY)]
entries = pytest.mark.parametrize(("constraint", "bijective", "onto"), REGISTRY, ids=IDS)


def unconstrained(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


@entries
def test_biject_to_maps_into_the_constraint(constraint: Any, bijective: Any, onto: Any) -> None:
    assert bool(constraint.check(biject_to(constraint)(unconstrained(bijective))).all())


@entries
def test_transform_to_maps_into_the_constraint(constraint: Any, bijective: Any, onto: Any) -> None:
    assert bool(constraint.check(transform_to(constraint)(unconstrained(onto))).all())


@entries
def test_biject_to_is_inverted(constraint: Any, bijective: Any, onto: Any) -> None:
    transform, x = biject_to(constraint), unconstrained(bijective)
    assert transform.bijective
    torch.testing.assert_close(transform.inv(transform(x)), x, rtol=1e-9, atol=1e-9)


@entries
def test_inverse_then_forward_is_the_identity(constraint: Any, bijective: Any, onto: Any) -> None:
    for transform, shape in ((biject_to(constraint), bijective), (transform_to(constraint), onto)):
        y = transform(unconstrained(shape))
        torch.testing.assert_close(transform(transform.inv(y)), y, rtol=1e-9, atol=1e-9)


@entries
def test_shapes_are_foretold(constraint: Any, bijective: Any, onto: Any) -> None:
    for transform, shape in ((biject_to(constraint), bijective), (transform_to(constraint), onto)):
        y = transform(unconstrained(shape))
        assert transform.forward_shape(torch.Size(shape)) == y.shape
        assert transform.inverse_shape(y.shape) == torch.Size(shape)


def free_entries(constraint: Any, y: torch.Tensor) -> torch.Tensor:
    """The coordinates that the log-determinant is taken in."""
    if constraint.event_dim == 2:
        is_fixed = type(constraint).__name__ in ("_CorrCholesky", "_CorrMatrix", "_UnitLowerCholesky")
        return read_triangle(y, -1 if is_fixed else 0)
    return y[:-1] if isinstance(constraint, type(constraints.simplex)) else y.reshape(-1)


@entries
def test_log_det_equals_that_of_the_jacobian(constraint: Any, bijective: Any, onto: Any) -> None:
    transform, x = biject_to(constraint), unconstrained(bijective)
    got = transform.log_abs_det_jacobian(x, transform(x)).sum()
    jacobian = torch.autograd.functional.jacobian(lambda u: free_entries(constraint, transform(u)), x)
    matrix = jacobian.reshape(-1, x.numel())
    # On the sphere the map is into one dimension more: the volume is that of the Gram matrix.
    expected = 0.5 * torch.linalg.slogdet(matrix.mT @ matrix).logabsdet
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8)


@entries
def test_transforms_trace(constraint: Any, bijective: Any, onto: Any) -> None:
    transform, x = biject_to(constraint), unconstrained(bijective)

    def both(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = transform(u)
        return y, transform.log_abs_det_jacobian(u, y)

    for got, wanted in zip(make_fx(both)(x)(x), both(x), strict=True):
        assert torch.equal(got, wanted)


@entries
def test_constraints_are_equal_by_value_after_pickling(constraint: Any, bijective: Any, onto: Any) -> None:
    for again in (pickle.loads(pickle.dumps(constraint)), copy.deepcopy(constraint)):
        assert same_constraint(constraint, again)
        assert not same_constraint(constraint, constraints.one_hot)
        x = unconstrained(bijective)
        assert torch.equal(biject_to(again)(x), biject_to(constraint)(x))


@entries
def test_transforms_survive_pickling(constraint: Any, bijective: Any, onto: Any) -> None:
    transform, x = biject_to(constraint), unconstrained(bijective)
    again = pickle.loads(pickle.dumps(transform))
    assert torch.equal(again(x), transform(x))


def test_softplus_inverse_is_finite_and_exact() -> None:
    y = torch.tensor([1e-300, 1e-20, 1.0, 40.0, 1000.0, 1e300], dtype=torch.float64)
    x = transforms.SoftplusTransform().inv(y)
    assert bool(x.isfinite().all())
    assert float(x[4]) == 1000.0
    # exp(x) of x = -690 has an error of 690 units in the last place
    torch.testing.assert_close(transforms.SoftplusTransform()(x), y, rtol=1e-13, atol=0.0)


def test_softplus_keeps_its_digits_above_twenty() -> None:
    x = torch.tensor(21.0, dtype=torch.float64)
    assert float(transforms.SoftplusTransform()(x) - x) == pytest.approx(math.exp(-21), rel=1e-5)


def test_corr_cholesky_inverse_near_the_border() -> None:
    x = torch.tensor([8.0], dtype=torch.float64)
    t = transforms.CorrCholeskyTransform()
    torch.testing.assert_close(t.inv(t(x)), x, rtol=1e-7, atol=0.0)


def test_constraints_of_another_value_differ() -> None:
    assert not same_constraint(constraints.interval(0.0, 1.0), constraints.interval(0.0, 2.0))
    assert constraints.left_open_interval(0.0, 1.0) == constraints.left_open_interval(0.0, 1.0)
    assert constraints.ordered != constraints.positive_ordered


@pytest.mark.parametrize(
    ("constraint", "bad"),
    [
        (constraints.integer, torch.tensor(0.5)),
        (constraints.left_open_interval(0.0, 1.0), torch.tensor(0.0)),
        (constraints.ordered, torch.tensor([1.0, 1.0])),
        (constraints.positive_ordered, torch.tensor([-1.0, 1.0])),
        (constraints.sphere, torch.tensor([1.0, 1.0])),
        (constraints.corr_matrix, torch.tensor([[1.0, 2.0], [2.0, 1.0]])),
        (constraints.unit_lower_cholesky, torch.tensor([[1.0, 0.0], [2.0, 2.0]])),
        (constraints.softplus_lower_cholesky, torch.tensor([[-1.0, 0.0], [2.0, 2.0]])),
        (constraints.ordered, torch.tensor([1.0, float("nan")])),
    ],
)
def test_constraint_refuses(constraint: Any, bad: torch.Tensor) -> None:
    assert not bool(constraint.check(bad))


def test_permute_is_inverted() -> None:
    t, x = transforms.Permute(torch.tensor([2, 0, 1])), torch.randn(4, 3)
    assert torch.equal(t.inv(t(x)), x)
    assert t == transforms.Permute(torch.tensor([2, 0, 1]))
    assert t.log_abs_det_jacobian(x, t(x)).tolist() == [0.0] * 4


def test_lower_cholesky_affine_is_inverted() -> None:
    tril = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    t, x = transforms.LowerCholeskyAffine(torch.ones(2), tril), torch.randn(4, 2)
    torch.testing.assert_close(t.inv(t(x)), x)
    torch.testing.assert_close(t.log_abs_det_jacobian(x, t(x)), torch.full((4,), math.log(6.0)))
