from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.fx import GraphModule

from brancher.staging.graph import purify, record

Tensor = torch.Tensor
_aten = torch.ops.aten


def simplified(function: Callable[..., object], *args: Tensor) -> GraphModule:
    return purify(record(function, args, "f"), list(args)).graph


def count(graph: GraphModule, *targets: object) -> int:
    return sum(node.target in targets for node in graph.graph.nodes)


def split_and_join(x: Tensor) -> Tensor:
    first, second = x.split([1, 2])
    return torch.cat([first.view([]).reshape(1), second.reshape(2)]).exp()


def test_split_and_joined_tensor_is_the_tensor() -> None:
    graph = simplified(split_and_join, torch.zeros(3))
    assert count(graph, _aten.cat.default, _aten.split_with_sizes.default) == 0


def test_neighbouring_pieces_are_joined() -> None:
    def f(x: Tensor) -> Tensor:
        a, b, _ = x.split([1, 2, 3])
        return torch.cat([a, b])

    graph = simplified(f, torch.zeros(6))
    assert count(graph, _aten.cat.default) == 0


def test_scalars_are_added_one_by_one() -> None:
    graph = simplified(lambda a, b, c: torch.stack([a, b, c]).sum(), *torch.ones(3).unbind())
    assert count(graph, _aten.cat.default, _aten.sum.default) == 0
    assert count(graph, _aten.add.Tensor) == 2


def test_equal_computations_are_done_once() -> None:
    graph = simplified(lambda x: (x.exp() + 1, x.exp() * 2), torch.zeros(3))
    assert count(graph, _aten.exp.default) == 1


def test_equal_draws_stay_two() -> None:
    graph = simplified(lambda x: torch.randn(3) + torch.randn(3) + x, torch.zeros(3))
    names = [str(node.target) for node in graph.graph.nodes]
    assert sum("randn" in name or "normal" in name for name in names) == 2


def test_zeros_of_both_signs_differ() -> None:
    graph = simplified(lambda x: (torch.full_like(x, 0.0), torch.full_like(x, -0.0)), torch.zeros(3))
    first, second = graph(torch.ones(3))[:2]
    assert not torch.signbit(first).any() and torch.signbit(second).all()


CASES: dict[str, tuple[Callable[..., object], tuple[Tensor, ...]]] = {
    "split and join": (split_and_join, (torch.randn(3),)),
    "swapped": (lambda x: torch.cat([x[2:], x[:2]]), (torch.randn(5),)),
    "apart": (lambda x: torch.cat([x[:2], x[3:]]), (torch.randn(5),)),
    "twice": (lambda x: torch.cat([x, x]), (torch.randn(2),)),
    "last dimension": (
        lambda x: torch.cat([p.exp() for p in x.split([1, 2], -1)] + list(x.split([1, 2], -1)), -1),
        (torch.randn(4, 3),),
    ),
    "other dimension": (lambda x: torch.cat(list(x.split([1, 3], 1)), 1), (torch.randn(4, 4),)),
    "split rows, join columns": (lambda x: torch.cat(list(x.split(2, 0)), 1), (torch.randn(4, 3),)),
    "part of a join": (lambda a, b: torch.cat([a, b])[2:5] + torch.cat([a, b])[:3].sum(), torch.randn(2, 3)),
    "transposed view": (lambda x: x.t().reshape(-1).reshape(3, 4) * 2, (torch.randn(4, 3),)),
    "strided slice": (lambda x: torch.cat([x[::2], x[1::2]]), (torch.randn(6),)),
    "negative index": (lambda x: torch.cat([x[-2:-1], x[-1:]]), (torch.randn(6),)),
    "empty piece": (lambda x: torch.cat([x[:0], x]), (torch.randn(3),)),
    "integers": (lambda x: torch.stack([x[0], x[1]]).sum(), (torch.tensor([2, 3], dtype=torch.int32),)),
    "uniform": (lambda x: torch.cat([torch.ones(2), torch.ones(3)]) * x, (torch.randn(5),)),
    "sign": (lambda x: -torch.ones(5) * x * 1.0, (torch.randn(5),)),
    "promoted": (lambda x: x * torch.ones(3, dtype=torch.float64), (torch.randn(3),)),
    "broadcast": (lambda x: x * torch.ones(2, 3), (torch.randn(3),)),
    "joined again": (
        lambda x: torch.cat([torch.cat([x.exp(), x.sin()]) * 2, x.exp(), x.sin()]),
        (torch.randn(3),),
    ),
    "input back": (lambda x: (x.view(3, 2).view(6), x[:6]), (torch.randn(6),)),
}


