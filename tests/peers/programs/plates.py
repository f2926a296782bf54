"""Plates: nesting, subsampling, loops, errors."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

T = torch.tensor


def shapes(f, *a):
    tr = poutine.trace(f).get_trace(*a)
    tr.compute_log_prob()
    return {
        k: (v["value"].shape, v["log_prob"].shape, v["scale"])
        for k, v in tr.nodes.items()
        if v["type"] == "sample" and hasattr(v["fn"], "batch_shape") and k in "abcxyz"
    }


def case_nested():
    def m():
        with pyro.plate("p", 3):
            pyro.sample("a", dist.Normal(0.0, 1.0))
            with pyro.plate("q", 2):
                pyro.sample("b", dist.Normal(torch.zeros(4), 1.0).to_event(1))

    return shapes(m)


def case_explicit_dims():
    def m():
        p = pyro.plate("p", 3, dim=-1)
        q = pyro.plate("q", 2, dim=-3)
        with p:
            pyro.sample("a", dist.Normal(0.0, 1.0))
        with q:
            pyro.sample("b", dist.Normal(0.0, 1.0))
        with p, q:
            pyro.sample("c", dist.Normal(0.0, 1.0))

    return shapes(m)


def case_subsample():
    def m():
        with pyro.plate("p", 10, 4) as i:
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=torch.zeros(10)[i])
        assert i.shape == (4,)

    return shapes(m)


def case_subsample_fixed():
    def m():
        with pyro.plate("p", 10, subsample=T([1, 2])):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=torch.zeros(2))

    return shapes(m)


def case_sequential():
    def m():
        for i in pyro.plate("p", 3):
            pyro.sample(f"x_{i}", dist.Normal(0.0, 1.0), obs=T(float(i)))

    return poutine.trace(m).get_trace().log_prob_sum()


def case_sequential_subsample():
    def m():
        for i in pyro.plate("p", 6, subsample=T([0, 3])):
            pyro.sample(f"x_{i}", dist.Normal(0.0, 1.0), obs=T(float(i)))

    return poutine.trace(m).get_trace().log_prob_sum()


def case_plate_decorator():
    @pyro.plate("p", 3)
    def m():
        return pyro.sample("x", dist.Normal(0.0, 1.0))

    return m().shape


def case_reuse_plate_object():
    def m():
        p = pyro.plate("p", 3)
        with p:
            pyro.sample("a", dist.Normal(0.0, 1.0))
        with p:
            pyro.sample("b", dist.Normal(0.0, 1.0))

    return shapes(m)


def case_plate_stack():
    def m():
        with pyro.plate_stack("p", [2, 3], rightmost_dim=-1):
            pyro.sample("a", dist.Normal(0.0, 1.0))

    return shapes(m)


def case_independent_to_event():
    def m():
        with pyro.plate("p", 3):
            pyro.sample("a", dist.MultivariateNormal(torch.zeros(2), torch.eye(2)))
            pyro.sample("b", dist.Dirichlet(torch.ones(3, 4)))

    return shapes(m)


def case_indices_dtype():
    with pyro.plate("p", 10, 4) as i:
        return i.dtype, i.shape


def case_same_subsample_model_guide():
    seen = []

    def model():
        with pyro.plate("p", 10, 3) as i:
            seen.append(i.clone())
            pyro.sample("a", dist.Normal(0.0, 1.0))

    def guide():
        with pyro.plate("p", 10, 3) as i:
            seen.append(i.clone())
            pyro.sample("a", dist.Normal(0.0, 1.0))

    from pyro.infer import Trace_ELBO

    Trace_ELBO().loss(model, guide)
    return bool((seen[-1] == seen[-2]).all())


def case_expand_by():
    with pyro.plate("p", 3):
        return pyro.sample("a", dist.Normal(0.0, 1.0).expand_by([3])).shape


def case_plate_scale():
    def m():
        with poutine.scale(scale=3.0), pyro.plate("p", 10, subsample=T([1, 2])):
            pyro.sample("a", dist.Normal(0.0, 1.0))

    return shapes(m)


def case_zero_subsample_none():
    with pyro.plate("p", 3, subsample_size=None) as i:
        return i


def case_device():
    with pyro.plate("p", 3, device="cpu") as i:
        return i


def case_use_plate_in_guide_only_local():
    def m():
        with pyro.plate("p", 2, dim=-2):
            return pyro.sample("a", dist.Normal(0.0, 1.0)).shape

    return m()
