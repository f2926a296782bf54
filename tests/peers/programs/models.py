"""Whole models with networks, plates, time and discrete variables, trained for a few steps."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer import (
    MCMC,
    NUTS,
    SVI,
    Predictive,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    config_enumerate,
    infer_discrete,
)
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoMultivariateNormal, AutoNormal
from pyro.optim import Adam, ClippedAdam
from torch import nn

T = torch.tensor


def values_of(svi, *args, steps=3):
    """Losses of some steps; the guide has no randomness."""
    return [svi.step(*args) for _ in range(steps)]


def weights():
    """Parameters after training."""
    return {name: value.detach() for name, value in pyro.get_param_store().items() if "." not in name}


class Pictures(nn.Module):
    """An amortised latent vector for each row, seen through a network."""

    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(8, 4), nn.Linear(2, 8)

    def model(self, x):
        pyro.module("pictures", self)
        with pyro.plate("row", len(x)):
            code = pyro.sample("code", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decode(code)).to_event(1), obs=x)

    def point_guide(self, x):
        pyro.module("pictures", self)
        with pyro.plate("row", len(x)):
            pyro.sample("code", dist.Delta(self.encode(x)[:, :2], event_dim=1))

    def guide(self, x):
        pyro.module("pictures", self)
        loc, log_scale = self.encode(x).chunk(2, -1)
        with pyro.plate("row", len(x)):
            pyro.sample("code", dist.Normal(loc, log_scale.exp()).to_event(1))


def pictures():
    torch.manual_seed(0)
    return Pictures(), torch.rand(6, 8).round()


def case_autoencoder_with_points():
    net, x = pictures()
    return values_of(SVI(net.model, net.point_guide, Adam({"lr": 0.01}), Trace_ELBO()), x)


def case_autoencoder_trains():
    net, x = pictures()
    svi = SVI(net.model, net.guide, Adam({"lr": 0.02}), TraceMeanField_ELBO(num_particles=2))
    first = sum(svi.evaluate_loss(x) for _ in range(20))
    for _ in range(100):
        svi.step(x)
    return sum(svi.evaluate_loss(x) for _ in range(20)) < first


def case_half_labelled():
    torch.manual_seed(0)
    classify, join = nn.Linear(5, 3), nn.Linear(3, 5)

    def model(x, label=None):
        pyro.module("join", join)
        with pyro.plate("row", len(x)):
            label = pyro.sample("label", dist.OneHotCategorical(torch.ones(len(x), 3) / 3), obs=label)
            pyro.sample("x", dist.Normal(join(label), 1.0).to_event(1), obs=x)

    def guide(x, label=None):
        pyro.module("classify", classify)
        with pyro.plate("row", len(x)):
            if label is None:
                pyro.sample("label", dist.OneHotCategorical(logits=classify(x)))

    x = torch.randn(4, 5)
    svi = SVI(
        model,
        config_enumerate(guide, "parallel", expand=True),
        Adam({"lr": 0.1}),
        TraceEnum_ELBO(max_plate_nesting=1),
    )
    losses, weight = values_of(svi, x), classify.weight.detach().clone()
    return losses, weight, values_of(svi, x, torch.eye(3)[[0, 2, 1, 0]])


def case_sequences_of_unequal_length():
    torch.manual_seed(0)
    move, emit, read = nn.Linear(2, 2), nn.Linear(2, 3), nn.GRU(3, 2, batch_first=True)
    x, lengths = torch.rand(4, 5, 3).round(), T([5, 3, 4, 1])

    def model(x, beta):
        pyro.module("move", move)
        pyro.module("emit", emit)
        state = torch.zeros(len(x), 2)
        with pyro.plate("sequence", len(x)):
            for t in pyro.markov(range(5)):
                seen = (t < lengths).unsqueeze(-1)
                with poutine.scale(scale=beta):
                    state = pyro.sample(f"state_{t}", dist.Normal(move(state), 0.5).mask(seen).to_event(1))
                law = dist.Bernoulli(logits=emit(state)).mask(seen).to_event(1)
                pyro.sample(f"x_{t}", law, obs=x[:, t])

    def guide(x, beta):
        pyro.module("read", read)
        told, _ = read(x)
        with pyro.plate("sequence", len(x)):
            for t in pyro.markov(range(5)):
                with poutine.scale(scale=beta):
                    pyro.sample(f"state_{t}", dist.Delta(told[:, t], event_dim=1))

    optimizer = ClippedAdam({"lr": 0.01, "clip_norm": 1.0, "lrd": 0.99, "weight_decay": 0.1})
    return values_of(SVI(model, guide, optimizer, Trace_ELBO()), x, 0.5)


def case_topics():
    torch.manual_seed(1)
    words = torch.randint(9, (6, 4))

    def model(words):
        with pyro.plate("topic", 3):
            of_topic = pyro.sample("of_topic", dist.Dirichlet(torch.ones(9)))
        with pyro.plate("document", 4):
            mix = pyro.sample("mix", dist.Dirichlet(torch.ones(3)))
            with pyro.plate("word", 6):
                topic = pyro.sample("topic_of", dist.Categorical(mix), infer={"enumerate": "parallel"})
                pyro.sample("seen", dist.Categorical(of_topic[topic]), obs=words)

    def guide(words):
        start = (torch.arange(27.0).reshape(3, 9) % 5).softmax(-1)
        topics = pyro.param("topics", start, constraint=constraints.simplex)
        mixes = pyro.param("mixes", torch.ones(4, 3) / 3, constraint=constraints.simplex)
        with pyro.plate("topic", 3):
            pyro.sample("of_topic", dist.Delta(topics, event_dim=1))
        with pyro.plate("document", 4):
            pyro.sample("mix", dist.Delta(mixes, event_dim=1))

    svi = SVI(model, guide, ClippedAdam({"lr": 0.05}), TraceEnum_ELBO(max_plate_nesting=2))
    return values_of(svi, words), weights()


def case_mixture_from_start_to_labels():
    data = T([0.0, 1.0, 10.0, 11.0, 12.0])

    @config_enumerate
    def model(data):
        share = pyro.sample("share", dist.Dirichlet(0.5 * torch.ones(2)))
        spread = pyro.sample("spread", dist.LogNormal(0.0, 2.0))
        with pyro.plate("part", 2):
            centre = pyro.sample("centre", dist.Normal(0.0, 10.0))
        with pyro.plate("row", len(data)):
            part = pyro.sample("of_part", dist.Categorical(share))
            pyro.sample("x", dist.Normal(centre[part], spread), obs=data)

    start = {"share": torch.ones(2) / 2, "spread": T(2.0), "centre": T([1.0, 10.0])}
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    guide = AutoDelta(poutine.block(model, expose=list(start)), init_loc_fn=lambda site: start[site["name"]])
    svi = SVI(model, guide, Adam({"lr": 0.1, "betas": [0.8, 0.99]}), elbo)
    first = svi.loss(model, guide, data)
    losses = values_of(svi, data, steps=30)
    fitted = poutine.replay(model, trace=poutine.trace(guide).get_trace(data))
    best = poutine.trace(infer_discrete(fitted, first_available_dim=-2, temperature=0)).get_trace(data)
    return first, losses, guide.median(), best.nodes["of_part"]["value"]


def case_mixture_by_sampler():
    data = T([-1.0, -1.2, 3.0, 3.3])

    def model():
        share = pyro.sample("share", dist.Beta(2.0, 2.0))
        with pyro.plate("row", 4):
            on = pyro.sample("on", dist.Bernoulli(share))
            pyro.sample("x", dist.Normal(4.0 * on - 1.0, 1.0), obs=data)

    mcmc = MCMC(NUTS(model), num_samples=60, warmup_steps=30, disable_progbar=True)
    mcmc.run()
    draws = mcmc.get_samples()
    return list(draws), draws["share"].shape, abs(float(draws["share"].mean()) - 0.5) < 0.2


def case_hidden_states_in_minibatches():
    torch.manual_seed(0)
    seen = torch.randint(2, (6, 4)).float()

    def model(seen):
        move = pyro.sample("move", dist.Dirichlet(torch.ones(2, 2)).to_event(1))
        emit = pyro.sample("emit", dist.Beta(1.0, 1.0).expand([2]).to_event(1))
        with pyro.plate("sequence", 6, subsample=T([0, 2, 5]), dim=-1) as rows:
            state = 0
            for t in pyro.markov(range(4)):
                state = pyro.sample(
                    f"state_{t}", dist.Categorical(move[state]), infer={"enumerate": "parallel"}
                )
                pyro.sample(f"x_{t}", dist.Bernoulli(emit[state]), obs=seen[rows, t])

    start = {"move": T([[0.7, 0.3], [0.4, 0.6]]), "emit": T([0.2, 0.7])}
    guide = AutoDelta(
        poutine.block(model, expose=["move", "emit"]), init_loc_fn=lambda site: start[site["name"]]
    )
    svi = SVI(model, guide, Adam({"lr": 0.05}), TraceEnum_ELBO(max_plate_nesting=1))
    return values_of(svi, seen), guide.median()


def case_marked_animals():
    torch.manual_seed(0)
    seen = (torch.rand(6, 4) > 0.4).float()

    def model(seen):
        survives = pyro.sample("survives", dist.Uniform(0.0, 1.0))
        is_found = pyro.sample("is_found", dist.Uniform(0.0, 1.0))
        with pyro.plate("animal", 6, dim=-1):
            alive, marked = torch.ones(6), torch.zeros(6).bool()
            for t in pyro.markov(range(4)):
                with poutine.mask(mask=marked):
                    chance = torch.where(marked, survives * alive, T(0.5))
                    alive = pyro.sample(f"alive_{t}", dist.Bernoulli(chance), infer={"enumerate": "parallel"})
                    pyro.sample(f"seen_{t}", dist.Bernoulli(is_found * alive), obs=seen[:, t])
                marked = marked | seen[:, t].bool()

    guide = AutoDelta(poutine.block(model, expose=["survives", "is_found"]), init_loc_fn=lambda site: T(0.6))
    svi = SVI(model, guide, Adam({"lr": 0.05}), TraceEnum_ELBO(max_plate_nesting=1))
    # Pyro keeps probabilities away from 0 by 1e-7.
    return [round(loss, 2) for loss in values_of(svi, seen)]


def case_schools_without_plates():
    def model(sigma, y):
        shift = pyro.sample("shift", dist.Normal(torch.zeros(4), torch.ones(4)))
        mean = pyro.sample("mean", dist.Normal(torch.zeros(1), 10.0))
        pyro.sample("y", dist.Normal(mean + shift, sigma), obs=y)

    mcmc = MCMC(NUTS(model), num_samples=20, warmup_steps=20, disable_progbar=True)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mcmc.run(T([15.0, 10.0, 16.0, 11.0]), T([28.0, 8.0, -3.0, 7.0]))
    return {name: draw.shape for name, draw in mcmc.get_samples().items()}


def case_regression_with_four_guides():
    torch.manual_seed(0)
    x, y = torch.rand(15), torch.randn(15)

    def model(x, y=None):
        slope, level = (
            pyro.sample("slope", dist.Normal(0.0, 1.0)),
            pyro.sample("level", dist.Normal(0.0, 5.0)),
        )
        noise = pyro.sample("noise", dist.Uniform(0.0, 10.0))
        with pyro.plate("row", len(x)):
            return pyro.sample("y", dist.Normal(level + slope * x, noise), obs=y)

    shown = []
    for kind in (AutoDelta, AutoNormal, AutoDiagonalNormal, AutoMultivariateNormal):
        pyro.clear_param_store()
        guide = kind(model, init_loc_fn=lambda site: T(0.5))
        SVI(model, guide, Adam({"lr": 0.01}), Trace_ELBO()).step(x, y)
        draws = Predictive(model, guide=guide, num_samples=7)(x)
        shown.append((sorted(guide.median()), draws["y"].shape))
    return shown


def case_random_walks_in_nested_plates():
    torch.manual_seed(0)
    y = torch.randn(3, 6).cumsum(-1)

    def model(y):
        spread = pyro.sample("spread", dist.LogNormal(-2.0, 1.0))
        with pyro.plate("series", 3, dim=-2):
            start = pyro.sample("start", dist.Normal(0.0, 1.0))
            with pyro.plate("time", 6, dim=-1):
                step = pyro.sample("step", dist.Normal(0.0, spread))
                pyro.sample("y", dist.Normal(start + step.cumsum(-1), 0.5), obs=y)

    values = {"spread": T(0.3), "start": torch.ones(3, 1) * 0.1, "step": torch.ones(3, 6) * 0.2}
    guide = AutoDelta(model, init_loc_fn=lambda site: values[site["name"]])
    return values_of(SVI(model, guide, ClippedAdam({"lr": 0.05}), Trace_ELBO()), y), guide.median()


def case_discrete_guide_with_learned_baseline():
    torch.manual_seed(0)
    guess, baseline = nn.Linear(3, 1), nn.Linear(3, 1)
    x = torch.rand(5, 3)

    def model(x):
        with pyro.plate("row", len(x)):
            on = pyro.sample("on", dist.Bernoulli(0.5 * torch.ones(len(x), 1)).to_event(1))
            pyro.sample("x", dist.Normal(on * torch.ones(3), 1.0).to_event(1), obs=x)

    def guide(x):
        pyro.module("guess", guess)
        pyro.module("baseline", baseline)
        options = {"baseline": {"baseline_value": baseline(x).squeeze(-1)}}
        with pyro.plate("row", len(x)):
            pyro.sample("on", dist.Bernoulli(logits=guess(x)).to_event(1), infer=options)

    def rate(name):
        return {"lr": 0.1 if "baseline" in name else 0.001}

    before = baseline.bias.detach().clone()
    SVI(model, guide, Adam(rate), TraceGraph_ELBO()).step(x)
    return bool((baseline.bias != before).all())
