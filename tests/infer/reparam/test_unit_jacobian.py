from __future__ import annotations

import pytest
import torch

import brancher.distributions as dist
from brancher import handlers, plate, sample
from brancher.errors import SiteError
from brancher.infer import MCMC, NUTS, SVI, Trace_ELBO
from brancher.infer.autoguide import AutoNormal
from brancher.infer.reparam import DiscreteCosineReparam, HaarReparam, Reparam, UnitJacobianReparam
from brancher.optim import Adam

STRATEGIES = {
    "x_dct": DiscreteCosineReparam(),
    "x_haar": HaarReparam(flip=True),
    "x_turned": UnitJacobianReparam(dist.transforms.Permute(torch.tensor([2, 0, 1])), suffix="turned"),
}
WALK = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])


def model(y: torch.Tensor | None = None) -> torch.Tensor:
    x = sample("x", dist.MultivariateNormal(torch.zeros(3), scale_tril=WALK))
    sample("y", dist.Normal(x, 0.5).to_event(1), obs=y)
    return x


@pytest.mark.parametrize("name", STRATEGIES)
def test_density_does_not_change(name: str) -> None:
    y = torch.tensor([1.0, -1.0, 0.5])
    rewritten = handlers.reparam(model, config={"x": STRATEGIES[name]})
    record = handlers.trace(rewritten).get_trace(y)
    assert record.stochastic_nodes == [name]
    same = handlers.trace(handlers.condition(model, data={"x": record["x"].value})).get_trace(y)
    torch.testing.assert_close(record.log_prob_sum(), same.log_prob_sum())


@pytest.mark.parametrize("name", STRATEGIES)
def test_posterior_does_not_change(name: str) -> None:
    y = torch.tensor([1.0, -1.0, 0.5])
    rewritten = handlers.reparam(model, config={"x": STRATEGIES[name]})
    torch.manual_seed(0)
    mcmc = MCMC(NUTS(rewritten), 400, 200, seed=0, compile=False, progress=False)
    mcmc.run(y)
    draws = mcmc.get_samples()["x"]
    precision = torch.linalg.inv(WALK @ WALK.mT) + 4 * torch.eye(3)
    expected = torch.linalg.solve(precision, 4 * y)
    # 400 draws of a posterior whose sds are below 0.5.
    torch.testing.assert_close(draws.mean(0), expected, atol=0.12, rtol=0)


def test_series_in_a_plate_are_guided() -> None:
    def rows() -> None:
        with plate("row", 2):
            sample("x", dist.Normal(torch.zeros(5), 1.0).to_event(1))

    rewritten = handlers.reparam(rows, config={"x": HaarReparam()})
    guide = AutoNormal(rewritten)
    SVI(rewritten, guide, Adam({"lr": 0.01}), Trace_ELBO()).step()
    assert guide()["x_haar"].shape == (2, 5)


@pytest.mark.parametrize("strategy", STRATEGIES.values())
def test_batch_dimension_error(strategy: Reparam) -> None:
    def batch() -> None:
        with plate("row", 3):
            sample("x", dist.Normal(0.0, 1.0))

    with pytest.raises(SiteError, match=r"site 'x': expected a law with event dim >= 1 .*\.to_event\(1\)"):
        handlers.reparam(batch, config={"x": strategy})()


def test_observed_site_error() -> None:
    observed = handlers.condition(model, data={"x": torch.zeros(3)})
    with pytest.raises(SiteError, match="'x'"):
        handlers.reparam(observed, config={"x": HaarReparam()})()
