"""Every way to run a model, and what must hold when one refuses.

Checks call ``pytest.fail`` instead of ``assert``: they count under ``python -O`` as well.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from brancher import clear_param_store, get_param_store, handlers, optim, param, sample
from brancher import distributions as dist
from brancher.distributions.validation import is_validating
from brancher.errors import BrancherError, BrancherWarning, NonFiniteError
from brancher.handlers import stack
from brancher.infer import (
    SVI,
    Importance,
    Predictive,
    Trace_ELBO,
    TraceMeanField_ELBO,
    log_likelihood,
)
from brancher.infer.autoguide import AutoDelta, AutoNormal
from brancher.params.scope import OPEN_STORES, STAND_INS
from brancher.staging import compiled
from brancher.staging.graph import purify

BUILTINS = (TypeError, KeyError, IndexError, ValueError, RuntimeError, NotImplementedError, OSError)


@dataclass
class Setup:
    """What a way is given: a model, a guide for its latents, and arguments that are fine."""

    model: Callable[..., Any]
    guide: Callable[..., Any]
    latents: dict[str, tuple[int, ...]]
    good: tuple[Any, ...] | None
    optimizers: list[Any] = field(default_factory=list)

    def optimizer(self) -> Any:
        self.optimizers.append(optim.Adam({"lr": 0.01}))
        return self.optimizers[-1]

    def draws(self) -> dict[str, torch.Tensor]:
        return {name: torch.full((3, *shape), 0.5) for name, shape in self.latents.items()}


def by_hand(latents: dict[str, tuple[int, ...]]) -> Callable[..., None]:
    def guide(*args: Any, **kwargs: Any) -> None:
        for name, shape in latents.items():
            sample(name, dist.Normal(param(f"{name}_loc", torch.zeros(shape)), 1.0).to_event(len(shape)))

    return guide


def stepped(setup: Setup, guide: Any, **options: Any) -> Callable[..., Any]:
    svi = SVI(setup.model, guide, setup.optimizer(), **options)
    if setup.good is not None:
        for _ in range(2):
            svi.step(*setup.good)
    return svi.step


def bound(setup: Setup, elbo: Any) -> Callable[..., Any]:
    if setup.good is not None:
        elbo.loss(setup.model, setup.guide, *setup.good)
    return lambda *args: elbo.loss(setup.model, setup.guide, *args)


def chains(setup: Setup) -> Callable[..., Any]:
    from brancher.infer.mcmc import MCMC, NUTS

    kernel = NUTS(setup.model)
    return MCMC(kernel, num_samples=2, warmup_steps=2, compile=False, progress=False).run


#: Name of a way -> from a setup to a function of the model's arguments.
WAYS: dict[str, Callable[[Setup], Callable[..., Any]]] = {
    "trace": lambda s: lambda *args: handlers.trace(s.model).get_trace(*args).log_prob_sum(),
    "svi": lambda s: stepped(s, s.guide, compile=False),
    "svi compiled": lambda s: stepped(s, s.guide, compile=True),
    "svi autoguide": lambda s: stepped(s, AutoNormal(s.model), compile=False),
    "svi particles": lambda s: stepped(s, s.guide, loss=Trace_ELBO(num_particles=3), compile=False),
    "elbo": lambda s: bound(s, Trace_ELBO()),
    "mean field": lambda s: bound(s, TraceMeanField_ELBO()),
    "looped particles": lambda s: bound(s, Trace_ELBO(num_particles=2, vectorize_particles=False)),
    "predictive prior": lambda s: Predictive(s.model, num_samples=3),
    "predictive loop": lambda s: Predictive(s.model, num_samples=3, parallel=False),
    "predictive guide": lambda s: Predictive(s.model, guide=s.guide, num_samples=3),
    "predictive posterior": lambda s: Predictive(s.model, s.draws() or None, num_samples=3),
    "importance prior": lambda s: Importance(s.model, num_samples=3).run,
    "importance guide": lambda s: Importance(s.model, s.guide, num_samples=3).run,
    "log likelihood": lambda s: lambda *args: log_likelihood(s.model, s.draws(), *args),
    "normal guide": lambda s: AutoNormal(s.model).setup,
    "delta guide": lambda s: AutoDelta(s.model).setup,
    "nuts": chains,
}

#: Sets of ways that tests name: those that run the guide given, those that score nothing, all that train.
GROUPS = {
    "guided": (
        "svi",
        "svi compiled",
        "svi particles",
        "elbo",
        "mean field",
        "looped particles",
        "importance guide",
    ),
    "unscored": (
        "predictive prior",
        "predictive loop",
        "predictive guide",
        "predictive posterior",
        "normal guide",
        "delta guide",
    ),
    "training": ("svi", "svi compiled", "svi autoguide", "svi particles"),
}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty store, a known random state, and compiled steps that are recorded but not compiled."""

    def interpret(traced: Any, tensors: Any, name: str) -> Any:
        pure = purify(traced, tensors)

        def run(inputs: Any) -> Any:
            with torch.no_grad():
                return list(pure.graph(*[t.detach() for t in inputs]))

        return compiled.Compiled(run, pure.outputs, pure.writes, pure.changed, None, False)

    monkeypatch.setattr("brancher.staging.plan.compile_graph", interpret)
    clear_param_store()
    torch.manual_seed(0)
    yield
    clear_param_store()
    stack._STACK.set(())


