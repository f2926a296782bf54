"""Exceptions, interrupts, threads, tasks and generators: nothing is left behind, nothing is seen."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import sys
import threading
import warnings

import pytest
import torch

from brancher import ParamStore, get_param_store, handlers, optim, param, plate, sample
from brancher import distributions as dist
from brancher.distributions.validation import is_validating
from brancher.handlers import stack
from brancher.infer import SVI, Importance, Predictive, Trace_ELBO, log_likelihood
from brancher.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoMultivariateNormal, AutoNormal
from brancher.params.journal import open_list

Z = {"z": ()}
KINDS = (
    ValueError,
    RuntimeError,
    KeyError,
    MemoryError,
    asyncio.CancelledError,
    KeyboardInterrupt,
    SystemExit,
)


def standard():
    return dist.Normal(0.0, 1.0)


# Exceptions


@pytest.mark.ways(but=["svi compiled", "nuts"])  # runs no Python of the model; refuses subsampled plates
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_exception_in_a_plate_is_as_if_it_never_happened(way, kind):
    boom = {"now": False}

    def model(y):
        z = sample("z", standard())
        with plate("p", 4, subsample_size=2), handlers.scale(scale=2.0):
            param("w", torch.tensor(1.0))
            if boom["now"]:
                raise kind("boom")
            sample("x", dist.Normal(z, 1.0), obs=y)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        setup, act = way.prepare(model, latents=Z, good=(torch.zeros(2),))
        if "guide" in way.name:  # it looks at the model once, and never again
            setup.good = None
            setup, act = way.prepare(model, latents=Z)
        names = list(get_param_store())
        outside = (stack.current(), is_validating(), torch.is_grad_enabled())
        boom["now"] = True
        with pytest.raises(kind, match="boom"):
            act(torch.zeros(2))
        if (stack.current(), is_validating(), torch.is_grad_enabled()) != outside:
            pytest.fail("a handler, validation or gradient mode was left changed")
        if list(get_param_store()) != names:
            pytest.fail(f"declared by the failed call: {list(get_param_store())}")
        boom["now"] = False
        act(torch.zeros(2))


def run_once(kind: str):
    """A call of each algorithm that an interrupt may hit."""

    def model():
        z = sample("z", standard())
        with plate("p", 3):
            sample("x", dist.Normal(z, 1.0), obs=torch.zeros(3))

    def guide():
        sample("z", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))

    elbo = Trace_ELBO(num_particles=2, vectorize_particles=False)
    calls = {
        "loss": lambda: elbo.loss(model, guide),
        "gradients": lambda: Trace_ELBO().loss_and_grads(model, guide),
        "evaluate": lambda: SVI(model, guide, compile=False).evaluate_loss(),
        "predictive": Predictive(model, guide=guide, num_samples=3),
        "importance": Importance(model, guide, num_samples=3).run,
        "log likelihood": lambda: log_likelihood(model, {"z": torch.randn(3)}),
        "guide": lambda: AutoNormal(model)(),
    }
    return calls[kind]


def interrupted(act, moment: int) -> bool:
    """Run ``act`` and raise KeyboardInterrupt at its ``moment``-th line inside the package."""
    count = 0

    def tracer(frame, event, arg):
        nonlocal count
        if f"{os.sep}brancher{os.sep}" not in frame.f_code.co_filename:
            return None
        if event == "line":
            count += 1
            if count == moment:
                sys.settrace(None)
                raise KeyboardInterrupt
        return tracer

    sys.settrace(tracer)
    try:
        act()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


@pytest.mark.parametrize(
    "kind", ["loss", "gradients", "evaluate", "predictive", "importance", "log likelihood", "guide"]
)
def test_interrupt_at_any_moment_leaves_everything_clean(kind):
    act, hit = run_once(kind), 0
    for moment in range(3, 2000, 37):
        hit += interrupted(act, moment)
        left = (stack.current(), is_validating(), torch.is_grad_enabled(), open_list())
        if left != ((), True, True, None):
            pytest.fail(f"left behind at line {moment}: {left}")
    if hit < 10:
        pytest.fail(f"only {hit} interrupts")
    act()


# Threads, tasks, generators, forks


def trained(number: int, steps: int = 20) -> float:
    """Fit a model of its own in a store of its own; the location it comes to."""

    def model():
        z = sample("z", dist.Normal(0.0, 10.0))
        with plate(f"p{number}", 50):
            sample("x", dist.Normal(z, 0.1), obs=torch.full((50,), float(number)))

    def guide():
        sample("z", dist.Normal(param("loc", torch.tensor(float(number))), 0.01))

    store = ParamStore()
    svi = SVI(model, guide, optim.Adam({"lr": 1e-3}), store=store, compile=False)
    for _ in range(steps):
        svi.step()
    return store["loc"].item()


def test_threads_train_apart():
    found: dict[int, float] = {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: trained(n)})) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wrong = {n: loc for n, loc in found.items() if abs(loc - n) > 0.1}
    if len(found) != 4 or wrong or list(get_param_store()):
        pytest.fail(f"found {found}, in the common store {list(get_param_store())}")


def test_handler_is_not_seen_by_another_thread():
    seen = []

    def look():
        seen.append((stack.current(), sample("z", standard()).shape))

    with handlers.scale(scale=2.0), plate("p", 3):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    if seen != [((), torch.Size())]:
        pytest.fail(f"seen {seen}")


def test_tasks_train_apart():
    async def task(number):
        values = []
        with ParamStore(), handlers.condition(data={"c": torch.tensor(float(number))}):
            for _ in range(3):
                await asyncio.sleep(0.001 * number)
                values.append(sample("c", standard()).item())
            values.append(trained(number, 3))
        return values

    async def main():
        return await asyncio.gather(*(task(n) for n in range(1, 4)))

    found = asyncio.run(main())
    if [values[:3] for values in found] != [[n] * 3 for n in (1.0, 2.0, 3.0)]:
        pytest.fail(f"found {found}")


def test_abandoned_generator_disturbs_nobody():
    def rows():
        with plate("p", 3), handlers.scale(scale=7.0):
            yield sample("a", standard())

    def model():
        for _ in rows():
            break
        gc.collect()
        sample("b", standard())

    record = handlers.trace(model).get_trace()
    if record["b"].scale != 1.0 or record["b"].frames:
        pytest.fail(f"scale {record['b'].scale}, plates {record['b'].frames}")


@pytest.mark.parametrize("method", ["process_message", "postprocess_message", "leave"])
def test_error_in_a_handler_leaves_a_clean_stack(method):
    def fail(self, *args):
        raise ValueError("boom")

    broken = type("broken", (handlers.Messenger,), {method: fail})
    with pytest.raises(ValueError, match="boom"), handlers.trace(), broken():
        sample("x", standard())
    if stack.current():
        pytest.fail(f"left behind: {stack.current()}")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_keeps_its_own_handlers():
    with warnings.catch_warnings(), handlers.scale(scale=3.0):
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, where threads are about
        child = os.fork()
        if not child:
            os._exit(
                0 if handlers.trace(lambda: sample("x", standard())).get_trace()["x"].scale == 3.0 else 1
            )
        _, status = os.waitpid(child, 0)
    if status or stack.current():
        pytest.fail(f"child ended with {status}, stack {stack.current()}")


# Copies and memory


@pytest.mark.parametrize("kind", [AutoNormal, AutoDelta, AutoDiagonalNormal, AutoMultivariateNormal])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda guide: pickle.loads(pickle.dumps(guide))])
def test_copy_of_a_guide_keeps_its_values(kind, copied):
    guide = kind(two_sites)
    svi = SVI(two_sites, guide, optim.Adam({"lr": 0.1}), compile=False)
    for _ in range(3):
        svi.step()
    before = guide.median()
    twin = copied(guide)
    svi.step()
    after = {name: value.detach() for name, value in twin.median().items()}
    torch.testing.assert_close(after, {name: value.detach() for name, value in before.items()})


def two_sites():
    a = sample("a", standard())
    sample("b", dist.Gamma(a.exp(), 1.0))


def test_steps_do_not_grow_the_number_of_tensors():
    svi = SVI(two_sites, AutoNormal(two_sites), optim.Adam({"lr": 0.01}), compile=False)

    def live() -> int:
        gc.collect()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    for _ in range(10):
        svi.step()
    before = live()
    for _ in range(300):
        svi.step()
    grown = live() - before
    if grown > 2:
        pytest.fail(f"{grown} tensors more")
