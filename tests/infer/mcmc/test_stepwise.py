"""Kernels of a program's own, which have ``setup`` and ``sample``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from brancher.infer.mcmc.mcmc_kernel import MCMCKernel

import brancher.distributions as dist
from brancher.errors import InferenceError, InferenceTypeError, UnsupportedError
from brancher.infer.mcmc import MCMC
from brancher.infer.mcmc.stepwise import StepwiseMCMC


class Gibbs(MCMCKernel):
    """Draws the two entries of a normal law with a correlation, one given the other."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def setup(self, warmup_steps: int, correlation: float = 0.5) -> None:  # type: ignore[override]
        self.correlation = correlation
        self.calls.append(("setup", warmup_steps))

    def end_warmup(self) -> None:
        self.calls.append("end_warmup")

    def cleanup(self) -> None:
        self.calls.append("cleanup")

    def diagnostics(self) -> dict[str, Any]:
        return {"kind": "exact"}

    def sample(self, params: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        scale = (1 - self.correlation**2) ** 0.5
        a = dist.Normal(self.correlation * params["b"], scale).sample()
        return {"a": a, "b": dist.Normal(self.correlation * a, scale).sample()}


START = {"a": torch.tensor(0.0), "b": torch.tensor(0.0)}


def run(num_chains: int = 1, **options: Any) -> MCMC:
    start = {name: value.expand(num_chains) if num_chains > 1 else value for name, value in START.items()}
    mcmc = MCMC(Gibbs(), 2000, 10, start, num_chains, seed=0, progress=False, **options)
    mcmc.run(0.8)
    return mcmc


def test_draws_have_the_moments_of_the_law() -> None:
    draws = run().get_samples()
    both = torch.stack([draws["a"], draws["b"]])
    # 2,000 draws whose autocorrelation is 0.64: about 440 independent ones, four standard errors.
    torch.testing.assert_close(both.mean(1), torch.zeros(2), atol=0.2, rtol=0)
    torch.testing.assert_close(torch.corrcoef(both)[0, 1], torch.tensor(0.8), atol=0.08, rtol=0)


def test_the_kernel_is_called_in_order_for_each_chain() -> None:
    mcmc = run(num_chains=2)
    assert isinstance(mcmc, StepwiseMCMC)
    assert mcmc.kernel.calls == [("setup", 10), "end_warmup", "cleanup"] * 2
    assert mcmc.get_samples(group_by_chain=True)["a"].shape == (2, 2000)
    table = mcmc.diagnostics()
    assert table["kind"] == {"chain 0": "exact", "chain 1": "exact"}
    assert float(table["a"]["r_hat"]) == pytest.approx(1.0, abs=0.05)
    assert list(mcmc.summary().index) == ["a", "b"] and "2 chains" in str(mcmc)


def test_the_same_seed_gives_the_same_draws_and_leaves_the_generator() -> None:
    before = torch.get_rng_state()
    first, second = run(), run()
    assert torch.equal(first.get_samples()["a"], second.get_samples()["a"])
    assert torch.equal(torch.get_rng_state(), before)


def test_hook_is_told_of_every_draw() -> None:
    told: list[tuple[str, int]] = []
    mcmc = MCMC(
        Gibbs(), 3, 2, START, progress=False, hook_fn=lambda k, draw, stage, i: told.append((stage, i))
    )
    mcmc.run()
    assert told == [("warmup", 0), ("warmup", 1), ("sample", 0), ("sample", 1), ("sample", 2)]


def test_draws_are_shown_in_their_own_space() -> None:
    to_reals = {"a": dist.transforms.ExpTransform().inv}
    mcmc = MCMC(Gibbs(), 50, 5, START, seed=0, progress=False, transforms=to_reals)
    mcmc.run()
    assert bool((mcmc.get_samples()["a"] > 0).all()) and bool((mcmc.get_samples()["b"] < 0).any())


def test_no_first_value_error() -> None:
    with pytest.raises(InferenceError, match="expected first values for Gibbs, got none"):
        MCMC(Gibbs(), 5, progress=False).run()


def test_draw_that_is_no_dict_error() -> None:
    class Bad(Gibbs):
        def sample(self, params: Any) -> Any:
            return torch.zeros(2)

    with pytest.raises(InferenceTypeError, match=r"Bad.sample: expected a dict of tensors .* got Tensor"):
        MCMC(Bad(), 5, initial_params=START, progress=False).run()


def test_draw_that_lacks_a_site_error() -> None:
    class Bad(Gibbs):
        def sample(self, params: Any) -> Any:
            return {"a": torch.zeros(())}

    with pytest.raises(InferenceError, match=r"expected sites \['a', 'b'\], got \['a'\]"):
        MCMC(Bad(), 5, initial_params=START, progress=False).run()


def test_statistics_of_our_kernels_are_refused_error() -> None:
    mcmc = run()
    with pytest.raises(UnsupportedError, match="got Gibbs; take get_samples"):
        mcmc.report()
    with pytest.raises(UnsupportedError, match="got Gibbs"):
        mcmc.stats  # noqa: B018


def test_before_the_run_error() -> None:
    with pytest.raises(InferenceError, match="expected a run, got none"):
        MCMC(Gibbs(), 5, initial_params=START).get_samples()