class Snapshot:
    """All that a refused call must leave alone."""

    def __init__(self, setup: Setup | None = None) -> None:
        store = get_param_store()
        self.scopes = (stack.current(), OPEN_STORES.get(), STAND_INS.get(), is_validating())
        self.modes = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype())
        self.values = {name: store[name].detach().clone() for name in store}
        self.constraints = {name: store.constraint(name) for name in store}
        self.leaves = {name: store.leaf(name) for name in store}
        self.grads = {name: _copy(leaf.grad) for name, leaf in self.leaves.items()}
        self.optimizers = [copy.deepcopy(o.state_dict()) for o in (setup.optimizers if setup else [])]
        self.rng = torch.get_rng_state()

    def differences(self, after: Snapshot) -> list[str]:
        names = ("scopes", "modes", "constraints")
        found = [name for name in names if getattr(self, name) != getattr(after, name)]
        found += [
            name
            for name in ("values", "grads", "optimizers")
            if not _equal(getattr(self, name), getattr(after, name))
        ]
        if [id(v) for v in self.leaves.values()] != [id(v) for v in after.leaves.values()]:
            found.append("leaves")
        if not torch.equal(self.rng, after.rng):
            found.append("random state")
        return found


def _copy(value: torch.Tensor | None) -> torch.Tensor | None:
    return None if value is None else value.clone()


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)


def check_error(error: BaseException, kind: type, builtin: type, words: tuple[str, ...]) -> None:
    """Check type, builtin type and text of an error."""
    if not isinstance(error, kind) or not isinstance(error, BrancherError):
        pytest.fail(f"expected {kind.__name__}, got {type(error).__name__}: {error}")
    if not isinstance(error, builtin):
        pytest.fail(f"expected a {builtin.__name__}, got {type(error).__mro__}")
    missing = [word for word in words if word not in str(error)]
    if missing:
        pytest.fail(f"expected {missing} in: {error}")


def refuses(
    act: Callable[[], Any],
    kind: type[BaseException],
    builtin: type[BaseException],
    *words: str,
    setup: Setup | None = None,
    drawn: bool = False,
) -> str:
    """Check that ``act`` raises as it must and leaves everything as it was; returns the text.

    ``drawn`` allows the random state to have moved: the error could not be known before.
    """
    before = Snapshot(setup)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BrancherWarning)
            act()
    except BaseException as error:
        check_error(error, kind, builtin, words)
        text = str(error)
        del error
    else:
        pytest.fail(f"expected {kind.__name__}, got no error")
    differ = [name for name in before.differences(Snapshot(setup)) if not (drawn and name == "random state")]
    if differ:
        pytest.fail(f"changed by the refused call: {differ} ({text})")
    return text


@dataclass
class Runner:
    """One way to run models, as tests use it."""

    name: str

    def prepare(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any] | None = None,
        latents: dict[str, tuple[int, ...]] | None = None,
        good: tuple[Any, ...] | None = None,
    ) -> tuple[Setup, Callable[..., Any]]:
        latents = latents or {}
        setup = Setup(model, guide or by_hand(latents), latents, good)
        return setup, WAYS[self.name](setup)

    def refuses(
        self,
        model: Callable[..., Any],
        kind: type[BaseException],
        builtin: type[BaseException],
        *words: str,
        args: tuple[Any, ...] = (),
        drawn: bool = False,
        **given: Any,
    ) -> str:
        """Check that running the model this way is refused, and that nothing has changed."""
        setup, act = self.prepare(model, **given)
        # A step puts the random state back, but for a loss that is not finite: the next one draws afresh.
        moved = drawn and (self.name not in GROUPS["training"] or issubclass(kind, NonFiniteError))
        return refuses(lambda: act(*args), kind, builtin, *words, setup=setup, drawn=moved)

    def warns(self, model: Callable[..., Any], *words: str, args: tuple[Any, ...] = (), **given: Any) -> None:
        """Check that running the model this way warns once with these words."""
        _, act = self.prepare(model, **given)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            act(*args)
        # As Python's own filter does, a warning with the same text is counted once.
        texts = {str(w.message) for w in caught if isinstance(w.message, BrancherWarning)}
        hits = [text for text in texts if all(word in text for word in words)]
        if len(hits) != 1:
            pytest.fail(f"expected one warning with {words}, got {texts}")

    def runs(self, model: Callable[..., Any], args: tuple[Any, ...] = (), **given: Any) -> Any:
        """Run the model this way."""
        return self.prepare(model, **given)[1](*args)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that asks for ``way`` every way, or those its mark ``ways`` names."""
    if "way" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("ways")
        names = _members(mark.args) if mark and mark.args else list(WAYS)
        left_out = _members(mark.kwargs.get("but", ())) if mark else []
        chosen = [Runner(name) for name in names if name not in left_out]
        metafunc.parametrize("way", chosen, ids=[runner.name.replace(" ", "_") for runner in chosen])


def _members(names: Iterable[str]) -> list[str]:
    return [member for name in names for member in GROUPS.get(name, (name,))]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ways(*names, but=()): the ways to run a model that a test covers")


@pytest.fixture(name="refuses")
def refuses_fixture() -> Callable[..., str]:
    """:func:`refuses`, for calls that are no way to run a model."""
    return refuses
