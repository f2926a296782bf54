"""Guides made from models."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoGuideList,
    AutoHierarchicalNormalMessenger,
    AutoIAFNormal,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    AutoNormalMessenger,
)
from pyro.infer.autoguide.initialization import (
    init_to_feasible,
    init_to_mean,
    init_to_median,
    init_to_value,
)

T = torch.tensor
data = T([0.9, 1.3, 0.2, 1.8])


def model(x=data):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    s = pyro.sample("s", dist.LogNormal(0.0, 0.5))
    with pyro.plate("d", 4):
        b = pyro.sample("b", dist.Normal(a, 1.0))
        pyro.sample("x", dist.Normal(b, s), obs=x)


def fit(g, n=300, m=model, lr=0.02):
    svi = SVI(m, g, pyro.optim.Adam({"lr": lr}), Trace_ELBO())
    for _ in range(n):
        svi.step()
    return g


def case_names_normal():
    g = AutoNormal(model)
    g()
    return sorted(pyro.get_param_store().keys())


def case_names_delta():
    g = AutoDelta(model)
    g()
    return sorted(pyro.get_param_store().keys())


def case_names_diag():
    g = AutoDiagonalNormal(model)
    g()
    return sorted(pyro.get_param_store().keys()), g.loc.shape, g.scale.shape


def case_names_mvn():
    g = AutoMultivariateNormal(model)
    g()
    return sorted(pyro.get_param_store().keys()), g.scale_tril.shape


def case_names_lowrank():
    g = AutoLowRankMultivariateNormal(model, rank=2)
    g()
    return sorted(pyro.get_param_store().keys()), g.cov_factor.shape


def case_median_keys():
    g = fit(AutoNormal(model), 1)
    return {k: v.shape for k, v in g.median().items()}


def case_quantiles():
    g = fit(AutoNormal(model), 1)
    q = g.quantiles([0.1, 0.9])
    return {
        k: torch.as_tensor(v).shape if not isinstance(v, list) else torch.stack(v).shape for k, v in q.items()
    }


def case_quantiles_diag():
    g = fit(AutoDiagonalNormal(model), 1)
    q = g.quantiles([0.1, 0.9])
    return {
        k: torch.as_tensor(v).shape if not isinstance(v, list) else torch.stack(v).shape for k, v in q.items()
    }


def case_init_value():
    g = AutoNormal(
        model,
        init_loc_fn=init_to_value(values={"a": T(0.5), "s": T(2.0), "b": torch.ones(4)}),
        init_scale=0.05,
    )
    g()
    return g.median(), g.scales.a


def case_init_median():
    g = AutoDelta(model, init_loc_fn=init_to_median(num_samples=50))
    g()
    return {k: v.shape for k, v in g.median().items()}


def case_init_mean():
    g = AutoDelta(model, init_loc_fn=init_to_mean)
    g()
    return g.median()


def case_locs_access():
    g = AutoNormal(model)
    g()
    return g.locs.a.shape, g.scales.b.shape


def case_return_value():
    g = AutoNormal(model)
    r = g()
    return sorted(r), r["b"].shape


def case_sample_latent():
    g = AutoDiagonalNormal(model)
    g()
    return g.sample_latent().shape


def case_get_posterior():
    g = AutoDiagonalNormal(model)
    g()
    p = g.get_posterior()
    return p.event_shape


def case_transform():
    g = AutoDiagonalNormal(model)
    g()
    return g.get_base_dist().event_shape, g.get_transform().__class__.__name__ != ""


def case_laplace():
    def m():
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(a, 1.0), obs=T(2.0))

    d = AutoLaplaceApproximation(m)
    fit(d, 500, m, 0.05)
    g = d.laplace_approximation()
    return round(float(g.quantiles([0.5])["a"][0]), 1), round(float(g.scale_tril.detach().squeeze()), 2)


def case_guide_list():
    g = AutoGuideList(model)
    g.append(AutoDelta(poutine.block(model, expose=["a"])))
    g.append(AutoNormal(poutine.block(model, hide=["a"])))
    g()
    return sorted(pyro.get_param_store().keys()), sorted(g.median())


def case_guide_list_callable():
    g = AutoGuideList(model)
    g.append(AutoDelta(poutine.block(model, expose=["a", "b"])))

    def rest(x=None):
        pyro.sample("s", dist.LogNormal(pyro.param("ls", T(0.0)), 0.1))

    g.append(rest)
    g()
    return sorted(k for k in pyro.get_param_store() if k == "ls")


def case_gmm_enum():
    K = 2

    @config_enumerate
    def m():
        w = pyro.sample("weights", dist.Dirichlet(0.5 * torch.ones(K)))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 2.0))
        with pyro.plate("components", K):
            locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
        with pyro.plate("data", 4):
            z = pyro.sample("assignment", dist.Categorical(w))
            pyro.sample("obs", dist.Normal(locs[z], scale), obs=data)

    g = AutoDelta(
        poutine.block(m, expose=["weights", "locs", "scale"]),
        init_loc_fn=init_to_value(
            values={"weights": torch.ones(2) / 2, "locs": T([0.1, 1.5]), "scale": T(0.5)}
        ),
    )
    svi = SVI(
        m, g, pyro.optim.Adam({"lr": 0.1, "betas": [0.8, 0.99]}), loss=TraceEnum_ELBO(max_plate_nesting=1)
    )
    return [svi.evaluate_loss()] + [svi.step() for _ in range(5)], g.median()


def case_predictive():
    g = fit(AutoNormal(model), 3)
    s = Predictive(model, guide=g, num_samples=6)()
    return {k: [n for n in v.shape if n != 1] for k, v in s.items()}


def case_iaf():
    g = AutoIAFNormal(model, hidden_dim=[8])
    g()
    return


def case_create_plates():
    def m(x):
        with pyro.plate("d", 10, 4) as i:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[i])

    g = AutoNormal(m, create_plates=lambda x: pyro.plate("d", 10, 4))
    x = torch.zeros(10)
    svi = SVI(m, g, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    svi.step(x)
    svi.step(x)
    return g.locs.z.shape


def case_init_to_feasible():
    g = AutoDelta(model, init_loc_fn=init_to_feasible)
    g()
    return g.median()["a"].shape


def case_posterior_values_converged():
    def m():
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("d", 4):
            pyro.sample("x", dist.Normal(a, 1.0), obs=data)

    g = fit(AutoDiagonalNormal(m), 600, m, 0.02)
    return abs(float(g.median()["a"]) - 0.84) < 0.2


def _medians(kind, sites):
    def model(y):
        mu = pyro.sample("mu", dist.Normal(0.3, 1.0))
        s = pyro.sample("s", dist.LogNormal(0.2, 0.5))
        with pyro.plate("n", 4):
            z = pyro.sample("z", dist.Normal(mu, s))
            pyro.sample("y", dist.Normal(z, s), obs=y)

    y = torch.tensor([0.1, 0.5, -0.3, 2.0])
    guide = kind(model)
    guide(y)
    median = guide.median(y)
    return {name: median[name] for name in sites}


def case_normal_through_the_model():
    return _medians(AutoNormalMessenger, ["mu", "s"])


def case_normal_that_follows_prior_means():
    return _medians(AutoHierarchicalNormalMessenger, ["mu", "s", "z"])
