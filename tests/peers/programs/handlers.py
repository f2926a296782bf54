"""Effect handlers: trace, replay, block, condition, do, lift, scale, mask, seed, queue, escape and others."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints

T = torch.tensor


DATA = T([0.5, -1.0, 2.0])


def model(x=DATA):
    loc = pyro.sample("loc", dist.Normal(0.0, 3.0))
    scale = pyro.param("scale", T(2.0), constraint=constraints.positive)
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(loc, 1.0))
        pyro.sample("obs", dist.Normal(loc, scale), obs=x)
    return loc


def nodes(tr):
    return [(k, v["type"]) for k, v in tr.nodes.items() if v["type"] in ("sample", "param") and k != "data"]


def case_trace_nodes():
    tr = poutine.trace(model).get_trace()
    return (
        nodes(tr),
        tr.nodes["obs"]["is_observed"],
        tr.nodes["_INPUT"]["args"],
        tr.nodes["_RETURN"]["value"].shape,
    )


def case_log_prob_sum():
    c = poutine.condition(model, data={"loc": T(1.0), "z": T([0.0, 1.0, 2.0])})
    tr = poutine.trace(c).get_trace()
    total = tr.log_prob_sum()
    tr.compute_log_prob()
    return (
        total,
        {k: tr.nodes[k]["log_prob"] for k in ("loc", "z", "obs")},
        tr.nodes["obs"]["log_prob_sum"],
        tr.log_prob_sum(site_filter=lambda name, site: name == "loc"),
    )


def case_replay():
    tr = poutine.trace(model).get_trace()
    again = poutine.trace(poutine.replay(model, trace=tr)).get_trace()
    return [bool((again.nodes[k]["value"] == tr.nodes[k]["value"]).all()) for k in ("loc", "z")]


def case_block_hide():
    return nodes(poutine.trace(poutine.block(model, hide=["loc"])).get_trace())


def case_block_expose():
    return nodes(poutine.trace(poutine.block(model, expose=["z"])).get_trace())


def case_block_types():
    return nodes(poutine.trace(poutine.block(model, hide_types=["param"])).get_trace()), nodes(
        poutine.trace(poutine.block(model, expose_types=["sample"])).get_trace()
    )


def case_block_fn():
    return nodes(
        poutine.trace(poutine.block(model, hide_fn=lambda m: m["name"].startswith("shown"))).get_trace()
    ), nodes(poutine.trace(poutine.block(model, expose_fn=lambda m: m["type"] == "param")).get_trace())


def case_block_observe_type():
    return nodes(poutine.trace(poutine.block(model, hide_types=["observe"])).get_trace())


def case_condition():
    tr = poutine.trace(poutine.condition(model, data={"loc": T(2.0)})).get_trace()
    return tr.nodes["loc"]["is_observed"], tr.nodes["loc"]["value"]


def case_condition_trace():
    tr = poutine.trace(model).get_trace()
    c = poutine.trace(poutine.condition(model, data=tr)).get_trace()
    return c.nodes["loc"]["is_observed"], c.nodes["loc"]["value"] == tr.nodes["loc"]["value"]


def case_pyro_condition_do():
    def m():
        z = pyro.sample("z", dist.Normal(10.0, 1e-6))
        return pyro.sample("x", dist.Normal(z, 1e-6))

    return pyro.do(m, data={"z": T(-5.0)})(), pyro.condition(m, data={"z": T(3.0)})()


def case_do_trace():
    def m():
        z = pyro.sample("z", dist.Normal(10.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0))

    tr = poutine.trace(poutine.do(m, data={"z": T(0.0)})).get_trace()
    return sorted(k for k in tr.nodes if tr.nodes[k]["type"] == "sample" and k == "x")


def case_lift():
    lifted = poutine.lift(model, prior={"scale": dist.Exponential(0.3)})
    return nodes(poutine.trace(lifted).get_trace())


def case_lift_callable():
    lifted = poutine.lift(model, prior=dist.Exponential(0.3))
    return nodes(poutine.trace(lifted).get_trace())


def case_scale():
    tr = poutine.trace(
        poutine.scale(poutine.condition(model, data={"loc": T(1.0), "z": T([0.0, 1.0, 2.0])}), scale=0.1)
    ).get_trace()
    return tr.log_prob_sum()


def case_scale_context():
    with poutine.trace() as tp, poutine.scale(scale=10.0):
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=T(1.0))
    return tp.trace.log_prob_sum(), tp.trace.nodes["x"]["scale"]


def case_mask_bool():
    def f():
        with poutine.mask(mask=False):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=T(1.0))

    return poutine.trace(f).get_trace().log_prob_sum()


def case_dist_mask():
    tr = poutine.trace(
        lambda: pyro.sample(
            "x", dist.Normal(torch.zeros(3), 1.0).mask(T([True, False, True])), obs=torch.ones(3)
        )
    ).get_trace()
    tr.compute_log_prob()
    return tr.nodes["x"]["log_prob"]


def case_seed():
    f = poutine.seed(lambda: pyro.sample("x", dist.Normal(0.0, 1.0)), rng_seed=1)
    return f() == f()


def case_substitute():
    tr = poutine.trace(poutine.substitute(model, data={"scale": T(3.0)})).get_trace()
    return tr.nodes["scale"]["value"]


def case_uncondition():
    tr = poutine.trace(poutine.uncondition(model)).get_trace()
    return tr.nodes["obs"]["is_observed"], tr.nodes["obs"]["infer"].get("was_observed")


def case_uncondition_keeps_scale():
    def m():
        with poutine.scale(scale=2.0), pyro.plate("p", 2):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=T([1.0, 2.0]))

    tr = poutine.trace(poutine.uncondition(m)).get_trace()
    return tr.nodes["x"]["is_observed"], tr.nodes["x"]["scale"]


def case_infer_config():
    tr = poutine.trace(
        poutine.infer_config(model, config_fn=lambda s: {"tag": s["name"]} if s["type"] == "sample" else {})
    ).get_trace()
    return tr.nodes["z"]["infer"]["tag"]


def case_broadcast():
    def m():
        with pyro.plate("p", 3, dim=-2), pyro.plate("q", 2, dim=-1):
            return pyro.sample("x", dist.Normal(0.0, 1.0))

    tr = poutine.trace(poutine.broadcast(m)).get_trace()
    return tr.nodes["x"]["value"].shape


def case_equalize():
    def m():
        a = pyro.sample("a_x", dist.Normal(0.0, 1.0))
        b = pyro.sample("b_x", dist.Normal(0.0, 1.0))
        return a, b

    a, b = poutine.equalize(m, sites=["a_x", "b_x"])()
    return a == b


def case_equalize_param_pattern():
    def m():
        a = pyro.param("a_x", T(1.0))
        b = pyro.param("b_x", T(2.0))
        return a, b

    return poutine.equalize(m, sites=".+_x", type="param")()


def case_queue():
    from queue import Queue

    def coin():
        a = pyro.sample("a", dist.Bernoulli(0.5))
        b = pyro.sample("b", dist.Bernoulli(0.5))
        return a + b

    q = Queue()
    q.put(poutine.Trace())
    f = poutine.queue(coin, queue=q)
    tot = []
    while not q.empty():
        tot.append(float(f()))
    return sorted(tot)


def case_escape():
    def m():
        pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample("b", dist.Normal(0.0, 1.0))

    f = poutine.escape(m, escape_fn=lambda msg: msg["name"] == "b")
    tr = poutine.trace(f)
    try:
        tr()
    except Exception as e:
        return e.site["name"]


def case_decorators():
    @poutine.scale(scale=2.0)
    @poutine.mask(mask=True)
    def m():
        return pyro.sample("x", dist.Normal(0.0, 1.0), obs=T(0.5))

    return poutine.trace(m).get_trace().log_prob_sum()


def case_trace_context():
    with poutine.trace() as tr:
        pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample("b", dist.Normal(0.0, 1.0), obs=T(0.0))
    return list(tr.trace.nodes)


def case_trace_param_only():
    with poutine.trace(param_only=True) as tr:
        model()
    return list(tr.trace.nodes), [s["value"].unconstrained() for s in tr.trace.nodes.values()]


def case_effectful_site_fields():
    tr = poutine.trace(model).get_trace()
    s = tr.nodes["z"]
    f = s["cond_indep_stack"][0]
    return s["name"], s["type"], s["infer"], s["scale"], s["mask"], f.name, f.dim, f.size, f.vectorized


def case_trace_copy_edges():
    tr = poutine.trace(model).get_trace()
    c = tr.copy()
    c.remove_node("loc")
    return "loc" in tr.nodes, "loc" in c.nodes


def case_pack_format_shapes():
    tr = poutine.trace(model).get_trace()
    tr.compute_log_prob()
    return isinstance(tr.format_shapes(), str)


def case_markov_context():
    def m():
        x = T(0.0)
        for i in pyro.markov(range(3)):
            x = pyro.sample(f"x{i}", dist.Normal(x, 1.0))

    return nodes(poutine.trace(m).get_trace())


def case_get_trace_detach():
    tr = poutine.trace(model).get_trace()
    tr.detach_()
    return tr.nodes["scale"]["value"].requires_grad


def case_factor():
    def m():
        pyro.factor("f", T(-2.0))

    return poutine.trace(m).get_trace().log_prob_sum()


def case_deterministic():
    def m():
        return pyro.deterministic("d", T([1.0, 2.0]))

    tr = poutine.trace(m).get_trace()
    return tr.nodes["d"]["value"], tr.log_prob_sum()


def case_sample_outside():
    return pyro.sample("x", dist.Normal(0.0, 1.0)).shape


def case_get_mask():
    def m():
        with poutine.mask(mask=T([True, False])):
            return pyro.poutine.get_mask()

    return m()
