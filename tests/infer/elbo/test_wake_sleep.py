"""Reweighted wake-sleep: its gradients against formulas, and what its guides learn."""

from __future__ import annotations

import pytest
import torch

from brancher import distributions as dist
from brancher import get_param_store, handlers, optim, param, sample
from brancher.errors import InferenceError
from brancher.infer import SVI, ReweightedWakeSleep

X = torch.tensor(1.5)


def model(observations):
    z = sample("z", dist.Normal(0.0, 1.0))
    sample("x", dist.Normal(z + param("theta", torch.tensor(0.3)), 1.0), obs=observations["x"])


def guide(observations):
    sample("z", dist.Normal(param("phi", torch.tensor(0.7)), 1.0))


class Seen(handlers.Messenger):
    """Keeps the draws of z."""

    def __init__(self):
        super().__init__()
        self.draws = []

    def postprocess_message(self, message):
        if message.name == "z" and message.type == "sample":
            self.draws.append(message.value.detach().clone())


def gradients(loss):
    with Seen() as seen:
        value = loss.loss_and_grads(model, guide, observations={"x": X})
    store = get_param_store()
    theta, phi = (store.get_param(name).grad for name in ("theta", "phi"))
    return value, theta, phi, seen.draws


@pytest.mark.parametrize("vectorized", [True, False])
def test_wake_gradients_are_weighted_scores(vectorized):
    elbo = ReweightedWakeSleep(6, vectorize_particles=vectorized, max_plate_nesting=0)
    value, theta, phi, draws = gradients(elbo)
    z = draws[-1].reshape(-1) if vectorized else torch.stack(draws)[-12::2]
    assert z.shape == (6,) and len(z.unique()) == 6
    log_w = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z + 0.3, 1.0).log_prob(X)
    log_w = log_w - dist.Normal(0.7, 1.0).log_prob(z)
    weights = log_w.softmax(0)
    assert value == pytest.approx(float(-(log_w.exp().mean().log())), abs=1e-5)
    torch.testing.assert_close(theta, -(weights * (X - z - 0.3)).sum())
    torch.testing.assert_close(phi, -(weights * (z - 0.7)).sum())


def test_sleep_gradient_is_the_score_of_dreams():
    elbo = ReweightedWakeSleep(2, insomnia=0.0, num_sleep_particles=3, model_has_params=False)
    _, theta, phi, draws = gradients(elbo)
    dreams = torch.stack(draws[-6::2])  # each is seen in the model and in the guide
    assert theta is None
    torch.testing.assert_close(phi, -(dreams - 0.7).mean())


def test_insomnia_mixes_the_two():
    kept = []
    for insomnia in (0.0, 1.0, 0.25):
        get_param_store().clear()
        torch.manual_seed(0)
        kept.append(gradients(ReweightedWakeSleep(3, insomnia, vectorize_particles=False))[2])
    torch.testing.assert_close(kept[2], 0.75 * kept[0] + 0.25 * kept[1])


def test_guide_sees_the_data_of_the_dream():
    seen = []

    def amortised(observations):
        seen.append(observations["x"].clone())
        sample("z", dist.Normal(param("slope", torch.tensor(0.5)) * observations["x"], 1.0))

    torch.manual_seed(1)
    ReweightedWakeSleep(2, insomnia=0.5).loss_and_grads(model, amortised, observations={"x": X})
    assert any(each != X for each in seen) and any(each == X for each in seen)


@pytest.mark.parametrize("insomnia", [0.0, 1.0])
def test_guide_of_a_discrete_site_finds_the_posterior(insomnia):
    def switch(observations):
        z = sample("z", dist.Bernoulli(0.3))
        sample("x", dist.Normal(2.0 * z, 1.0), obs=observations["x"])

    def logistic(observations):
        bias, slope = param("bias", torch.tensor(0.0)), param("slope", torch.tensor(0.0))
        sample("z", dist.Bernoulli(logits=bias + slope * observations["x"]))

    # log p(z=1|x) / p(z=0|x) = log(3 / 7) + 2 x - 2: a guide that dreams learns it for every x.
    torch.manual_seed(0)
    elbo = ReweightedWakeSleep(20, insomnia, vectorize_particles=True, max_plate_nesting=0)
    svi = SVI(switch, logistic, optim.Adam({"lr": 0.1}), elbo, compile=False)
    for _ in range(200):
        svi.step(observations={"x": X})
    store = get_param_store()
    found = (store["bias"] + store["slope"] * X).detach()
    expected = torch.tensor(3.0 / 7.0).log() + 2 * X - 2
    # Steps of 0.1 leave noise of about 0.2.
    assert abs(float(found - expected)) < 0.7
    if insomnia == 0.0:
        assert abs(store["slope"].item() - 2.0) < 0.7


@pytest.mark.parametrize("options", [{"num_particles": 1}, {"insomnia": 1.5}, {"num_sleep_particles": 0}])
def test_bad_option_error(options):
    with pytest.raises(InferenceError, match=f"expected {next(iter(options))}"):
        ReweightedWakeSleep(**options)


def test_guide_without_observations_error():
    def blind(*args):
        sample("z", dist.Normal(0.0, 1.0))

    with pytest.raises(InferenceError, match=r"argument 'observations'.*\['x'\]"):
        ReweightedWakeSleep(2, insomnia=0.5).loss(lambda: model({"x": X}), blind)
