"""Reparametrisation strategies."""

import pyro
import pyro.distributions as dist
import pyro.infer.reparam as R
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal
from pyro.infer.reparam import LocScaleReparam, TransformReparam

T = torch.tensor


def sites(m):
    return sorted(
        k
        for k, s in poutine.trace(m).get_trace().nodes.items()
        if s["type"] == "sample" and not s["is_observed"] and k not in ("p", "d")
    )


def schools():
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("d", 8):
        th = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(th, 10.0), obs=torch.arange(8.0))


def case_loc_scale():
    return sites(poutine.reparam(schools, {"theta": LocScaleReparam(0.0)}))


def case_loc_scale_learn():
    m = poutine.reparam(schools, {"theta": LocScaleReparam()})
    g = AutoNormal(m)
    svi = SVI(m, g, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    svi.step()
    return sorted(k for k in pyro.get_param_store() if "centered" in k and "theta_centered" in k)


def case_transform():
    def m():
        return pyro.sample(
            "x", dist.TransformedDistribution(dist.Normal(0.0, 1.0), [dist.transforms.ExpTransform()])
        )

    return sites(poutine.reparam(m, {"x": TransformReparam()}))


def case_lognormal():
    def m():
        return pyro.sample("x", dist.LogNormal(0.0, 1.0))

    return sites(poutine.reparam(m, {"x": TransformReparam()}))


def case_decorator():
    @poutine.reparam(config={"theta": LocScaleReparam(0.0)})
    def m():
        return schools()

    return sites(m)


def case_callable_config():
    return sites(
        poutine.reparam(schools, lambda msg: LocScaleReparam(0.0) if msg["name"] == "theta" else None)
    )


def case_projected():
    def m():
        return pyro.sample("x", dist.ProjectedNormal(torch.ones(2)))

    return sites(poutine.reparam(m, {"x": R.ProjectedNormalReparam()}))


def case_neutra():
    g = AutoDiagonalNormal(schools)
    SVI(schools, g, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO()).step()
    n = R.NeuTraReparam(g)
    m = n.reparam(schools)
    s = sites(m)
    torch.zeros(3, 10)
    return s, sorted(n.transform_sample(torch.zeros(10)))


def case_studentt():
    def m():
        return pyro.sample("x", dist.StudentT(3.0, 0.0, 1.0))

    return sites(poutine.reparam(m, {"x": R.StudentTReparam()}))


def case_gumbel():
    def m():
        return pyro.sample("x", dist.RelaxedOneHotCategorical(T(0.5), torch.ones(3) / 3))

    return sites(poutine.reparam(m, {"x": R.GumbelSoftmaxReparam()}))


def case_auto():
    return sites(poutine.reparam(schools, R.AutoReparam()))


def case_minimal():
    return sites(poutine.reparam(schools, R.MinimalReparam()))


def case_loc_scale_shape_params():
    def m():
        return pyro.sample("x", dist.StudentT(3.0, 0.0, 2.0))

    return sites(poutine.reparam(m, {"x": LocScaleReparam(0.0, shape_params=["df"])}))


def case_unit_log_density():
    m = poutine.reparam(schools, {"theta": LocScaleReparam(0.3)})
    tr = poutine.trace(
        poutine.condition(m, data={"mu": T(0.5), "tau": T(2.0), "theta_decentered": torch.arange(8.0) / 4})
    ).get_trace()
    return tr.log_prob_sum()