@pytest.mark.parametrize("case", CASES)
def test_values_stay(case: str) -> None:
    function, args = CASES[case]
    args = tuple(args)
    expected = function(*args)
    expected = expected if isinstance(expected, tuple) else (expected,)
    graph = simplified(function, *args)
    for got, wanted in zip(graph(*args), expected, strict=False):
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)


def test_gradient_of_flat_parameters_joins_once() -> None:
    def step(flat: Tensor) -> Tensor:
        leaf = flat.detach().requires_grad_()
        a, b = leaf.split([1, 3])
        loss = a.view([]).exp() + (torch.cat([a, b]) ** 2).sum()
        (grad,) = torch.autograd.grad(loss, leaf)
        return flat - 0.1 * grad

    with torch.enable_grad():
        graph = simplified(step, torch.ones(4))
    torch.testing.assert_close(graph(torch.ones(4))[0], step(torch.ones(4)))
    assert count(graph, _aten.cat.default) <= 1


def test_both_outcomes_of_a_logit_share_their_exponential() -> None:
    def f(x: Tensor) -> Tensor:
        return torch.nn.functional.logsigmoid(x) + 2.0 * torch.nn.functional.logsigmoid(-x)

    graph = simplified(f, torch.zeros(3))
    assert count(graph, _aten.exp.default) == count(graph, _aten.log1p.default) == 1
    x = torch.tensor([-3.0, 0.5, 80.0])
    torch.testing.assert_close(graph(x)[0], f(x))


def test_repeated_entries_are_computed_once() -> None:
    def f(x: Tensor, scale: Tensor) -> Tensor:
        wide = scale.expand(1000)
        return (-0.5 * (x / wide) ** 2 - wide.log()).sum()

    args = torch.randn(1000), torch.tensor(2.0)
    graph = simplified(f, *args)
    (log,) = [node for node in graph.graph.nodes if node.target is _aten.log.default]
    assert log.meta["val"].shape == ()
    torch.testing.assert_close(graph(*args)[0], f(*args))


def test_repeated_entries_beside_numbers_and_masks_are_computed_once() -> None:
    def function(a: Tensor, n: Tensor) -> Tensor:
        wide = a.expand(300, 4)
        safe = torch.where(wide > n, wide, 1.0)
        return (safe.log() + wide).sum(0) + n

    a, n = torch.tensor([1.0, 2.0, 3.0, 0.5]), torch.tensor(1.5)
    graph = simplified(function, a, n)
    logs = [node for node in graph.graph.nodes if node.target is torch.ops.aten.log.default]
    assert [tuple(node.meta["val"].shape) for node in logs] == [(4,)]
    torch.testing.assert_close(graph(a, n)[0], function(a, n))


def test_repeated_entries_beside_a_number_of_another_dtype_stay() -> None:
    def function(a: Tensor, n: Tensor) -> Tensor:
        return torch.add(a.expand(300), n).exp().sum()

    a, n = torch.tensor(1.0), torch.tensor(2.0, dtype=torch.float64)
    torch.testing.assert_close(simplified(function, a, n)(a, n)[0], function(a, n))


def test_repeated_entries_that_are_a_result_are_separate() -> None:
    (result,) = simplified(lambda x: x.expand(3).exp(), torch.tensor(2.0))(torch.tensor(2.0))
    assert result.is_contiguous()
    result[0] = 0.0
    assert result[1] > 7.0
