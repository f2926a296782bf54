"""Handlers of one's own, paths of utility modules, and what programs import from them."""

import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import torch
from pyro.distributions.util import broadcast_shape, sum_leftmost, sum_rightmost
from pyro.infer import ELBO, SVI, Predictive
from pyro.infer.util import torch_item
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import NonlocalExit, am_i_wrapped, effectful
from pyro.poutine.trace_messenger import TraceMessenger
from pyro.poutine.util import prune_subsample_sites, site_is_subsample
from pyro.util import set_rng_seed, torch_isnan


def coffee(water):
    beans = pyro.sample("beans", dist.Gamma(2.0, 1.0))
    return pyro.sample("strength", dist.Normal(beans / water, 0.1))


class Tasting(Messenger):
    """Gives every site the same value at half its weight, and notes what it saw."""

    def __init__(self, value):
        self.value, self.notes = value, []

    def _pyro_sample(self, msg):
        msg["value"], msg["scale"] = self.value, 0.5 * msg["scale"]

    def _pyro_post_sample(self, msg):
        self.notes.append((msg["name"], msg["scale"], msg["fn"].log_prob(msg["value"])))


def case_handler_with_methods_by_type():
    with Tasting(torch.tensor(1.5)) as tasting:
        value = coffee(torch.tensor(2.0))
    return value, tasting.notes


def case_handler_with_one_method():
    class Shift(Messenger):
        def _process_message(self, msg):
            if msg["type"] == "sample" and not msg["is_observed"]:
                msg["value"] = torch.tensor(2.0)
            super()._process_message(msg)

    with poutine.trace() as recorder, Shift():
        result = coffee(torch.tensor(1.0))
    return result, list(recorder.trace.nodes), recorder.trace.log_prob_sum()


def case_extended_trace():
    class Marked(TraceMessenger):
        def _pyro_post_sample(self, msg):
            msg["infer"]["marked"] = True
            super()._pyro_post_sample(msg)

    with Marked() as recorder:
        coffee(torch.tensor(1.0))
    return [(name, site["infer"]["marked"]) for name, site in recorder.trace.nodes.items()]


def case_effectful_function():
    class Answer(Messenger):
        def _pyro_apply(self, msg):
            msg["value"] = msg["fn"](*msg["args"]) + 10
            msg["done"] = True

    @effectful(type="apply")
    def double(x):
        return 2 * x

    with Answer():
        inside = double(3), am_i_wrapped()
    return double(3), am_i_wrapped(), inside


def case_nonlocal_exit():
    try:
        poutine.escape(coffee, escape_fn=lambda site: site["name"] == "strength")(torch.tensor(1.0))
    except NonlocalExit as exit:
        return exit.site["name"]


def case_pruned_trace():
    def model():
        with pyro.plate("row", 6, subsample_size=2):
            pyro.sample("x", dist.Normal(0.0, 1.0))

    trace = poutine.trace(model).get_trace()
    pruned = prune_subsample_sites(trace)
    return site_is_subsample(trace.nodes["row"]), [name for name in pruned.nodes if name[0] != "_"]


def case_utilities():
    set_rng_seed(3)
    x = torch.arange(24.0).reshape(2, 3, 4)
    return (
        torch.rand(2),
        list(broadcast_shape((3, 1), (2,))),
        sum_leftmost(x, 1),
        sum_leftmost(x, -1),
        sum_rightmost(x, 2),
        torch_item(torch.tensor(2.0)),
        bool(torch_isnan(torch.tensor(float("nan")))),
    )


def case_plate_without_a_size():
    data = torch.tensor([1.0, 2.0, 4.0])

    def model():
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0), obs=torch.tensor(0.5))
        with pyro.plate("row"):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=data)

    trace = poutine.trace(model).get_trace()
    return trace.log_prob_sum(), trace.nodes["x"]["value"]


def case_model_takes_the_rows_of_its_guide():
    data = torch.arange(10.0)

    def model(rows):
        with pyro.plate("row", 10) as rows:
            pyro.sample("y", dist.Normal(0.0, 1.0), obs=data[rows])

    def guide(rows):
        with pyro.plate("row", 10, subsample=rows):
            pass

    rows = torch.tensor([1, 5])
    drawn = poutine.trace(guide).get_trace(rows)
    return poutine.trace(poutine.replay(model, trace=drawn)).get_trace(rows).log_prob_sum()


def case_vectorized_trace():
    data = torch.tensor([0.5, -1.0, 2.0])

    def model(y=None):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", 3):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    draws = {"mu": torch.tensor([0.0, 1.0, -1.0, 0.3])}
    trace = Predictive(model, draws).get_vectorized_trace(data)
    trace.compute_log_prob()
    return trace.nodes["mu"]["value"].reshape(-1), list(trace.nodes["y"]["log_prob"].shape)


class Half(ELBO):
    """Half of the usual loss, by an objective of one's own."""

    def _get_trace(self, model, guide, args, kwargs):
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
        model_trace.compute_log_prob()
        guide_trace.compute_score_parts()
        return model_trace, guide_trace

    def differentiable_loss(self, model, guide, *args, **kwargs):
        total = 0.0
        for model_trace, guide_trace in self._get_traces(model, guide, args, kwargs):
            model_part = sum(model_trace.nodes[name]["log_prob_sum"] for name in ("x", "y"))
            parts = guide_trace.nodes["x"]["score_parts"]
            total = total - 0.5 * (model_part - parts.entropy_term.sum()) / self.num_particles
        return total

    def loss(self, model, guide, *args, **kwargs):
        return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def loss_and_grads(self, model, guide, *args, **kwargs):
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return loss.item()


def case_objective_of_ones_own():
    def model(y):
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    def guide(y):
        pyro.sample("x", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))

    svi = SVI(model, guide, pyro.optim.SGD({"lr": 0.1}), Half(num_particles=3))
    losses = [svi.step(torch.tensor(1.0)) for _ in range(3)]
    return losses, svi.evaluate_loss(torch.tensor(1.0)), pyro.param("loc")


def case_parts_of_a_density():
    def model():
        keep = torch.tensor([True, False, True])
        with pyro.plate("row", 3), poutine.scale(scale=2.0), poutine.mask(mask=keep):
            pyro.sample("k", dist.Bernoulli(0.3), obs=torch.tensor([1.0, 0.0, 0.0]))
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor([0.5, 1.0, -0.5]))

    record = poutine.trace(model).get_trace()
    record.compute_score_parts()
    return {
        name: [torch.as_tensor(part) * 1.0 for part in record.nodes[name]["score_parts"]] for name in "kx"
    }
