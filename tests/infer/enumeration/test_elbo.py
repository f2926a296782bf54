"""``TraceEnum_ELBO`` against sums over every combination of values."""

from __future__ import annotations

import itertools

import pytest
import torch

from brancher import ParamStore, factor, get_param_store, handlers, markov, param, plate, sample
from brancher import distributions as dist
from brancher.distributions import constraints
from brancher.errors import BrancherError, GuideError, InferenceError, SiteError
from brancher.handlers import enum
from brancher.infer import SVI, Predictive, Trace_ELBO, TraceEnum_ELBO, config_enumerate, infer_discrete
from brancher.infer.autoguide import AutoNormal
from brancher.optim import Adam

PRIOR = torch.tensor([0.2, 0.3, 0.5])
STEP = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4]])
DATA = torch.tensor([0.3, -1.2, 2.1, 0.4])


def no_guide():
    pass


def brute_force(model, sizes):
    """Log of the sum of joint densities over all values of scalar sites."""
    names = list(sizes)
    total = []
    for values in itertools.product(*(range(size) for size in sizes.values())):
        data = {name: torch.tensor(value) for name, value in zip(names, values, strict=True)}
        with handlers.substitute(data=data):
            total.append(handlers.trace(model).get_trace().log_prob_sum())
    return torch.stack(total).logsumexp(0)


def mixture():
    weight = param("weight", PRIOR.clone(), constraint=constraints.simplex)
    with plate("row", 4):
        z = sample("z", dist.Categorical(weight))
        sample("x", dist.Normal(z.float(), 1.0), obs=DATA)


def chain():
    step = param("step", STEP.clone(), constraint=constraints.simplex)
    z = torch.tensor(0)
    for t in markov(range(4)):
        z = sample(f"z_{t}", dist.Categorical(step[z]))
        sample(f"x_{t}", dist.Normal(z.float(), 1.0), obs=DATA[t])


def second_order():
    before, z = torch.tensor(0), torch.tensor(0)
    for t in markov(range(4), history=2):
        new = sample(f"z_{t}", dist.Categorical(STEP[(z + before) % 3]))
        sample(f"x_{t}", dist.Normal(new.float(), 1.0), obs=DATA[t])
        before, z = z, new


def recursive():
    @markov
    def go(t, z):
        if t < 4:
            z = sample(f"z_{t}", dist.Categorical(STEP[z]))
            sample(f"x_{t}", dist.Normal(z.float(), 1.0), obs=DATA[t])
            go(t + 1, z)

    go(0, torch.tensor(0))


def looped_plate():
    for i in plate("row", 4):
        z = sample(f"z_{i}", dist.Categorical(PRIOR))
        sample(f"x_{i}", dist.Normal(z.float(), 1.0), obs=DATA[i])


def with_factor():
    a = sample("z_0", dist.Categorical(PRIOR))
    b = sample("z_1", dist.Categorical(STEP[a]))
    factor("f", torch.where(a == b, 0.5, -1.0))


STEPS = {f"z_{t}": 3 for t in range(4)}


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        (chain, STEPS),
        (second_order, STEPS),
        (recursive, STEPS),
        (looped_plate, STEPS),
        (with_factor, {"z_0": 3, "z_1": 3}),
    ],
)
def test_loss_is_the_log_of_the_sum_over_all_values(model, sizes):
    loss = TraceEnum_ELBO().differentiable_loss(config_enumerate(model), no_guide)
    assert torch.isclose(-loss, brute_force(model, sizes), atol=1e-5)


def test_gradient_is_that_of_the_sum():
    loss = TraceEnum_ELBO().differentiable_loss(config_enumerate(chain), no_guide)
    leaf = get_param_store().leaf("step")
    (ours,) = torch.autograd.grad(loss, leaf)
    (exact,) = torch.autograd.grad(-brute_force(chain, STEPS), leaf)
    assert torch.allclose(ours, exact, atol=1e-5)


def test_rows_of_a_plate_are_summed_one_by_one():
    loss = TraceEnum_ELBO().differentiable_loss(config_enumerate(mixture), no_guide)
    rows = dist.Normal(torch.arange(3.0), 1.0).log_prob(DATA[:, None]) + PRIOR.log()
    assert torch.isclose(-loss, rows.logsumexp(-1).sum())


