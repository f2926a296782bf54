from __future__ import annotations

import concurrent.futures
import logging
import random
import threading
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import distributions as td

from brancher.errors import BrancherWarning
from brancher.staging import Staged, StagingError, stage
from brancher.staging.emitting import native

Tensor = torch.Tensor
pytestmark = pytest.mark.usefixtures("compiler")


def _adam_step(params: dict[str, Tensor], moment: dict[str, Tensor], data: Tensor) -> tuple[object, ...]:
    """A whole optimizer step: draw, loss, gradient, update."""
    with torch.enable_grad():
        leaves = {k: v.detach().requires_grad_() for k, v in params.items()}
        guide = td.Normal(leaves["loc"], leaves["scale"].exp(), validate_args=False)
        z = guide.rsample()
        loss = guide.log_prob(z).sum() - td.Normal(z, 2.0, validate_args=False).log_prob(data).sum()
        gradients = torch.autograd.grad(loss, list(leaves.values()))
    moment = {k: 0.9 * moment[k] + g for k, g in zip(params, gradients, strict=True)}
    return {k: v - 0.01 * moment[k] for k, v in params.items()}, moment, loss


def _state() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    zeros = {"loc": torch.zeros(3), "scale": torch.zeros(3)}
    return zeros, {k: v.clone() for k, v in zeros.items()}


def test_step_with_gradient_and_draws_equals_eager() -> None:
    staged = stage(_adam_step)
    data = torch.tensor([1.0, 2.0, 3.0])
    args = (*_state(), data)
    for _ in range(2):
        seed = torch.get_rng_state()
        got = staged(*args)
        after = torch.get_rng_state()
        torch.set_rng_state(seed)
        expected = staged.eager(*args)
        # float32 to rounding: the fused kernel adds in another order.
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
        assert torch.equal(after, torch.get_rng_state())
    assert (staged.counters.traces, staged.counters.compiles + staged.counters.loads) == (1, 1)


_FAMILIES = {
    "Normal": lambda c: td.Normal(c, 1.0, validate_args=False).rsample(),
    "Gamma": lambda c: td.Gamma(c, 1.0, validate_args=False).rsample(),
    "Beta": lambda c: td.Beta(c, c, validate_args=False).rsample(),
    "Dirichlet": lambda c: td.Dirichlet(c, validate_args=False).rsample(),
    "Categorical": lambda c: td.Categorical(c, validate_args=False).sample((3,)),
    "Poisson": lambda c: td.Poisson(c, validate_args=False).sample(),
    "Bernoulli": lambda c: td.Bernoulli(c / 10, validate_args=False).sample(),
    "Exponential": lambda c: td.Exponential(c, validate_args=False).rsample(),
    "rand": lambda c: torch.rand_like(c),
    "randint": lambda c: torch.randint(0, 9, (4,)),
    "randperm": lambda c: torch.randperm(7),
    "dropout": lambda c: torch.nn.functional.dropout(c, 0.5, training=True),
}


def test_draws_follow_the_seed_as_in_eager() -> None:
    def draw_all(concentration: Tensor) -> dict[str, Tensor]:
        torch.rand(2)  # drawn and not used: later draws must not move
        return {name: draw(concentration) for name, draw in _FAMILIES.items()}

    staged = stage(draw_all)
    concentration = torch.tensor([0.5, 1.5, 4.0])
    torch.manual_seed(1)
    got = staged(concentration)
    torch.manual_seed(1)
    expected = draw_all(concentration)
    # Draws are bit-equal; Gamma and Beta divide in another order.
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)


def test_cache_key_sees_shape_dtype_constant_structure_and_grad() -> None:
    traced: list[object] = []

    def scale(x: Tensor, by: float, extra: object) -> Tensor:
        traced.append((x.shape, x.dtype, by))
        return x.sum() * by

    staged = Staged(scale, mode=True)
    staged._make = lambda args, tensors, structure: traced.append(args) or _Fake(args)  # type: ignore[method-assign,assignment,func-returns-value,return-value]
    calls = [
        (torch.zeros(2), 2.0, ()),
        (torch.zeros(3), 2.0, ()),
        (torch.zeros(2, dtype=torch.float64), 2.0, ()),
        (torch.zeros(2), 3.0, ()),
        (torch.zeros(2), 2, ()),
        (torch.zeros(2), 2.0, []),
        (torch.zeros(2, requires_grad=True), 2.0, ()),
        (torch.zeros(4)[::2], 2.0, ()),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrancherWarning)
        for call in (*calls, *calls):
            staged.plan(*call)
    assert len(traced) == len(calls)


