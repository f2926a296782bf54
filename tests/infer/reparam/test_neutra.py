"""``NeuTraReparam``: the same posterior in the variables of a guide."""

from __future__ import annotations

import pytest
import torch

import brancher.distributions as dist
from brancher import handlers, plate, sample
from brancher.errors import GuideError, InferenceTypeError, SiteError
from brancher.infer import MCMC, NUTS, SVI
from brancher.infer.autoguide import (
    AutoDiagonalNormal,
    AutoIAFNormal,
    AutoMultivariateNormal,
    AutoNormal,
    AutoStructured,
)
from brancher.infer.mcmc.potential import Potential
from brancher.infer.reparam import NeuTraReparam

DATA = torch.arange(8.0)


def schools():
    mu = sample("mu", dist.Normal(0.0, 5.0))
    tau = sample("tau", dist.HalfCauchy(5.0))
    with plate("school", 8):
        theta = sample("theta", dist.Normal(mu, tau))
        sample("y", dist.Normal(theta, 10.0), obs=DATA)


def in_plate():
    with plate("row", 3):
        x = sample("x", dist.Gamma(2.0, 1.0))
    weights = sample("weights", dist.Dirichlet(torch.ones(3)))
    sample("y", dist.Normal((x * weights).sum(-1), 1.0), obs=torch.tensor(1.0))


def fitted(model, kind=AutoMultivariateNormal):
    guide = kind(model)
    svi = SVI(model, guide)
    for _ in range(3):
        svi.step()
    return guide


@pytest.mark.parametrize("kind", [AutoDiagonalNormal, AutoMultivariateNormal, AutoIAFNormal, AutoStructured])
@pytest.mark.parametrize("model", [schools, in_plate])
@pytest.mark.parametrize("chains", [1, 3])
def test_density_is_that_of_the_model_with_the_slope_of_the_guide(model, kind, chains):
    neutra = NeuTraReparam(fitted(model, kind))
    plain, whitened = (Potential(m, (), {}) for m in (model, neutra.reparam(model)))
    noise = torch.randn(chains, plain.dim)
    with torch.no_grad():
        transform = neutra.guide.get_transform()
        vector = transform(noise)
        right = plain.log_prob(vector) + transform.log_abs_det_jacobian(noise, vector)
    torch.testing.assert_close(whitened.log_prob(noise).detach(), right, rtol=1e-4, atol=1e-3)


def test_transform_sample_gives_the_values_of_the_sites():
    neutra = NeuTraReparam(fitted(schools))
    noise = torch.randn(2, 3, 10)
    values = neutra.transform_sample(noise)
    assert {name: tuple(value.shape) for name, value in values.items()} == {
        "mu": (2, 3),
        "tau": (2, 3),
        "theta": (2, 3, 8),
    }
    run = handlers.condition(neutra.reparam(schools), data={"mu_shared_latent": noise[1, 2]})
    record = handlers.trace(run).get_trace()
    torch.testing.assert_close(record["theta"].value, values["theta"][1, 2])


def test_samples_hold_the_sites_of_the_model():
    mcmc = MCMC(
        NUTS(NeuTraReparam(fitted(schools)).reparam(schools), max_tree_depth=3),
        5,
        5,
        compile=False,
        progress=False,
    )
    with pytest.warns(UserWarning):
        mcmc.run()
    assert {"mu", "tau", "theta"} <= set(mcmc.get_samples())


def test_subsampled_plate_error():
    def model():
        with plate("row", 10, subsample_size=4):
            sample("x", dist.Normal(0.0, 1.0))

    guide = AutoDiagonalNormal(model).setup()
    with pytest.raises(SiteError, match="site 'x': expected all 10 rows of plate 'row'"):
        NeuTraReparam(guide).reparam(model)()


def test_guide_of_another_kind_error():
    with pytest.raises(InferenceTypeError, match="expected a guide of one flat vector"):
        NeuTraReparam(AutoNormal(schools))


def test_guide_that_is_not_fitted_error():
    with pytest.raises(GuideError, match="expected a fitted guide"):
        NeuTraReparam(AutoDiagonalNormal(schools))