def test_nested_plates_are_summed_from_the_inside():
    data = torch.arange(6.0).reshape(3, 2) / 3.0

    @config_enumerate
    def model():
        g = sample("g", dist.Categorical(PRIOR))
        with plate("a", 2, dim=-1):
            y = sample("y", dist.Categorical(STEP[g]))
            with plate("b", 3, dim=-2):
                z = sample("z", dist.Categorical(STEP[y]))
                sample("x", dist.Normal(z.float(), 1.0), obs=data)

    likelihood = dist.Normal(torch.arange(3.0), 1.0).log_prob(data[..., None])  # b, a, z
    given_y = (likelihood[..., None, :] + STEP.log()).logsumexp(-1).sum(0)  # a, y
    given_g = (given_y[:, None, :] + STEP.log()).logsumexp(-1).sum(0)  # g
    expected = (given_g + PRIOR.log()).logsumexp(-1)
    assert torch.isclose(-TraceEnum_ELBO().differentiable_loss(model, no_guide), expected, atol=1e-5)


def test_subsampled_plate_scales_the_marginal_of_its_rows():
    @config_enumerate
    def model():
        with plate("row", 4, subsample=torch.tensor([0, 2])) as rows:
            z = sample("z", dist.Categorical(PRIOR))
            sample("x", dist.Normal(z.float(), 1.0), obs=DATA[rows])

    rows = dist.Normal(torch.arange(3.0), 1.0).log_prob(DATA[[0, 2], None]) + PRIOR.log()
    expected = 2.0 * rows.logsumexp(-1).sum()
    assert torch.isclose(-TraceEnum_ELBO().differentiable_loss(model, no_guide), expected)


def test_subsampled_rows_under_a_global_variable_count_several_times_inside_the_sum():
    @config_enumerate
    def model():
        z = sample("z", dist.Categorical(PRIOR))
        with plate("row", 4, subsample=torch.tensor([0, 2])) as rows:
            sample("x", dist.Normal(z.float(), 1.0), obs=DATA[rows])

    rows = dist.Normal(torch.arange(3.0), 1.0).log_prob(DATA[[0, 2], None])
    expected = (2.0 * rows.sum(0) + PRIOR.log()).logsumexp(-1)
    assert torch.isclose(-TraceEnum_ELBO().differentiable_loss(model, no_guide), expected)


def test_masked_rows_count_for_nothing():
    @config_enumerate
    def model():
        with plate("row", 4), handlers.mask(mask=torch.tensor([True, False, True, False])):
            z = sample("z", dist.Categorical(PRIOR))
            sample("x", dist.Normal(z.float(), 1.0), obs=DATA)

    rows = dist.Normal(torch.arange(3.0), 1.0).log_prob(DATA[[0, 2], None]) + PRIOR.log()
    expected = rows.logsumexp(-1).sum()
    assert torch.isclose(-TraceEnum_ELBO().differentiable_loss(model, no_guide), expected)


def test_impossible_values_leave_finite_gradients():
    @config_enumerate
    def model():
        p = param("p", torch.tensor(0.4), constraint=constraints.unit_interval)
        z = sample("z", dist.Bernoulli(p))
        sample("x", dist.Delta(z), obs=torch.tensor(1.0))

    loss = TraceEnum_ELBO().differentiable_loss(model, no_guide)
    loss.backward()
    leaf = get_param_store().leaf("p")
    assert torch.isclose(-loss, torch.tensor(0.4).log())
    assert torch.isclose(leaf.grad, torch.tensor(-0.6))  # d(-log sigmoid(u))/du = -(1 - p)


def test_impossible_data_under_one_value_leave_finite_gradients():
    @config_enumerate
    def model():
        p = param("p", torch.tensor(0.4), constraint=constraints.unit_interval)
        z = sample("z", dist.Bernoulli(0.5))
        sample("x", dist.Bernoulli(p * z), obs=torch.tensor(1.0))

    loss = TraceEnum_ELBO().differentiable_loss(model, no_guide)
    (grad,) = torch.autograd.grad(loss, get_param_store().leaf("p"))
    assert torch.isclose(-loss, torch.tensor(0.2).log())
    assert torch.isclose(grad, torch.tensor(-0.6))  # as above


