"""The energy distance: its value against the formula and a closed form, and what it finds."""

from __future__ import annotations

import math

import pytest
import torch

import brancher.distributions as dist
from brancher import handlers, optim, param, plate, sample
from brancher.errors import InferenceError
from brancher.infer import SVI, EnergyDistance
from brancher.infer.autoguide import AutoDelta, AutoNormal

ROWS = torch.tensor([0.3, -1.0, 2.0])
POINT = torch.tensor([1.0, -2.0])


def model() -> None:
    z = sample("z", dist.Normal(0.0, 1.0))
    with plate("row", 3), handlers.scale(scale=2.0):
        sample("y", dist.Normal(z, 0.5), obs=ROWS)
    w = sample("w", dist.Gamma(2.0, 1.0))
    sample("x", dist.Normal(w.unsqueeze(-1) * torch.ones(2), 1.0).to_event(1), obs=POINT)


def guide() -> None:
    sample("z", dist.Normal(param("loc", torch.tensor(0.2)), 0.7))
    sample("w", dist.LogNormal(0.0, 0.5))


class Seen(handlers.Messenger):
    """Keeps the values of sample sites of the last runs."""

    def __init__(self) -> None:
        super().__init__(None)
        self.values: dict[str, list[torch.Tensor]] = {}

    def postprocess_message(self, message: handlers.Message) -> None:
        if message.type == "sample":
            self.values.setdefault(message.name, []).append(message.value.detach())


@pytest.mark.parametrize("vectorized", [True, False])
@pytest.mark.parametrize(("beta", "prior_scale"), [(1.0, 0.0), (0.5, 0.3)])
def test_loss_is_the_energy_score(vectorized: bool, beta: float, prior_scale: float) -> None:
    objective = EnergyDistance(beta, prior_scale, num_particles=4, vectorize_particles=vectorized)
    objective.loss(model, guide)  # lays out the particles
    with Seen() as seen:
        got = objective.loss(model, guide)

    def rows(name: str, times: int, width: int) -> torch.Tensor:
        found = seen.values[name]
        return torch.stack(found[-1:] if vectorized else found[times - 1 :: times]).reshape(4, width)

    predicted = torch.cat([math.sqrt(2.0) * rows("y", 1, 3), rows("x", 1, 2)], 1)
    data = torch.cat([math.sqrt(2.0) * ROWS, POINT])
    error = torch.linalg.vector_norm(predicted - data, dim=1).pow(beta).mean()
    pairs = [(i, j) for i in range(4) for j in range(i)]
    spread = sum(torch.linalg.vector_norm(predicted[i] - predicted[j]) ** beta for i, j in pairs) / len(pairs)
    z, w = rows("z", 2, 1)[:, 0], rows("w", 2, 1)[:, 0]
    prior = dist.Normal(0.0, 1.0).log_prob(z) + dist.Gamma(2.0, 1.0).log_prob(w)
    assert got == pytest.approx(float(error - spread / 2 - prior_scale * prior.mean()), rel=1e-5)


def test_loss_is_unbiased_for_normal_predictions() -> None:
    def at_data() -> None:
        sample("y", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))

    # E|X| - E|X - X'| / 2 for standard normals: sqrt(2 / pi) - 1 / sqrt(pi).
    exact = math.sqrt(2 / math.pi) - 1 / math.sqrt(math.pi)
    objective = EnergyDistance(num_particles=2000)
    draws = torch.tensor([objective.loss(at_data, lambda: None) for _ in range(20)])
    # n = 20 means; |t| < 5 fails by chance less than once in 10 000 runs.
    assert abs(float((draws.mean() - exact) / (draws.std() / 20**0.5))) < 5.0


def test_fitted_law_is_that_of_the_data() -> None:
    torch.manual_seed(1)
    data = 3.0 + 0.5 * torch.randn(500)

    def quantiles_of_normals(y: torch.Tensor) -> None:
        loc = sample("loc", dist.Normal(0.0, 5.0))
        scale = sample("scale", dist.LogNormal(0.0, 1.0))
        quantiles = dist.Normal(0.0, 1.0).icdf((torch.arange(len(y)) + 0.5) / len(y))
        sample("y", dist.Normal(loc[..., None] + scale[..., None] * quantiles, 0.05).to_event(1), obs=y)

    auto = AutoDelta(quantiles_of_normals)
    decay = optim.ClippedAdam({"lr": 0.1, "lrd": 0.99})
    svi = SVI(quantiles_of_normals, auto, decay, EnergyDistance(num_particles=4))
    svi.run(400, data.sort().values, progress=False, compile=False)
    found = auto.median()
    assert found["loc"].item() == pytest.approx(data.mean().item(), abs=0.02)
    assert found["scale"].item() == pytest.approx(data.std().item(), abs=0.02)


