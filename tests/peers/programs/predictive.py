"""Predictive, importance, MCMC."""

import pyro
import pyro.distributions as dist
import pyro.infer
import torch
from pyro import poutine
from pyro.infer import HMC, MCMC, NUTS, EmpiricalMarginal, Importance, Predictive
from pyro.infer.autoguide import AutoNormal

T = torch.tensor
data = T([0.9, 1.3, 0.2, 1.8])


def model(x=data):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("d", 4):
        y = pyro.sample("x", dist.Normal(a, 1.0), obs=x)
    pyro.deterministic("det", a * 2)
    return y


post = {"a": torch.arange(5.0)}


def sh(d):
    # Pyro gives scalars a dimension of size one for every plate of the model.
    return {k: [n for n in v.shape if n != 1] for k, v in d.items()}


def case_prior():
    return sh(Predictive(model, num_samples=7)(None))


def case_posterior():
    return sh(Predictive(model, post)(None))


def case_parallel():
    return sh(Predictive(model, post, parallel=True)(None))


def case_parallel_prior():
    return sh(Predictive(model, num_samples=7, parallel=True)(None))


def case_return_sites():
    return sh(Predictive(model, post, return_sites=["x", "a"])(None))


def case_return_value():
    return sh(Predictive(model, post, return_sites=("_RETURN",))(None))


def case_observed():
    return sh(Predictive(model, post)(data))


def case_guide():
    g = AutoNormal(model)
    g()
    return sh(Predictive(model, guide=g, num_samples=3)(None))


def case_guide_parallel():
    g = AutoNormal(model)
    g()
    return sh(Predictive(model, guide=g, num_samples=3, parallel=True)(None))


def case_conditioned():
    return sh(Predictive(poutine.condition(model, data={"a": T(1.0)}), num_samples=4)(None))


def case_uncondition():
    return sh(Predictive(poutine.uncondition(model), num_samples=4)())


def case_importance():
    imp = Importance(model, num_samples=300).run()
    return abs(float(EmpiricalMarginal(imp, "a").mean) - 0.84) < 0.2


def case_mcmc_api():
    k = NUTS(model, jit_compile=False, target_accept_prob=0.8, max_tree_depth=5)
    m = MCMC(k, num_samples=20, warmup_steps=10, num_chains=1, disable_progbar=True)
    m.run()
    s = m.get_samples()
    g = m.get_samples(group_by_chain=True)
    d = m.diagnostics()
    return s["a"].shape, g["a"].shape, sorted(d["a"])


def case_hmc_api():
    k = HMC(model, step_size=0.1, num_steps=4)
    m = MCMC(k, num_samples=10, warmup_steps=5)
    m.run()
    m.summary()
    return m.get_samples()["a"].shape


def case_mcmc_predict():
    m = MCMC(NUTS(model), num_samples=12, warmup_steps=10)
    m.run()
    return sh(Predictive(model, m.get_samples())(None))


def case_mcmc_potential_fn():
    def pot(z):
        return 0.5 * (z["x"] ** 2).sum()

    k = HMC(potential_fn=pot, step_size=0.5, num_steps=3)
    m = MCMC(k, num_samples=10, warmup_steps=5, initial_params={"x": torch.zeros(2)})
    m.run()
    return m.get_samples()["x"].shape


def case_mcmc_initial_params():
    m = MCMC(NUTS(model), num_samples=5, warmup_steps=5, initial_params={"a": T(0.3)})
    m.run()
    return m.get_samples()["a"].shape


def case_mcmc_summary_print():
    m = MCMC(NUTS(model), num_samples=5, warmup_steps=5)
    m.run()
    m.summary(prob=0.9)
