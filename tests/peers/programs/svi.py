"""Stochastic variational inference: losses, gradients, optimizers, custom training loops."""

import pyro
import pyro.distributions as dist
import pyro.optim
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer import (
    SVI,
    JitTrace_ELBO,
    RenyiELBO,
    Trace_ELBO,
    TraceGraph_ELBO,
)

T = torch.tensor
data = T([0.9, 1.3, 0.2, 1.8])


def model(x=data):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("d", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def guide(x=data):
    loc = pyro.param("loc", T(0.3))
    scale = pyro.param("scale", T(0.8), constraint=constraints.positive)
    pyro.sample("z", dist.Normal(loc, scale))


def delta_guide(x=data):
    pyro.sample("z", dist.Delta(pyro.param("loc", T(0.3))))


def grad(loss):
    """The loss and its gradient by the one parameter of the guide."""
    shown = loss.differentiable_loss(model, delta_guide)
    (leaf,) = dict(pyro.get_param_store().named_parameters()).values()
    return shown, torch.autograd.grad(shown, leaf)[0]


def case_trace_elbo_delta():
    return grad(Trace_ELBO())


def case_same_seed_loss():
    pyro.set_rng_seed(1)
    return Trace_ELBO().loss(model, guide)


def train(opt, n=300, loss=None, g=guide, m=model):
    svi = SVI(m, g, opt, loss or Trace_ELBO())
    for _ in range(n):
        svi.step()
    return float(pyro.param("loc"))


def near(x, y, tol):
    return abs(x - y) < tol


def case_adam():
    return near(train(pyro.optim.Adam({"lr": 0.05})), data.sum() / 5, 0.2)


def case_clipped():
    return near(
        train(pyro.optim.ClippedAdam({"lr": 0.05, "clip_norm": 5.0, "lrd": 0.999})), data.sum() / 5, 0.2
    )


def case_sgd():
    return near(train(pyro.optim.SGD({"lr": 0.01, "momentum": 0.1})), data.sum() / 5, 0.2)


def case_rmsprop():
    return near(train(pyro.optim.RMSprop({"lr": 0.01})), data.sum() / 5, 0.2)


def case_adagrad_rms():
    return near(train(pyro.optim.AdagradRMSProp({"eta": 0.5}), 400), data.sum() / 5, 0.3)


def case_per_param_callable():
    def per(name):
        return {"lr": 0.1} if name == "loc" else {"lr": 0.001}

    r = train(pyro.optim.Adam(per))
    return near(r, data.sum() / 5, 0.3), near(float(pyro.param("scale")), 0.8, 0.3)


def case_per_param_module_callable():
    def per(module_name, param_name):
        return {"lr": 0.1}

    svi = SVI(model, guide, pyro.optim.Adam(per), Trace_ELBO())
    svi.step()
    return


def case_scheduler():
    sched = pyro.optim.ExponentialLR({"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.01}, "gamma": 0.5})
    svi = SVI(model, delta_guide, sched, Trace_ELBO())
    out = []
    for _i in range(4):
        svi.step()
        sched.step()
        out.append(float(pyro.param("loc")))
    return out


def case_step_lr():
    sched = pyro.optim.StepLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.1, "step_size": 2}
    )
    svi = SVI(model, delta_guide, sched, Trace_ELBO())
    out = []
    for _i in range(5):
        svi.step()
        sched.step()
        out.append(float(pyro.param("loc")))
    return out


def case_multistep_lr():
    sched = pyro.optim.MultiStepLR(
        {"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.01}, "milestones": [1, 3], "gamma": 0.1}
    )
    svi = SVI(model, delta_guide, sched, Trace_ELBO())
    out = []
    for _i in range(5):
        svi.step()
        sched.step()
        out.append(float(pyro.param("loc")))
    return out


def case_lambda_lr():
    sched = pyro.optim.LambdaLR(
        {"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.01}, "lr_lambda": lambda e: 2.0**e}
    )
    svi = SVI(model, delta_guide, sched, Trace_ELBO())
    out = []
    for _i in range(4):
        svi.step()
        sched.step()
        out.append(float(pyro.param("loc")))
    return out


def case_reduce_on_plateau():
    sched = pyro.optim.ReduceLROnPlateau(
        {"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.01}, "factor": 0.1, "patience": 1}
    )
    svi = SVI(model, delta_guide, sched, Trace_ELBO())
    out = []
    for _i in range(6):
        svi.step()
        sched.step(1.0)
        out.append(float(pyro.param("loc")))
    return out


def case_scheduler_clip():
    sched = pyro.optim.ExponentialLR(
        {"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.01}, "gamma": 0.5}, {"clip_norm": 0.5}
    )
    svi = SVI(model, delta_guide, sched, Trace_ELBO())
    for _i in range(4):
        svi.step()
        sched.step()
    return float(pyro.param("loc"))


def case_clip_args():
    svi = SVI(model, delta_guide, pyro.optim.SGD({"lr": 0.1}, {"clip_value": 0.1}), Trace_ELBO())
    svi.step()
    return float(pyro.param("loc"))


def case_adam_steps():
    svi = SVI(model, delta_guide, pyro.optim.Adam({"lr": 0.1, "betas": (0.9, 0.99)}), Trace_ELBO())
    return [svi.step() for _ in range(5)], float(pyro.param("loc"))


def case_clipped_steps():
    svi = SVI(
        model,
        delta_guide,
        pyro.optim.ClippedAdam({"lr": 0.1, "betas": (0.9, 0.99), "lrd": 0.9, "clip_norm": 1.0}),
        Trace_ELBO(),
    )
    return [svi.step() for _ in range(5)], float(pyro.param("loc"))


def case_optim_state():
    o = pyro.optim.Adam({"lr": 0.1})
    svi = SVI(model, delta_guide, o, Trace_ELBO())
    for _ in range(3):
        svi.step()
    st = o.get_state()
    o2 = pyro.optim.Adam({"lr": 0.1})
    o2.set_state(st)
    svi = SVI(model, delta_guide, o2, Trace_ELBO())
    svi.step()
    return float(pyro.param("loc"))


def case_optim_save_load():
    import tempfile
    from pathlib import Path

    f = str(Path(tempfile.mkdtemp()) / "o.pt")
    o = pyro.optim.Adam({"lr": 0.1})
    svi = SVI(model, delta_guide, o, Trace_ELBO())
    for _ in range(3):
        svi.step()
    o.save(f)
    o2 = pyro.optim.Adam({"lr": 0.1})
    o2.load(f)
    SVI(model, delta_guide, o2, Trace_ELBO()).step()
    return float(pyro.param("loc"))


def case_torch_optim_elbo_module():
    from pyro.infer.autoguide import AutoDelta
    from pyro.nn import PyroModule

    class M(PyroModule):
        def forward(self, x=data):
            return model(x)

    m = M()
    g = AutoDelta(m)
    loss = Trace_ELBO()(m, g)
    loss()
    opt = torch.optim.Adam(loss.parameters(), lr=0.1)
    for _ in range(200):
        opt.zero_grad()
        shown = loss()
        shown.backward()
        opt.step()
    return round(float(g.median()["z"]), 2)


def case_custom_objective():
    def simple_elbo(model, guide, *args, **kwargs):
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
        return -1 * (model_trace.log_prob_sum() - guide_trace.log_prob_sum())

    svi = SVI(model, delta_guide, pyro.optim.Adam({"lr": 0.1}), loss=simple_elbo)
    return [svi.step() for _ in range(3)], float(pyro.param("loc"))


def case_custom_loop():
    def loss_fn(model, guide):
        return Trace_ELBO().differentiable_loss(model, guide)

    with poutine.trace(param_only=True) as cap:
        loss = loss_fn(model, delta_guide)
    params = {site["value"].unconstrained() for site in cap.trace.nodes.values()}
    opt = torch.optim.Adam(params, lr=0.1)
    for _ in range(3):
        loss = loss_fn(model, delta_guide)
        loss.backward()
        opt.step()
        opt.zero_grad()
    return float(pyro.param("loc"))


def case_scaled_loss():
    @poutine.scale(scale=0.25)
    def m():
        model()

    @poutine.scale(scale=0.25)
    def g():
        delta_guide()

    return SVI(m, g, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO()).step()


def case_aggregated_kl_annealing():
    def m(beta=0.5):
        with poutine.scale(scale=beta):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("d", 4):
            pyro.sample("x", dist.Normal(z, 1.0), obs=data)

    def g(beta=0.5):
        with poutine.scale(scale=beta):
            pyro.sample("z", dist.Delta(pyro.param("loc", T(0.3))))

    return Trace_ELBO().loss(m, g)


def case_regularizer():
    loss_fn = Trace_ELBO().differentiable_loss
    shown = loss_fn(model, delta_guide)
    reg = sum((p**2).sum() for p in pyro.get_param_store().values())
    (shown + reg).backward()
    return pyro.param("loc").grad


def case_evaluate_loss():
    svi = SVI(model, delta_guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    return svi.evaluate_loss()


def case_num_particles():
    svi = SVI(
        model,
        delta_guide,
        pyro.optim.Adam({"lr": 0.1}),
        Trace_ELBO(num_particles=7, vectorize_particles=True, max_plate_nesting=1),
    )
    return svi.step()


def case_num_particles_seq():
    return SVI(model, delta_guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO(num_particles=3)).step()


def case_jit():
    svi = SVI(model, delta_guide, pyro.optim.Adam({"lr": 0.1}), JitTrace_ELBO(ignore_jit_warnings=True))
    return [svi.step() for _ in range(3)]


def case_renyi():
    return RenyiELBO(alpha=0.5, num_particles=2).loss(model, delta_guide)


def case_baseline():
    def m():
        pyro.sample("b", dist.Bernoulli(0.3))

    def g():
        pyro.sample(
            "b",
            dist.Bernoulli(pyro.param("loc", T(0.6), constraint=constraints.unit_interval)),
            infer={"baseline": {"use_decaying_avg_baseline": True, "baseline_beta": 0.9}},
        )

    svi = SVI(m, g, pyro.optim.Adam({"lr": 0.01}), TraceGraph_ELBO())
    for _ in range(3):
        svi.step()
    return


def case_baseline_value():
    def m():
        pyro.sample("b", dist.Bernoulli(0.3))

    def g():
        pyro.sample(
            "b",
            dist.Bernoulli(pyro.param("loc", T(0.6), constraint=constraints.unit_interval)),
            infer={"baseline": {"baseline_value": T(0.4)}},
        )

    svi = SVI(m, g, pyro.optim.Adam({"lr": 0.01}), TraceGraph_ELBO())
    svi.step()


def case_loss_and_grads_kw():
    elbo = Trace_ELBO()
    svi = SVI(
        model, delta_guide, pyro.optim.Adam({"lr": 0.1}), loss=elbo.loss, loss_and_grads=elbo.loss_and_grads
    )
    return svi.step()


def case_map_mle():
    def m():
        mu = pyro.param("mu", T(0.0))
        with pyro.plate("d", 4):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=data)

    def g():
        pass

    svi = SVI(m, g, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    for _ in range(200):
        svi.step()
    return round(float(pyro.param("mu")), 2)


def case_beta_coin():
    d = [T(1.0)] * 6 + [T(0.0)] * 4

    def m(data):
        f = pyro.sample("latent_fairness", dist.Beta(10.0, 10.0))
        for i in range(len(data)):
            pyro.sample(f"obs_{i}", dist.Bernoulli(f), obs=data[i])

    def g(data):
        a = pyro.param("alpha_q", T(15.0), constraint=constraints.positive)
        b = pyro.param("beta_q", T(15.0), constraint=constraints.positive)
        pyro.sample("latent_fairness", dist.Beta(a, b))

    svi = SVI(m, g, pyro.optim.Adam({"lr": 0.0005, "betas": (0.90, 0.999)}), loss=Trace_ELBO())
    for _ in range(20):
        svi.step(d)
    return round(float(pyro.param("alpha_q")), 1)


def case_aux_site():
    def m():
        pyro.sample("z", dist.Normal(0.0, 1.0))

    def g():
        pyro.sample("aux", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
        pyro.sample("z", dist.Delta(pyro.param("loc", T(0.3))))

    Trace_ELBO().loss(m, g)


def case_pyro_lr_scheduler_class():
    from pyro.optim import PyroLRScheduler

    sched = PyroLRScheduler(
        torch.optim.lr_scheduler.ExponentialLR,
        {"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.01}, "gamma": 0.5},
    )
    svi = SVI(model, delta_guide, sched, Trace_ELBO())
    svi.step()
    sched.step()
    svi.step()
    return float(pyro.param("loc"))


def case_pyro_optim_class():
    from pyro.optim import PyroOptim

    svi = SVI(model, delta_guide, PyroOptim(torch.optim.SGD, {"lr": 0.01}), Trace_ELBO())
    svi.step()
    svi.step()
    return float(pyro.param("loc"))


def case_onecycle():
    sched = pyro.optim.OneCycleLR(
        {"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.01}, "max_lr": 0.1, "total_steps": 20}
    )
    svi = SVI(model, delta_guide, sched, Trace_ELBO())
    out = []
    for _ in range(3):
        svi.step()
        sched.step()
        out.append(float(pyro.param("loc")))
    return out
