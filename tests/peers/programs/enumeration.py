"""Exact sums over discrete sites: values, gradients, posteriors."""

import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import torch
from pyro.distributions import constraints
from pyro.infer import TraceEnum_ELBO, config_enumerate, infer_discrete

T = torch.tensor


def grads(model, guide, *args, mpn=3):
    """The loss and its gradients by the unconstrained parameters."""
    pyro.clear_param_store()
    loss = TraceEnum_ELBO(max_plate_nesting=mpn).differentiable_loss(model, guide, *args)
    leaves = dict(pyro.get_param_store().named_parameters())
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return loss.detach(), {name: g for name, g in zip(leaves, found, strict=True) if g is not None}


def no_guide():
    pass


def p01(n, v):
    return pyro.param(n, T(v), constraint=constraints.unit_interval)


def simp(n, v):
    return pyro.param(n, T(v), constraint=constraints.simplex)


data = T([0.5, -0.3, 1.2, 2.0])


def case_mixture():
    @config_enumerate
    def model():
        w = simp("w", [0.3, 0.7])
        shown = pyro.param("means", T([-1.0, 1.0]))
        with pyro.plate("d", 4):
            z = pyro.sample("z", dist.Categorical(w))
            pyro.sample("x", dist.Normal(shown[z], 1.0), obs=data)

    return grads(model, no_guide, mpn=1)


def case_hmm():
    @config_enumerate
    def model():
        init = simp("i", [0.3, 0.3, 0.4])
        tr = simp("t", [[0.5, 0.25, 0.25], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8]])
        shown = pyro.param("means", T([-1.0, 0.0, 1.0]))
        z = None
        for t in pyro.markov(range(4)):
            z = pyro.sample(f"z{t}", dist.Categorical(init if z is None else tr[z]))
            pyro.sample(f"x{t}", dist.Normal(shown[z], 1.0), obs=data[t])

    return grads(model, no_guide, mpn=0)


def case_hmm_plate():
    seqs = torch.randn(5, 4)

    @config_enumerate
    def model():
        tr = simp("t", [[0.5, 0.25, 0.25], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8]])
        shown = pyro.param("means", T([-1.0, 0.0, 1.0]))
        with pyro.plate("s", 5, dim=-1):
            z = 0
            for t in pyro.markov(range(4)):
                z = pyro.sample(f"z{t}", dist.Categorical(tr[z]))
                pyro.sample(f"x{t}", dist.Normal(shown[z], 1.0), obs=seqs[:, t])

    return grads(model, no_guide, mpn=1)


def case_hmm2():
    @config_enumerate
    def model():
        tr = simp("t", [[[0.5, 0.5], [0.25, 0.75]], [[0.2, 0.8], [0.6, 0.4]]])
        shown = pyro.param("means", T([-1.0, 1.0]))
        z1 = z0 = T(0)
        for t in pyro.markov(range(4), history=2):
            z = pyro.sample(f"z{t}", dist.Categorical(tr[z0, z1]))
            pyro.sample(f"x{t}", dist.Normal(shown[z], 1.0), obs=data[t])
            z0, z1 = z1, z

    return grads(model, no_guide, mpn=0)


def case_factorial_hmm():
    @config_enumerate
    def model():
        ta = simp("ta", [[0.5, 0.5], [0.25, 0.75]])
        tb = simp("tb", [[0.2, 0.8], [0.6, 0.4]])
        shown = pyro.param("means", T([[-1.0, 1.0], [2.0, 0.5]]))
        a = b = T(0)
        for t in pyro.markov(range(4)):
            a = pyro.sample(f"a{t}", dist.Categorical(ta[a]))
            b = pyro.sample(f"b{t}", dist.Categorical(tb[b]))
            pyro.sample(f"x{t}", dist.Normal(shown[a, b], 1.0), obs=data[t])

    return grads(model, no_guide, mpn=0)


def case_nested_plates():
    d = torch.randn(3, 4)

    @config_enumerate
    def model():
        p = simp("p", [[0.5, 0.5], [0.2, 0.8]])
        q = simp("q", [0.4, 0.6])
        shown = pyro.param("means", T([-1.0, 1.0]))
        with pyro.plate("g", 3, dim=-2):
            a = pyro.sample("a", dist.Categorical(q))
            with pyro.plate("r", 4, dim=-1):
                b = pyro.sample("b", dist.Categorical(p[a]))
                pyro.sample("x", dist.Normal(shown[b], 1.0), obs=d)

    return grads(model, no_guide, mpn=2)


