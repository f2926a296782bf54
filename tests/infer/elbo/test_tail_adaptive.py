"""The tail-adaptive divergence: its gradient against the paper's formula, and what it finds."""

from __future__ import annotations

import pytest
import torch

import brancher.distributions as dist
from brancher import get_param_store, handlers, optim, param, sample
from brancher.errors import InferenceError
from brancher.infer import SVI, Trace_ELBO, TraceTailAdaptive_ELBO
from brancher.infer.autoguide import AutoMultivariateNormal, AutoNormal
from brancher.infer.elbo.tail_adaptive import tail_weights

Y = torch.tensor(1.5)


def model() -> None:
    z = sample("z", dist.Normal(0.0, 1.0))
    sample("y", dist.StudentT(3.0, z + param("shift", torch.tensor(0.1)), 1.0), obs=Y)


def guide() -> None:
    scale = param("scale", torch.tensor(0.8), constraint=dist.constraints.positive)
    sample("z", dist.Normal(param("loc", torch.tensor(0.2)), scale))


def test_tail_weights_are_powers_of_ranks() -> None:
    weights = tail_weights(torch.tensor([0.0, 3.0, -1.0, 3.0]), -1.0)
    # Shares of draws at or above: 3/4, 2/4, 4/4, 2/4.
    expected = torch.tensor([4 / 3, 2.0, 1.0, 2.0])
    torch.testing.assert_close(weights, expected / expected.sum())


@pytest.mark.parametrize("vectorized", [True, False])
def test_gradient_follows_the_paths_by_tail_weights(vectorized: bool) -> None:
    elbo = TraceTailAdaptive_ELBO(5, vectorize_particles=vectorized)
    elbo.loss(model, guide)  # lays out the particles
    noise = torch.empty(0)

    class Seen(handlers.Messenger):
        def postprocess_message(self, message: handlers.Message) -> None:
            nonlocal noise
            if message.name == "z" and message.type == "sample":
                noise = torch.cat([noise, (message.value.detach().reshape(-1) - 0.2) / 0.8])

    with Seen():
        value = elbo.loss_and_grads(model, guide)
    noise = noise.unique()  # guide, model and the guide again
    assert len(noise) == 5
    store = get_param_store()
    got = {name: store.leaf(name).grad for name in ("loc", "scale", "shift")}
    loc, log_scale = torch.tensor(0.2, requires_grad=True), torch.tensor(0.8).log().requires_grad_()
    shift = torch.tensor(0.1, requires_grad=True)
    z = loc + log_scale.exp() * noise
    log_p = dist.Normal(0.0, 1.0).log_prob(z) + dist.StudentT(3.0, z + shift, 1.0).log_prob(Y)
    log_w = log_p - dist.Normal(loc.detach(), log_scale.exp().detach()).log_prob(z)
    tail = (log_w.unsqueeze(0) >= log_w.unsqueeze(1)).float().mean(1)
    (-(log_w * (1 / tail)).sum() / (1 / tail).sum()).backward()
    assert value == pytest.approx(-log_w.mean().item(), rel=1e-5)
    for name, leaf in {"loc": loc, "scale": log_scale, "shift": shift}.items():
        torch.testing.assert_close(got[name], leaf.grad, rtol=1e-4, atol=1e-6)


def test_a_power_of_zero_is_the_elbo_along_paths() -> None:
    torch.testing.assert_close(tail_weights(torch.randn(7), 0.0), torch.full((7,), 1 / 7))


@pytest.mark.parametrize("kind", [AutoNormal, AutoMultivariateNormal])
def test_gradient_vanishes_at_the_posterior(kind: type[AutoNormal]) -> None:
    def conjugate() -> None:
        z = sample("z", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(z, 1.0), obs=Y)

    auto = kind(conjugate).setup()
    svi = SVI(conjugate, auto, optim.Adam({"lr": 0.05}), TraceTailAdaptive_ELBO(20))
    for _ in range(400):
        svi.step()
    draws = auto.sample_posterior(1)["z"]
    assert draws.shape == (1,)
    low, middle, high = (float(q) for q in auto.quantiles([0.158655, 0.5, 0.841345])["z"])
    assert middle == pytest.approx(0.75, abs=0.01)
    assert (high - low) / 2 == pytest.approx(0.5**0.5, abs=0.01)


def test_it_is_wider_than_the_elbo_where_the_family_is_too_narrow() -> None:
    tril = torch.linalg.cholesky(torch.tensor([[1.0, 0.9], [0.9, 1.0]]))

    def correlated() -> None:
        sample("z", dist.MultivariateNormal(torch.zeros(2), scale_tril=tril))

    scales = []
    for loss in (Trace_ELBO(20), TraceTailAdaptive_ELBO(20)):
        torch.manual_seed(0)
        auto = AutoNormal(correlated)
        SVI(correlated, auto, optim.ClippedAdam({"lr": 0.02, "lrd": 0.995}), loss).run(
            500, progress=False, compile=False
        )
        scales.append(auto.scales.z.mean().item())
    # Mean field by the ELBO has the conditional standard deviation, sqrt(1 - 0.81) = 0.436.
    assert scales[0] == pytest.approx(0.436, abs=0.03)
    assert scales[1] > scales[0] + 0.05


def test_a_site_without_paths_error() -> None:
    def discrete() -> None:
        sample("k", dist.Bernoulli(0.5))

    def guess() -> None:
        sample("k", dist.Bernoulli(logits=param("logit", torch.tensor(0.0))))

    with pytest.raises(InferenceError, match="pathwise gradients, got site 'k' without; use RenyiELBO"):
        TraceTailAdaptive_ELBO(3).loss(discrete, guess)


@pytest.mark.parametrize("options", [{"num_particles": 1}, {"tail_adaptive_beta": 0.5}])
def test_argument_error(options: dict[str, float]) -> None:
    with pytest.raises(InferenceError, match="TraceTailAdaptive_ELBO: expected .*, got"):
        TraceTailAdaptive_ELBO(**options)  # type: ignore[arg-type]
