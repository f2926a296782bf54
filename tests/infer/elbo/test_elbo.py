"""The ELBO as a value: exact answers, its faces, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch

from brancher import distributions as dist
from brancher import factor, handlers, param, plate, sample
from brancher.errors import BrancherWarning, GuideError, InferenceError, InferenceTypeError, SiteError
from brancher.handlers import stack
from brancher.infer import SVI, RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO

DATA = torch.tensor([1.0, 1.5, 2.0, 2.5, 3.0])
#: log evidence of N(0, 1) prior and unit noise: the joint law of the data is N(0, I + 11').
EVIDENCE = float(
    torch.distributions.MultivariateNormal(torch.zeros(5), torch.eye(5) + torch.ones(5, 5)).log_prob(DATA)
)


def model():
    mu = sample("mu", dist.Normal(0.0, 1.0))
    with plate("row", 5):
        sample("y", dist.Normal(mu, 1.0), obs=DATA)


def exact_guide():
    sample("mu", dist.Normal(DATA.sum() / 6, 1 / math.sqrt(6)))


@pytest.mark.parametrize("loss", [Trace_ELBO, TraceMeanField_ELBO])
def test_loss_at_the_exact_posterior_is_minus_the_evidence(loss):
    # At the posterior every draw gives the evidence, so Trace_ELBO is exact; the closed-form KL
    # leaves the noise of the likelihood: sd 0.9 a draw, 5 standard errors at 1e4 draws.
    value = loss(num_particles=10_000).loss(model, exact_guide)
    assert abs(value + EVIDENCE) < (1e-3 if loss is Trace_ELBO else 0.05)


def test_reported_elbo_does_not_exceed_the_evidence():
    def wrong_guide():
        sample("mu", dist.Normal(1.0, 0.5))

    # E[loss] - (-evidence) is the KL divergence, 0.96 nats here.
    assert Trace_ELBO(num_particles=10_000).loss(model, wrong_guide) > -EVIDENCE + 0.5


def test_differentiable_loss_has_the_value_of_the_loss():
    for loss in (Trace_ELBO(), TraceMeanField_ELBO()):
        torch.manual_seed(1)
        value = loss.loss(model, exact_guide)
        torch.manual_seed(1)
        assert math.isclose(float(loss.differentiable_loss(model, exact_guide)), value, rel_tol=1e-6)


def test_loss_and_grads_adds_to_grad():
    leaf = torch.zeros((), requires_grad=True)

    def guide():
        sample("mu", dist.Normal(leaf, 1.0))

    torch.manual_seed(0)
    value = Trace_ELBO().loss_and_grads(model, guide)
    once = leaf.grad.clone()
    torch.manual_seed(0)
    assert Trace_ELBO().loss_and_grads(model, guide) == value
    assert torch.allclose(leaf.grad, 2 * once)


def test_bound_module_trains_with_a_plain_optimizer():
    class Guide(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.loc = torch.nn.Parameter(torch.zeros(()))

        def forward(self):
            sample("mu", dist.Normal(self.loc, 0.4))

    bound = Trace_ELBO(num_particles=20)(model, Guide())
    optimizer = torch.optim.Adam(bound.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        bound().backward()
        optimizer.step()
    # The optimum is 10/6; Adam at this rate wanders by less than 0.1 about it.
    assert abs(bound.guide.loc.item() - 10 / 6) < 0.1


def test_several_particles_in_a_loop_when_the_model_mixes_them():
    def mixing():
        z = sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        sample("y", dist.Normal(z.sum(), 1.0), obs=torch.tensor(0.0))

    def guide():
        sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))

    with pytest.warns(BrancherWarning, match="of y mixes"):
        value = Trace_ELBO(num_particles=400).loss(mixing, guide)
    # E[-log N(0; sum z, 1)] = log(2 pi)/2 + 3/2; its sd is 2.1 a draw, 5 standard errors.
    assert abs(value - (0.5 * math.log(2 * math.pi) + 1.5)) < 0.55


def test_particles_with_nested_plates():
    def nested():
        with plate("a", 3):
            x = sample("x", dist.Normal(0.0, 1.0))
            with plate("b", 2):
                sample("y", dist.Normal(x, 1.0), obs=torch.zeros(2, 3))

    def guide():
        with plate("a", 3):
            sample("x", dist.Normal(param("loc", torch.zeros(3)), 0.5))

    value = Trace_ELBO(num_particles=2000).loss(nested, guide)
    kl = 3 * (0.125 - 0.5 - math.log(0.5))
    likelihood = 6 * (0.5 * math.log(2 * math.pi) + 0.125)
    assert abs(value - kl - likelihood) < 0.2  # sd of the loss is 1.2 a particle: 7 standard errors


def test_random_state_does_not_depend_on_the_check():
    elbo = Trace_ELBO()
    torch.manual_seed(3)
    first = elbo.loss(model, exact_guide)
    torch.manual_seed(3)
    assert elbo.loss(model, exact_guide) == first


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_bad_particle_count_error(count):
    with pytest.raises(InferenceError, match="num_particles"):
        Trace_ELBO(num_particles=count)


def test_missing_site_error():
    with pytest.raises(GuideError, match=r"expected latent sites \['mu'\], got \[\]; add \['mu'\]"):
        Trace_ELBO().loss(model, lambda: None)
    assert stack.current() == ()


def test_misspelled_site_error_suggests_the_name():
    with pytest.raises(GuideError, match="'nu'.*did you mean 'mu'"):
        Trace_ELBO().loss(model, lambda: sample("nu", dist.Normal(0.0, 1.0)))


def test_auxiliary_site_is_allowed():
    def guide():
        a = sample("a", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
        sample("mu", dist.Normal(a, 1.0))

    assert math.isfinite(Trace_ELBO().loss(model, guide))


def test_forgotten_data_error_names_the_site():
    def forgetful(y=None):
        sample("mu", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(0.0, 1.0), obs=y)

    with pytest.raises(GuideError, match="'y'.*declared without obs"):
        Trace_ELBO().loss(forgetful, exact_guide)


def test_other_event_dim_error():
    def vector():
        sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))

    def guide():
        with plate("row", 3):
            sample("z", dist.Normal(torch.zeros(3), 1.0))

    with pytest.raises(GuideError, match="1 event dimensions at site 'z'"):
        Trace_ELBO().loss(vector, guide)


def test_missing_to_event_error():
    def loose():
        sample("x", dist.Normal(torch.zeros(3), 1.0), obs=torch.zeros(3))

    with pytest.raises(SiteError, match=r"site 'x'.*shape \[\].*got \[3\].*to_event\(1\)"):
        Trace_ELBO().loss(loose, lambda: None)


def test_mask_that_enlarges_the_batch_error():
    def masked():
        with handlers.mask(mask=torch.ones(4, dtype=torch.bool)):
            sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))

    with pytest.raises(SiteError, match="site 'x'.*mask"):
        Trace_ELBO().loss(masked, lambda: None)


def test_factor_in_a_guide_must_state_has_rsample_error():
    def guide():
        exact_guide()
        factor("f", torch.tensor(0.0))

    with pytest.raises(GuideError, match="factor 'f' to state has_rsample"):
        Trace_ELBO().loss(model, guide)


def test_call_with_arguments_is_the_loss():
    def model(y):
        sample("y", dist.Normal(0.0, 1.0), obs=y)

    svi = SVI(model, lambda y: None, loss=Trace_ELBO())
    y = torch.tensor(1.0)
    assert svi.loss(svi.model, svi.guide, y) == pytest.approx(-float(dist.Normal(0.0, 1.0).log_prob(y)))


@pytest.mark.parametrize("kind", [Trace_ELBO, TraceMeanField_ELBO, TraceEnum_ELBO, RenyiELBO])
def test_unknown_option_error(kind):
    with pytest.raises(InferenceTypeError, match=r"got 'num_particels'; did you mean 'num_particles'\?"):
        kind(num_particels=3)


def test_options_of_pyro_are_taken():
    Trace_ELBO(retain_graph=True, strict_enumeration_warning=False, ignore_jit_warnings=True)


def test_model_written_for_its_particles_alone():
    # Told of the batch and its dimension, the objective does not ask the model to run without it.
    def program(scale):
        with plate("row", 2):
            z = sample("z", dist.Normal(0.0, scale))
        assert z.shape == (5, 2)
        return z

    def model():
        z = program(torch.tensor(1.0))
        with plate("row", 2):
            sample("x", dist.Normal(z, 1.0), obs=torch.zeros(2))

    def guide():
        program(param("scale", torch.tensor(1.0)))

    assert Trace_ELBO(num_particles=5, vectorize_particles=True, max_plate_nesting=1).loss(model, guide) > 0
    with pytest.raises(AssertionError):
        Trace_ELBO(num_particles=5, vectorize_particles=True).loss(model, guide)