def case_guide_parallel():
    def model():
        p = simp("p", [[0.5, 0.5], [0.2, 0.8]])
        a = pyro.sample("a", dist.Categorical(T([0.4, 0.6])))
        with pyro.plate("r", 4):
            b = pyro.sample("b", dist.Categorical(p[a]))
            pyro.sample("x", dist.Normal(b.float(), 1.0), obs=data)

    @config_enumerate
    def guide():
        qa = simp("qa", [0.3, 0.7])
        qb = simp("qb", [0.6, 0.4])
        pyro.sample("a", dist.Categorical(qa))
        with pyro.plate("r", 4):
            pyro.sample("b", dist.Categorical(qb))

    return grads(model, guide, mpn=1)


def case_guide_dep():
    def model():
        p = simp("p", [[0.5, 0.5], [0.2, 0.8]])
        a = pyro.sample("a", dist.Categorical(T([0.4, 0.6])))
        with pyro.plate("r", 4):
            b = pyro.sample("b", dist.Categorical(p[a]))
            pyro.sample("x", dist.Normal(b.float(), 1.0), obs=data)

    @config_enumerate
    def guide():
        qa = simp("qa", [0.3, 0.7])
        qb = simp("qb", [[0.6, 0.4], [0.1, 0.9]])
        a = pyro.sample("a", dist.Categorical(qa))
        with pyro.plate("r", 4):
            pyro.sample("b", dist.Categorical(qb[a]))

    return grads(model, guide, mpn=1)


def case_guide_seq():
    def model():
        p = simp("p", [[0.5, 0.5], [0.2, 0.8]])
        a = pyro.sample("a", dist.Categorical(T([0.4, 0.6])))
        b = pyro.sample("b", dist.Categorical(p[a]))
        pyro.sample("x", dist.Normal(b.float(), 1.0), obs=data[0])

    def guide():
        qa = simp("qa", [0.3, 0.7])
        qb = simp("qb", [[0.6, 0.4], [0.1, 0.9]])
        a = pyro.sample("a", dist.Categorical(qa), infer={"enumerate": "sequential"})
        pyro.sample("b", dist.Categorical(qb[a]), infer={"enumerate": "sequential"})

    return grads(model, guide, mpn=1)


def case_guide_and_model():
    @config_enumerate
    def model():
        p = simp("p", [[0.5, 0.5], [0.2, 0.8]])
        r = simp("r2", [[0.3, 0.7], [0.9, 0.1]])
        a = pyro.sample("a", dist.Categorical(T([0.4, 0.6])))
        with pyro.plate("r", 4):
            b = pyro.sample("b", dist.Categorical(p[a]))
            c = pyro.sample("c", dist.Categorical(r[b]))
            pyro.sample("x", dist.Normal(c.float(), 1.0), obs=data)

    @config_enumerate
    def guide():
        qa = simp("qa", [0.3, 0.7])
        pyro.sample("a", dist.Categorical(qa))
        with pyro.plate("r", 4):
            pyro.sample("b", dist.Categorical(simp("qb", [0.6, 0.4])))

    return grads(model, guide, mpn=1)


def case_subsample():
    d = torch.randn(10)

    @config_enumerate
    def model():
        w = simp("w", [0.3, 0.7])
        shown = pyro.param("means", T([-1.0, 1.0]))
        with pyro.plate("d", 10, subsample=T([1, 3, 5])) as i:
            z = pyro.sample("z", dist.Categorical(w))
            pyro.sample("x", dist.Normal(shown[z], 1.0), obs=d[i])

    return grads(model, no_guide, mpn=1)


def case_scale():
    @config_enumerate
    def model():
        w = simp("w", [0.3, 0.7])
        shown = pyro.param("means", T([-1.0, 1.0]))
        with pyro.plate("d", 4):
            z = pyro.sample("z", dist.Categorical(w))
            pyro.sample("x", dist.Normal(shown[z], 1.0), obs=data)

    return grads(poutine.scale(model, 2.5), no_guide, mpn=1)


def case_scale_guide():
    def model():
        w = simp("w", [0.3, 0.7])
        with pyro.plate("d", 4):
            z = pyro.sample("z", dist.Categorical(w))
            pyro.sample("x", dist.Normal(z.float(), 1.0), obs=data)

    @config_enumerate
    def guide():
        with pyro.plate("d", 4):
            pyro.sample("z", dist.Categorical(simp("q", [0.2, 0.8])))

    return grads(poutine.scale(model, 2.5), poutine.scale(guide, 2.5), mpn=1)