class _Fake:
    """A plan that fits whatever it is asked for: the key alone decides."""

    def __init__(self, args: object) -> None:
        self.compiled = type("Compiled", (), {"loaded": False})
        self.changed: list[Tensor] = []

    def fits(self, tensors: object) -> bool:
        return True


def test_python_constant_is_never_stale() -> None:
    staged = stage(lambda x, by: x * by)
    x = torch.tensor(2.0)
    assert [float(staged(x, by)) for by in (3.0, 5.0, 3.0)] == [6.0, 10.0, 6.0]
    assert staged.counters.traces == 2


def test_captured_tensor_is_read_again_at_every_call() -> None:
    weight = torch.ones(3)
    staged = stage(lambda x: (x * weight).sum())
    x = torch.arange(3.0)
    assert float(staged(x)) == 3.0
    weight.fill_(2.0)
    assert float(staged(x)) == 6.0
    assert [t is weight for t in staged.captured_tensors] == [True]
    assert staged.counters.traces == 1


def test_module_buffers_are_written_back() -> None:
    def networks() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))

    ours, reference = networks(), networks()
    staged = stage(lambda module, x: module(x).sum(0))
    x = torch.randn(5, 2)
    for _ in range(2):
        torch.testing.assert_close(staged(ours, x), reference(x).sum(0).detach(), rtol=1e-4, atol=1e-5)
    for name, buffer in ours.named_buffers():
        torch.testing.assert_close(buffer, dict(reference.named_buffers())[name])
    assert staged.counters.traces == 1
    changed = [id(t) for t in staged.changed_tensors]
    assert sorted(changed) == sorted(id(buffer) for buffer in ours.buffers())