def test_partly_observed_site_is_summed_where_it_is_not():
    seen = torch.tensor([True, False, False, True])

    @config_enumerate
    def model():
        with plate("row", 4):
            z = sample("z", dist.Bernoulli(0.3), obs=torch.tensor([0.0, 1.0, 0.0, 1.0]), obs_mask=seen)
            sample("x", dist.Normal(z, 1.0), obs=DATA)

    parts = (
        dist.Normal(torch.tensor([0.0, 1.0]), 1.0).log_prob(DATA[:, None]) + torch.tensor([0.7, 0.3]).log()
    )
    right = parts[0, 0] + parts[1:3].logsumexp(-1).sum() + parts[3, 1]
    loss = TraceEnum_ELBO().differentiable_loss(model, no_guide)
    assert torch.isclose(-loss, right)


def test_expanded_values_give_the_same_sum():
    def model():
        z = torch.tensor(0)
        with plate("row", 4):
            for t in markov(range(3)):
                z = sample(f"z_{t}", dist.Categorical(STEP[z]))
                sample(f"x_{t}", dist.Normal(z.float(), 1.0), obs=DATA)

    record = handlers.trace(enum(config_enumerate(model, expand=True), first_available_dim=-2)).get_trace()
    assert record["z_1"].value.shape == (3, 3, 4)
    losses = [
        TraceEnum_ELBO().loss(config_enumerate(model, expand=expand), no_guide) for expand in (False, True)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


# Guides


def target():
    a = sample("a", dist.Categorical(PRIOR))
    b = sample("b", dist.Categorical(STEP[a]))
    sample("x", dist.Normal(a.float() + b, 1.0), obs=DATA[0])


def make_guide(kind_a, kind_b):
    def guide():
        q = param("q", torch.tensor([0.5, 0.3, 0.2]), constraint=constraints.simplex)
        step = param("q_step", STEP.flip(0).clone(), constraint=constraints.simplex)
        a = sample("a", dist.Categorical(q), infer={"enumerate": kind_a})
        sample("b", dist.Categorical(step[a]), infer={"enumerate": kind_b})

    return guide


def exact_guide_loss():
    q, step = torch.tensor([0.5, 0.3, 0.2]), STEP.flip(0)
    joint_q = q[:, None] * step
    joint_p = PRIOR[:, None].log() + STEP.log()
    values = torch.arange(3.0)
    joint_p = joint_p + dist.Normal(values[:, None] + values, 1.0).log_prob(DATA[0])
    return (joint_q * (joint_q.log() - joint_p)).sum()


KINDS = ["parallel", "sequential"]


@pytest.mark.parametrize("kinds", list(itertools.product(KINDS, KINDS)))
def test_guide_is_averaged_over(kinds):
    loss = TraceEnum_ELBO().differentiable_loss
    total = loss(target, make_guide(*kinds))
    assert torch.isclose(total, exact_guide_loss(), atol=1e-5)
    total.backward()
    grad = get_param_store().leaf("q_step").grad.clone()
    get_param_store().leaf("q_step").grad = None
    loss(target, make_guide("parallel", "parallel")).backward()
    assert torch.allclose(grad, get_param_store().leaf("q_step").grad, atol=1e-5)


def test_sequential_guide_may_branch_on_values():
    def model():
        if sample("a", dist.Bernoulli(0.5)):
            sample("b", dist.Bernoulli(0.25))

    def guide():
        if sample("a", dist.Bernoulli(0.5), infer={"enumerate": "sequential"}):
            sample("b", dist.Bernoulli(0.5), infer={"enumerate": "sequential"})

    expected = 0.5 * dist.kl_divergence(dist.Bernoulli(0.5), dist.Bernoulli(0.25))
    assert torch.isclose(TraceEnum_ELBO().differentiable_loss(model, guide), expected)


def test_model_and_guide_may_both_be_summed():
    model = config_enumerate(target)

    def guide():
        sample("a", dist.Categorical(torch.tensor([0.5, 0.3, 0.2])), infer={"enumerate": "parallel"})

    q, values = torch.tensor([0.5, 0.3, 0.2]), torch.arange(3.0)
    inner = STEP.log() + dist.Normal(values[:, None] + values, 1.0).log_prob(DATA[0])
    expected = (q * (q.log() - PRIOR.log() - inner.logsumexp(-1))).sum()
    assert torch.isclose(TraceEnum_ELBO().differentiable_loss(model, guide), expected)


def scale_mixture():
    mu = sample("mu", dist.Normal(0.0, 1.0))
    with plate("row", 4):
        z = sample("z", dist.Bernoulli(0.3))
        sample("x", dist.Normal(z * mu, 1.0), obs=DATA)


def mean_guide():
    sample("mu", dist.Normal(param("loc", torch.tensor(0.5)), 0.7))


@pytest.mark.parametrize("vectorize", [True, False])
def test_particles_average_the_losses_of_single_draws(vectorize):
    torch.manual_seed(0)
    elbo = TraceEnum_ELBO(num_particles=5, vectorize_particles=vectorize, max_plate_nesting=1)
    loss = elbo.differentiable_loss(config_enumerate(scale_mixture), mean_guide)
    torch.manual_seed(0)
    draws = (
        0.5 + 0.7 * torch.randn(5)
        if vectorize
        else 0.5 + 0.7 * torch.stack([torch.randn(()) for _ in range(5)])
    )
    on, off = dist.Normal(draws[:, None], 1.0).log_prob(DATA), dist.Normal(0.0, 1.0).log_prob(DATA)
    rows = torch.logaddexp(on + torch.tensor(0.3).log(), off + torch.tensor(0.7).log()).sum(-1)
    elbos = rows + dist.Normal(0.0, 1.0).log_prob(draws) - dist.Normal(0.5, 0.7).log_prob(draws)
    assert torch.isclose(-loss, elbos.mean(), atol=1e-5)


def test_score_function_gradient_is_unbiased():
    # 4,000 draws; the estimate is within 4 standard errors (false alarm: 6e-5).
    def model():
        a = sample("a", dist.Bernoulli(0.3))
        b = sample("b", dist.Bernoulli(0.2 + 0.6 * a))
        sample("x", dist.Normal(a + b, 1.0), obs=DATA[0])

    def guide():
        q = param("q", torch.tensor(0.6), constraint=constraints.unit_interval)
        a = sample("a", dist.Bernoulli(q))
        sample("b", dist.Bernoulli(0.3 + 0.2 * a), infer={"enumerate": "parallel"})

    def exact():
        return config_enumerate(guide, "parallel")

    loss = TraceEnum_ELBO()
    loss.differentiable_loss(model, exact())
    leaf = get_param_store().leaf("q")
    (right,) = torch.autograd.grad(loss.differentiable_loss(model, exact()), leaf)
    many = TraceEnum_ELBO(num_particles=4000, vectorize_particles=True, max_plate_nesting=0)
    grads = [torch.autograd.grad(many.differentiable_loss(model, guide), leaf)[0] for _ in range(8)]
    estimate = torch.stack(grads)
    assert abs(estimate.mean() - right) < 4.0 * estimate.std() / 8**0.5 + 1e-4


def test_svi_fits_a_mixture():
    data = torch.cat([torch.randn(40) - 3.0, torch.randn(40) + 3.0])

    @config_enumerate
    def model():
        with plate("part", 2):
            loc = sample("loc", dist.Normal(torch.tensor([-1.0, 1.0]), 5.0))
        with plate("row", 80):
            z = sample("z", dist.Categorical(torch.tensor([0.5, 0.5])))
            sample("x", dist.Normal(loc[..., z] if loc.dim() == 1 else loc.gather(-1, z), 1.0), obs=data)

    guide = AutoNormal(handlers.block(model, hide=["z"]))
    svi = SVI(model, guide, Adam({"lr": 0.1}), TraceEnum_ELBO(max_plate_nesting=1))
    for _ in range(150):
        svi.step()
    assert torch.allclose(guide.median()["loc"], torch.tensor([-3.0, 3.0]), atol=0.5)


# Posteriors of single sites


def test_marginals_are_exact():
    found = TraceEnum_ELBO().compute_marginals(config_enumerate(with_factor), no_guide)
    joint = PRIOR[:, None] * STEP * torch.where(torch.eye(3) > 0, 0.5, -1.0).exp()
    joint = joint / joint.sum()
    assert torch.allclose(found["z_0"].probs, joint.sum(1), atol=1e-5)
    assert torch.allclose(found["z_1"].probs, joint.sum(0), atol=1e-5)


def test_marginals_have_the_rows_of_the_plate():
    found = TraceEnum_ELBO().compute_marginals(config_enumerate(mixture), no_guide)
    rows = dist.Normal(torch.arange(3.0), 1.0).log_prob(DATA[:, None]) + PRIOR.log()
    assert torch.allclose(found["z"].probs, rows.softmax(-1), atol=1e-5)


def test_draws_of_an_elbo_follow_the_posterior():
    def model():
        loc = sample("loc", dist.Normal(0.0, 1.0))
        with plate("row", 4000):
            z = sample("z", dist.Categorical(PRIOR))
            sample("x", dist.Normal(z + loc, 1.0), obs=torch.ones(4000))
        return z

    def guide():
        sample("loc", dist.Delta(torch.tensor(0.5)))

    with handlers.trace() as record:
        z = TraceEnum_ELBO().sample_posterior(config_enumerate(model), guide)
    assert record.trace["loc"].value.item() == 0.5 and torch.equal(record.trace["z"].value, z)
    exact = (dist.Normal(torch.arange(3.0) + 0.5, 1.0).log_prob(torch.tensor(1.0)) + PRIOR.log()).softmax(-1)
    # 4,000 rows: three frequencies within 5 standard errors (false alarm: 2e-6).
    assert ((z.bincount(minlength=3) / 4000 - exact).abs() < 5 * (exact * (1 - exact) / 4000).sqrt()).all()


def test_draws_of_an_enumerated_guide_error():
    def guide():
        with plate("row", 4):
            sample("z", dist.Categorical(PRIOR), infer={"enumerate": "parallel"})

    with pytest.raises(InferenceError, match="sample_posterior: expected a guide without enumerated sites"):
        TraceEnum_ELBO().sample_posterior(mixture, guide)


def test_discrete_maximum_is_the_best_of_all_assignments():
    best = handlers.trace(infer_discrete(config_enumerate(chain), temperature=0)).get_trace()
    scores = {}
    for values in itertools.product(range(3), repeat=4):
        data = {f"z_{t}": torch.tensor(v) for t, v in enumerate(values)}
        with handlers.substitute(data=data):
            scores[values] = float(handlers.trace(chain).get_trace().log_prob_sum().detach())
    assert tuple(int(best.nodes[f"z_{t}"].value) for t in range(4)) == max(scores, key=scores.get)


def test_discrete_draws_follow_the_joint_posterior():
    # 2,000 independent rows of one posterior: 9 frequencies within 5 standard errors (false alarm: 5e-6).
    @infer_discrete(first_available_dim=-2)
    @config_enumerate
    def model():
        with plate("copy", 2000):
            a = sample("a", dist.Categorical(PRIOR))
            b = sample("b", dist.Categorical(STEP[a]))
            sample("x", dist.Normal(a.float() + b, 1.0), obs=DATA[0].expand(2000))

    trace = handlers.trace(model).get_trace()
    pairs = 3 * trace.nodes["a"].value + trace.nodes["b"].value
    share = torch.bincount(pairs, minlength=9) / 2000.0
    values = torch.arange(3.0)
    exact = PRIOR[:, None].log() + STEP.log() + dist.Normal(values[:, None] + values, 1.0).log_prob(DATA[0])
    exact = exact.flatten().softmax(0)
    assert bool(((share - exact).abs() < 5.0 * (exact * (1.0 - exact) / 2000.0).sqrt()).all())


@pytest.mark.parametrize("first_available_dim", [None, -2])
@pytest.mark.parametrize("parallel", [True, False])
def test_discrete_draws_follow_the_posterior_given_values_from_outside(parallel, first_available_dim):
    # 1,000 draws for each of two values of "shift": |frequency - exact| within 5 standard errors.
    def model():
        shift = sample("shift", dist.Normal(0.0, 100.0))
        z = sample("z", dist.Categorical(PRIOR))
        with plate("row", 2):
            sample("x", dist.Normal(shift + z, 1.0), obs=DATA[:2])

    shifts = torch.tensor([-1.5, 0.5])
    again = infer_discrete(config_enumerate(model), first_available_dim=first_available_dim)
    given = {"shift": shifts.repeat_interleave(1000)}
    z = Predictive(again, given, return_sites=["z"], parallel=parallel)()["z"]
    share = torch.stack([torch.bincount(rows, minlength=3) / 1000.0 for rows in z.reshape(2, 1000)])
    means = shifts[:, None, None] + torch.arange(3.0)[:, None]
    exact = (PRIOR.log() + dist.Normal(means, 1.0).log_prob(DATA[:2]).sum(-1)).softmax(-1)
    assert bool(((share - exact).abs() < 5.0 * (exact * (1.0 - exact) / 1000.0).sqrt()).all())


def test_discrete_in_nested_plates_keeps_shapes():
    @config_enumerate
    def model():
        g = sample("g", dist.Bernoulli(0.5))
        with plate("a", 2, dim=-1):
            y = sample("y", dist.Bernoulli(0.2 + 0.6 * g))
            with plate("b", 3, dim=-2):
                sample("z", dist.Bernoulli(0.2 + 0.6 * y))

    trace = handlers.trace(infer_discrete(model)).get_trace()
    assert [tuple(trace.nodes[name].value.shape) for name in "gyz"] == [(), (2,), (3, 2)]


# Errors


def test_plates_that_cross_error():
    @config_enumerate
    def model():
        a, b = plate("a", 2, dim=-1), plate("b", 2, dim=-2)
        with a:
            x = sample("x", dist.Bernoulli(0.3))
        with b:
            y = sample("y", dist.Bernoulli(0.3))
        with a, b:
            sample("z", dist.Bernoulli(0.1 + 0.4 * x + 0.4 * y), obs=torch.ones(2, 2))

    with pytest.raises(InferenceError, match=r"\['x', 'y'\] in plates \['a', 'b'\]"):
        TraceEnum_ELBO().loss(model, no_guide)


def test_different_scales_error():
    @config_enumerate
    def model():
        z = sample("z", dist.Bernoulli(0.3))
        with handlers.scale(scale=2.0):
            sample("x", dist.Normal(z, 1.0), obs=DATA[0])

    with pytest.raises(InferenceError, match="one scale"):
        TraceEnum_ELBO().loss(model, no_guide)


def test_common_scale_scales_the_marginal():
    plain = TraceEnum_ELBO().differentiable_loss(config_enumerate(mixture), no_guide)
    scaled = handlers.scale(config_enumerate(mixture), scale=0.3)
    assert torch.isclose(TraceEnum_ELBO().differentiable_loss(scaled, no_guide), 0.3 * plain)


def test_continuous_site_marked_error():
    def model():
        sample("x", dist.Normal(0.0, 1.0), infer={"enumerate": "parallel"})

    with pytest.raises(SiteError, match="finite support"):
        TraceEnum_ELBO().loss(model, no_guide)


def test_other_elbos_do_not_draw_marked_sites_in_silence():
    with pytest.raises(GuideError, match="add"):
        Trace_ELBO().loss(config_enumerate(mixture), no_guide)


def test_config_enumerate_leaves_marks_and_observations_alone():
    @config_enumerate(default="sequential")
    def model():
        sample("a", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
        sample("b", dist.Bernoulli(0.3))
        sample("c", dist.Bernoulli(0.3), obs=torch.tensor(1.0))
        sample("d", dist.Normal(0.0, 1.0))

    nodes = handlers.trace(model).get_trace().nodes
    assert [nodes[name].infer.get("enumerate") for name in "abcd"] == ["parallel", "sequential", None, None]


def test_draws_instead_of_values_error():
    marked = config_enumerate(lambda: sample("x", dist.Bernoulli(0.3)), num_samples=3)
    with pytest.raises(SiteError, match="site 'x': expected all values of the site, got num_samples=3"):
        TraceEnum_ELBO().loss(marked, lambda: None)


def test_long_chain_uses_two_dimensions():
    def model():
        z = torch.tensor(0)
        for t in markov(range(60)):
            z = sample(f"z_{t}", dist.Categorical(STEP[z]), infer={"enumerate": "parallel"})

    trace = handlers.trace(handlers.enum(model, first_available_dim=-1)).get_trace()
    assert {dim for site in trace.sites("sample") for dim in site.enumerated} == {-1, -2}
    assert abs(TraceEnum_ELBO().loss(model, no_guide)) < 1e-4


@pytest.mark.parametrize("keep", [True, False])
def test_branches_of_a_recursion_are_summed(keep):
    # A tree: each node is seen by its children alone.
    def model():
        @markov(keep=keep)
        def grow(name, parent):
            z = sample(f"z_{name}", dist.Categorical(STEP[parent]))
            sample(f"x_{name}", dist.Normal(z.float(), 1.0), obs=torch.tensor(float(len(name))))
            for side in "ab" if name in ("r", "ra") else "":
                grow(name + side, z)

        grow("r", torch.tensor(0))

    names = ["r", "ra", "raa", "rab", "rb"]
    right = brute_force(model, {f"z_{name}": 3 for name in names})
    loss = TraceEnum_ELBO(max_plate_nesting=0).loss(config_enumerate(model), no_guide)
    assert -loss == pytest.approx(float(right), rel=1e-5)


def gathered(history, keep):
    """A node that depends on what its three children return."""

    def model():
        @markov(history=history, keep=keep)
        def grow(name, depth):
            parts = [grow(name + side, depth + 1) for side in ("abc" if depth < 1 else "")]
            total = sum((0.1 * (k + 1) * part for k, part in enumerate(parts)), torch.tensor(0.0))
            z = sample(f"z_{name}", dist.Bernoulli(0.2 + total))
            sample(f"x_{name}", dist.Normal(z, 1.0), obs=torch.tensor(float(len(name))))
            return z

        grow("r", 0)

    return model


def test_returned_values_are_summed_when_kept():
    right = brute_force(gathered(1, True), dict.fromkeys(["z_r", "z_ra", "z_rb", "z_rc"], 2))
    loss = TraceEnum_ELBO(max_plate_nesting=0).loss(config_enumerate(gathered(1, True)), no_guide)
    assert -loss == pytest.approx(float(right), rel=1e-5)


def test_returned_values_out_of_reach_error():
    with pytest.raises(BrancherError, match="site 'z_r': expected a log_prob of shape"):
        TraceEnum_ELBO(max_plate_nesting=0).loss(config_enumerate(gathered(1, False)), no_guide)


def test_function_as_the_body_of_a_loop_is_a_chain():
    def model():
        @markov
        def move(t, z):
            z = sample(f"z_{t}", dist.Categorical(STEP[z]))
            sample(f"x_{t}", dist.Normal(z.float(), 1.0), obs=DATA[t])
            return z

        z = torch.tensor(0)
        for t in range(4):
            z = move(t, z)

    record = handlers.trace(enum(config_enumerate(model), first_available_dim=-1)).get_trace()
    assert max(site.value.dim() for site in record.sites("sample")) == 2
    right = brute_force(model, {f"z_{t}": 3 for t in range(4)})
    loss = TraceEnum_ELBO(max_plate_nesting=0).loss(config_enumerate(model), no_guide)
    assert -loss == pytest.approx(float(right), rel=1e-5)


@pytest.mark.slow
def test_compiled_steps_are_the_eager_ones():
    def model():
        loc = sample("loc", dist.Normal(0.0, 3.0))
        share = sample("share", dist.Beta(1.0, 1.0))
        with plate("row", 4, subsample_size=2) as rows:
            z = sample("z", dist.Bernoulli(share))
            sample("x", dist.Normal(loc * z, 1.0), obs=DATA[rows])

    losses = []
    for compiled in (False, True):
        with ParamStore():
            torch.manual_seed(0)
            guide = AutoNormal(handlers.block(model, hide=["z"]))
            svi = SVI(config_enumerate(model), guide, Adam({"lr": 0.1}), TraceEnum_ELBO(), compile=compiled)
            losses.append([svi.step() for _ in range(4)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