def case_mask():
    m = T([True, False, True, True])

    @config_enumerate
    def model():
        w = simp("w", [0.3, 0.7])
        shown = pyro.param("means", T([-1.0, 1.0]))
        with pyro.plate("d", 4), poutine.mask(mask=m):
            z = pyro.sample("z", dist.Categorical(w))
            pyro.sample("x", dist.Normal(shown[z], 1.0), obs=data)

    return grads(model, no_guide, mpn=1)


def case_mask_hmm():
    seqs = torch.randn(3, 4)
    lens = T([4, 2, 3])

    @config_enumerate
    def model():
        tr = simp("t", [[0.5, 0.25, 0.25], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8]])
        shown = pyro.param("means", T([-1.0, 0.0, 1.0]))
        with pyro.plate("s", 3, dim=-1):
            z = 0
            for t in pyro.markov(range(4)):
                with poutine.mask(mask=t < lens):
                    z = pyro.sample(f"z{t}", dist.Categorical(tr[z]))
                    pyro.sample(f"x{t}", dist.Normal(shown[z], 1.0), obs=seqs[:, t])

    return grads(model, no_guide, mpn=1)


def case_continuous_guide():
    @config_enumerate
    def model():
        w = simp("w", [0.3, 0.7])
        mu = pyro.sample("mu", dist.Normal(T([0.0, 1.0]), 1.0).to_event(1))
        with pyro.plate("d", 4):
            z = pyro.sample("z", dist.Categorical(w))
            pyro.sample("x", dist.Normal(mu[..., z] if mu.dim() == 1 else mu, 1.0), obs=data)

    def guide():
        pyro.sample("mu", dist.Delta(pyro.param("m", T([-0.5, 0.5])), event_dim=1))

    return grads(model, guide, mpn=1)


def case_sequential_plate():
    @config_enumerate
    def model():
        w = simp("w", [0.3, 0.7])
        shown = pyro.param("means", T([-1.0, 1.0]))
        a = pyro.sample("a", dist.Bernoulli(0.4))
        for i in pyro.plate("d", 4):
            z = pyro.sample(f"z{i}", dist.Categorical(w))
            pyro.sample(f"x{i}", dist.Normal(shown[z] + a, 1.0), obs=data[i])

    return grads(model, no_guide, mpn=0)


def case_bern_onehot():
    @config_enumerate
    def model():
        w = simp("w", [0.3, 0.5, 0.2])
        shown = pyro.param("means", T([-1.0, 1.0, 0.0]))
        b = pyro.sample("b", dist.Bernoulli(p01("pb", 0.3)))
        with pyro.plate("d", 4):
            z = pyro.sample("z", dist.OneHotCategorical(w))
            pyro.sample("x", dist.Normal((shown * z).sum(-1) + b, 1.0), obs=data)

    return grads(model, no_guide, mpn=1)


def case_binomial():
    @config_enumerate
    def model():
        b = pyro.sample("b", dist.Binomial(3, p01("pb", 0.3)))
        pyro.sample("x", dist.Normal(b, 1.0), obs=data[0])

    return grads(model, no_guide, mpn=0)


def case_marginals():
    @config_enumerate
    def model():
        a = pyro.sample("a", dist.Categorical(T([0.4, 0.6])))
        with pyro.plate("r", 4):
            b = pyro.sample("b", dist.Bernoulli(T([0.3, 0.8])[a]))
            pyro.sample("x", dist.Normal(b, 1.0), obs=data)

    m = TraceEnum_ELBO(max_plate_nesting=1).compute_marginals(model, no_guide)
    return {"a": m["a"].logits.log_softmax(-1), "b": m["b"].probs}


def case_infer_discrete_map():
    @infer_discrete(first_available_dim=-2, temperature=0)
    @config_enumerate
    def model():
        a = pyro.sample("a", dist.Categorical(T([0.4, 0.6])))
        with pyro.plate("r", 4):
            b = pyro.sample("b", dist.Bernoulli(T([0.3, 0.8])[a]))
            pyro.sample("x", dist.Normal(b, 1.0), obs=data)
        return a, b

    return model()