def test_results_share_memory_with_nothing() -> None:
    def views(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        total = x + y
        y.add_(1.0)
        return x, x.view(2, 2), total, total, total[0], y

    staged = stage(views)
    x, y = torch.arange(4.0), torch.ones(4)
    for repeat in (1.0, 2.0):
        results = staged(x, y)
        assert torch.equal(y, torch.full((4,), repeat + 1))
        assert torch.equal(results[5], y)
        memory = [t.untyped_storage().data_ptr() for t in (x, y, *results)]
        assert len(set(memory)) == len(memory)
        assert not any(t.requires_grad for t in results)


def test_data_dependent_branch_falls_back_and_names_file_and_line() -> None:
    def relu(x: Tensor) -> Tensor:
        if x.sum() > 0:  # the line that is named
            return x
        return torch.zeros_like(x)

    staged = stage(relu)
    line = relu.__code__.co_firstlineno + 1
    with pytest.warns(
        BrancherWarning, match=rf"relu.*test_staged\.py:{line} \(`if x\.sum\(\) > 0:.*torch\.where"
    ):
        assert torch.equal(staged(torch.ones(2)), torch.ones(2))
    assert torch.equal(staged(-torch.ones(2)), torch.zeros(2))  # and no second warning
    assert staged.counters.fallbacks == 1
    assert staged.error is not None
    assert (staged.error.reason, staged.error.lineno) == ("data", line)


_READERS = [float, bool, lambda x: torch.tensor(x.item()), lambda x: x.numpy().sum(), lambda x: x.tolist()]


@pytest.mark.parametrize("read", _READERS)
def test_reading_a_value_is_reported_as_data(read: Callable[[Tensor], object]) -> None:
    heard: list[StagingError] = []
    staged = stage(lambda x: x * 2 + torch.as_tensor(read(x)), on_fallback=heard.append)
    staged(torch.tensor(3.0))
    assert [error.reason for error in heard] == ["data"]


@pytest.mark.parametrize("read", _READERS)
def test_value_of_a_captured_tensor_is_never_burned_in(read: Callable[[Tensor], object]) -> None:
    outside = torch.tensor(2.0)
    with pytest.raises(StagingError, match="tensor's (value|memory)"):
        stage(lambda x: x * torch.as_tensor(read(outside))).plan(torch.tensor(1.0))


def test_setting_the_seed_inside_is_refused() -> None:
    def seeded(x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return x + torch.rand(1)

    torch.manual_seed(0)
    state = torch.get_rng_state()
    with pytest.raises(StagingError, match="sets the seed"):
        stage(seeded).plan(torch.zeros(1))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("draw", "whose"),
    [(random.random, "Python's"), (np.random.rand, "numpy's"), (np.random.randn, "numpy's")],
)
def test_random_numbers_that_are_not_torchs_are_refused(draw: Callable[[], float], whose: str) -> None:
    staged = stage(lambda x: x + draw())
    with pytest.warns(BrancherWarning, match=f"expected torch's random numbers, got {whose} too"):
        first = staged(torch.tensor(0.0))
    assert not torch.equal(staged(torch.tensor(0.0)), first)


def test_recording_draws_nothing() -> None:
    before = random.getstate(), repr(np.random.get_state(legacy=False)), torch.get_rng_state()
    with pytest.raises(StagingError):
        stage(lambda x: x + random.random() + np.random.rand() + torch.rand(())).plan(torch.tensor(0.0))
    assert (random.getstate(), repr(np.random.get_state(legacy=False))) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_generator_of_ones_own_is_refused() -> None:
    generator = torch.Generator().manual_seed(0)
    staged = stage(lambda x: x + torch.randn(2, generator=generator))
    with pytest.warns(BrancherWarning, match=r"global generator, got one of your own in aten"):
        first = staged(torch.zeros(2))
    assert not torch.equal(staged(torch.zeros(2)), first)


def test_what_does_not_trace_is_told_by_the_warning_alone(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("torch._subclasses.fake_tensor")
    log.addHandler(caplog.handler)
    try:
        with pytest.raises(StagingError, match="expected dtype"):
            stage(lambda x: torch.lerp(x, x.double(), 0.5)).plan(torch.zeros(2))
    finally:
        log.removeHandler(caplog.handler)
    assert not caplog.records


def test_another_thread_may_draw_while_one_records() -> None:
    drawn: list[Tensor] = []

    def function(x: Tensor) -> Tensor:
        other = threading.Thread(target=lambda: drawn.append(torch.rand(3)))
        other.start()
        other.join()
        return x + torch.rand(3)

    for _ in range(2):
        stage(function).plan(torch.zeros(3))
    assert not torch.equal(drawn[0], drawn[1])  # no number is given twice


def test_many_threads_record_at_once() -> None:
    def work(power: int) -> tuple[Tensor, int]:
        module = torch.nn.Linear(2, 2)
        with torch.no_grad():
            module.weight.copy_(torch.eye(2))
            module.bias.zero_()
        staged = stage(lambda x: module(x).pow(power).sum())
        return staged(torch.tensor([1.0, 2.0])), staged.counters.fallbacks

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        results = list(pool.map(work, range(1, 7)))
    assert [(float(value), fallbacks) for value, fallbacks in results] == [
        (1.0 + 2.0**power, 0) for power in range(1, 7)
    ]


def test_error_of_the_function_itself_comes_through() -> None:
    def broken(x: Tensor) -> Tensor:
        raise KeyError("site")

    staged = stage(broken)
    with pytest.raises(KeyError, match="site"):
        staged(torch.zeros(1))
    assert staged.counters.fallbacks == 0


def test_unhashable_argument_falls_back_with_one_warning() -> None:
    staged = stage(lambda x, names: x * len(names))
    with pytest.warns(BrancherWarning, match=r"argument\[1\]: expected a tensor.*got set"):
        assert float(staged(torch.tensor(2.0), {1, 2})) == 4.0
    assert float(staged(torch.tensor(2.0), {1, 2})) == 4.0


_CONJUGATE = torch.tensor([1.0 + 2.0j]).conj()


@pytest.mark.parametrize(
    ("odd", "kind"),
    [
        (torch.ones(1).to_sparse(), "sparse_coo"),
        (_CONJUGATE.imag, "negates"),
        (_CONJUGATE, "conjugates"),
    ],
)
def test_tensor_that_is_not_what_lies_in_memory_is_refused(odd: Tensor, kind: str) -> None:
    with pytest.raises(StagingError, match=rf"argument\[0\]: expected a dense tensor.*{kind}"):
        stage(lambda x: x * 2).plan(odd)
    with pytest.raises(StagingError, match=rf"of shape \(1,\) from outside: expected a dense tensor.*{kind}"):
        stage(lambda x: (x * odd).sum()).plan(torch.ones(1))
    with pytest.warns(BrancherWarning, match=kind):
        assert torch.equal(stage(lambda x: x + x)(odd).to_dense(), (odd + odd).to_dense())


def test_no_compiler_runs_eagerly_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "compiler", lambda: None)
    monkeypatch.setattr("brancher.staging.staged._told_once", set())
    first, second = stage(lambda x: x + 1), stage(lambda x: x + 2)
    with pytest.warns(BrancherWarning, match="expected a C\\+\\+ compiler, got none") as told:
        assert float(first(torch.tensor(1.0))) == 2.0
        assert float(first(torch.tensor(1.0))) == 2.0
        assert float(second(torch.tensor(1.0))) == 3.0
    assert len(told) == 1


def test_mode_false_never_traces() -> None:
    staged = stage(lambda x: x + 1, mode=False)
    assert float(staged(torch.tensor(1.0))) == 2.0
    assert staged.counters.traces == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, raised in the compiling thread
def test_mode_auto_runs_eagerly_until_compiled() -> None:
    staged = stage(lambda x: x.sin() + 1, mode="auto")
    x = torch.tensor(1.0)
    first = staged(x)
    staged.prepare_async(x).result(timeout=120)
    torch.testing.assert_close(staged(x), first)
    assert (staged.counters.traces, staged.counters.fallbacks) == (1, 0)
    staged.prepare_async(x).result(timeout=1)
    assert staged.counters.traces == 1  # it is known, and not recorded again
    assert staged.plan(x).take((x,)) is not None


def test_grad_mode_and_default_dtype_are_part_of_the_key() -> None:
    staged = stage(lambda x: x + torch.ones(2))
    x = torch.zeros(2)
    plan = staged.plan(x)
    assert plan.take((x,)) is not None
    with torch.no_grad():
        assert plan.take((x,)) is None
    torch.set_default_dtype(torch.float64)
    try:
        assert staged(x).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert staged(x).dtype == torch.float32


def test_distribution_validation_stays_on() -> None:
    stage(lambda x: x + 1)(torch.zeros(1))
    with pytest.raises(ValueError, match="scale"):
        td.Normal(0.0, -1.0)


def test_gradient_of_module_parameters_from_a_closure() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))

    def gradients(x: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(net(x).square().sum(), list(net.parameters()))

    staged = stage(gradients)
    x = torch.randn(4, 2)
    for _ in range(2):
        torch.testing.assert_close(staged(x), gradients(x), rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(2.0)
    assert len(staged.captured_tensors) == 4
    assert staged.counters.traces == 1


def test_resized_captured_tensor_is_traced_again() -> None:
    outside = torch.ones(2)
    staged = stage(lambda x: x + outside.sum())
    assert float(staged(torch.tensor(0.0))) == 2.0
    outside.resize_(3).fill_(1.0)
    assert float(staged(torch.tensor(0.0))) == 3.0
    assert staged.counters.traces == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, raised in the compiling thread
def test_compiling_beside_takes_no_draws_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRANCHER_CACHE_DIR", "")
    staged = stage(lambda x: (x.sin() + torch.randn(3)).cumsum(0), mode="auto")
    future = staged.prepare_async(torch.ones(3))
    draws = []
    while not future.done():
        draws.append(float(torch.rand((), dtype=torch.float64)))
    assert len(set(draws)) == len(draws) > 100