def test_prior_reaches_its_parameters() -> None:
    def learned() -> None:
        z = sample("z", dist.Normal(param("prior", torch.tensor(1.0)), 1.0))
        sample("y", dist.Normal(z, 1.0), obs=torch.tensor(0.0))

    def guess() -> None:
        sample("z", dist.Normal(0.0, 1e-6))

    EnergyDistance(prior_scale=2.0, num_particles=3).differentiable_loss(learned, guess).backward()
    # -2 d/dm log N(0; m, 1) at m = 1.
    assert param("prior").grad.item() == pytest.approx(2.0, abs=1e-4)


def test_masked_data_do_not_count() -> None:
    def masked(y: torch.Tensor) -> None:
        with plate("row", 2), handlers.mask(mask=torch.tensor([True, False])):
            sample("y", dist.Normal(0.0, 1.0), obs=y)

    losses = []
    for missing in (0.0, float("nan")):
        torch.manual_seed(0)
        objective = EnergyDistance(num_particles=3, vectorize_particles=True, max_plate_nesting=1)
        losses.append(objective.loss(masked, lambda y: None, torch.tensor([1.0, missing])))
    assert losses[0] == losses[1]


def test_call_gives_a_tensor_with_a_gradient() -> None:
    EnergyDistance()(model, guide).backward()
    assert param("loc").grad is not None


def test_densities_of_data_are_not_asked_for() -> None:
    class Simulator(dist.TorchDistribution):
        arg_constraints: dict[str, dist.constraints.Constraint] = {}
        support = dist.constraints.real
        has_rsample = True

        def __init__(self, loc: torch.Tensor) -> None:
            self.loc = loc
            super().__init__(loc.shape, validate_args=False)

        def expand(self, batch_shape: torch.Size, _instance: object = None) -> Simulator:
            return Simulator(self.loc.expand(batch_shape))

        def rsample(self, sample_shape: torch.Size = torch.Size()) -> torch.Tensor:  # noqa: B008
            noise = torch.rand(sample_shape + self.loc.shape)
            return self.loc + noise - torch.rand_like(noise)

    def simulated() -> None:
        sample("y", Simulator(sample("z", dist.Normal(0.0, 1.0))), obs=torch.tensor(2.0))

    assert EnergyDistance(num_particles=3).loss(simulated, AutoNormal(simulated)) > 0


def test_discrete_data_error() -> None:
    def counts() -> None:
        rate = sample("rate", dist.LogNormal(0.0, 1.0))
        sample("k", dist.Poisson(rate), obs=torch.tensor(2.0))

    with pytest.raises(InferenceError, match="site 'k': expected an observed law with pathwise gradients"):
        EnergyDistance().loss(counts, AutoNormal(counts))


def test_discrete_guide_error() -> None:
    def switch() -> None:
        k = sample("k", dist.Bernoulli(0.5))
        sample("y", dist.Normal(k, 1.0), obs=torch.tensor(0.0))

    with pytest.raises(InferenceError, match="guide sites with pathwise gradients, got site 'k'"):
        EnergyDistance().loss(switch, lambda: sample("k", dist.Bernoulli(0.5)))


def test_model_without_data_error() -> None:
    def prior() -> None:
        sample("z", dist.Normal(0.0, 1.0))

    with pytest.raises(InferenceError, match="expected observed sites, got a model without"):
        EnergyDistance().loss(prior, AutoNormal(prior))


@pytest.mark.parametrize(
    "options", [{"beta": 2.0}, {"beta": True}, {"prior_scale": -1.0}, {"num_particles": 1}]
)
def test_argument_error(options: dict[str, float]) -> None:
    with pytest.raises(InferenceError, match="EnergyDistance: expected .*, got"):
        EnergyDistance(**options)  # type: ignore[arg-type]