def case_score_fn_mix_loss():
    def model():
        a = pyro.sample("a", dist.Bernoulli(0.3))
        b = pyro.sample("b", dist.Bernoulli(0.2 + 0.6 * a))
        pyro.sample("x", dist.Normal(a + b, 1.0), obs=data[0])

    def guide():
        pyro.sample("a", dist.Bernoulli(p01("q", 0.6)), infer={"enumerate": "parallel"})
        pyro.sample("b", dist.Bernoulli(p01("r", 0.3)), infer={"enumerate": "parallel"})

    return grads(model, guide, mpn=0)


def case_expand_hmm():
    def model():
        tr = simp("t", [[0.5, 0.25, 0.25], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8]])
        shown = pyro.param("means", T([-1.0, 0.0, 1.0]))
        with pyro.plate("s", 3, dim=-1):
            z = 0
            for t in pyro.markov(range(5)):
                z = pyro.sample(f"z{t}", dist.Categorical(tr[z]))
                pyro.sample(f"x{t}", dist.Normal(shown[z], 1.0), obs=torch.arange(3.0) - t)

    return grads(config_enumerate(model, "parallel", expand=True), no_guide, mpn=1)


def case_expand_discrete():
    def model():
        a = pyro.sample("a", dist.Categorical(T([0.4, 0.6])))
        with pyro.plate("r", 4):
            b = pyro.sample("b", dist.Bernoulli(T([0.3, 0.8])[a]))
            pyro.sample("x", dist.Normal(b, 1.0), obs=data)
        return a, b

    return infer_discrete(
        config_enumerate(model, "parallel", expand=True), first_available_dim=-2, temperature=0
    )()


def case_expand_marg():
    def model():
        a = pyro.sample("a", dist.Categorical(T([0.4, 0.6])))
        with pyro.plate("r", 4):
            b = pyro.sample("b", dist.Bernoulli(T([0.3, 0.8])[a]))
            pyro.sample("x", dist.Normal(b, 1.0), obs=data)
        return a, b

    m = TraceEnum_ELBO(max_plate_nesting=1).compute_marginals(
        config_enumerate(model, "parallel", expand=True), no_guide
    )
    return {"a": m["a"].logits.log_softmax(-1), "b": m["b"].probs}


def case_dmm_like_plate_time():
    # vectorized markov pieces: plate of tones inside time
    seqs = torch.randint(0, 2, (3, 5, 4)).float()

    @config_enumerate
    def model():
        px = simp("px", [[0.5, 0.25, 0.25], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8]])
        py = pyro.param("py", torch.rand(3, 2, 4) * 0.8 + 0.1, constraint=constraints.unit_interval)
        tones = pyro.plate("tones", 4, dim=-1)
        with pyro.plate("s", 3, dim=-2):
            x = 0
            y = 0
            for t in pyro.markov(range(5)):
                x = pyro.sample(f"x{t}", dist.Categorical(px[x]))
                with tones as tn:
                    y = pyro.sample(
                        f"y{t}", dist.Bernoulli(py[x, torch.as_tensor(y).long(), tn]), obs=seqs[:, t]
                    ).long()

    return grads(model, no_guide, mpn=2)


def case_semi_seq_markov():
    @config_enumerate
    def model():
        tr = simp("t", [[0.5, 0.5], [0.25, 0.75]])
        for i in pyro.plate("s", 2):
            z = 0
            for t in pyro.markov(range(3)):
                z = pyro.sample(f"z{i}{t}", dist.Categorical(tr[z]))
                pyro.sample(f"x{i}{t}", dist.Normal(z * 1.0, 1.0), obs=data[t])

    return grads(model, no_guide, mpn=0)


def case_guide_hmm():
    def model():
        tr = simp("t", [[0.5, 0.5], [0.25, 0.75]])
        z = 0
        for t in pyro.markov(range(4)):
            z = pyro.sample(f"z{t}", dist.Categorical(tr[z]))
            pyro.sample(f"x{t}", dist.Normal(z * 1.0, 1.0), obs=data[t])

    @config_enumerate
    def guide():
        q = simp("q", [[0.5, 0.5], [0.3, 0.7]])
        z = 0
        for t in pyro.markov(range(4)):
            z = pyro.sample(f"z{t}", dist.Categorical(q[z]))

    return grads(model, guide, mpn=0)


def case_obs_mask_enum():
    @config_enumerate
    def model():
        w = simp("w", [0.3, 0.7])
        with pyro.plate("d", 4):
            z = pyro.sample(
                "z", dist.Categorical(w), obs=T([0, 1, 0, 1]), obs_mask=T([True, False, False, True])
            )
            pyro.sample("x", dist.Normal(z * 1.0, 1.0), obs=data)

    return grads(model, no_guide, mpn=1)
