"""AutoStructured: its law against the normal law it stands for, posteriors that it holds, own functions."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from brancher import distributions as dist
from brancher import get_param_store, handlers, optim, param, plate, sample
from brancher.errors import GuideError
from brancher.infer import SVI, Trace_ELBO
from brancher.infer.autoguide import AutoDelta, AutoGuideList, AutoStructured
from brancher.symbolic import NormalVariable, ProbabilisticModel

Y = torch.tensor([0.5, 1.5, -0.3])


def model(y: torch.Tensor) -> None:
    mu = sample("mu", dist.Normal(0.0, 2.0))
    with plate("row", 3):
        z = sample("z", dist.Normal(mu, 1.0))
        sample("y", dist.Normal(z, 0.5), obs=y)
    w = sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    sample("x", dist.Normal(w.sum(-1), 0.5), obs=torch.tensor(1.0))


def perturbed(guide: AutoStructured) -> AutoStructured:
    with torch.no_grad():
        for i, parameter in enumerate(guide.parameters()):
            parameter += torch.linspace(-0.3, 0.5, parameter.numel()).reshape(parameter.shape) * (i + 1) / 4
    return guide


def moments(guide: AutoStructured) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of mu, z, w as ``(I - W)^-1 S S^T (I - W)^-T``."""
    noise, shifts = torch.zeros(6, 6), torch.zeros(6, 6)
    at = {"mu": slice(0, 1), "z": slice(1, 4), "w": slice(4, 6)}
    names = dict(guide.named_parameters())
    for name, rows in at.items():
        scale = getattr(guide.scales, name).reshape(-1)
        tril = getattr(guide.scale_trils, name) if f"scale_trils.{name}" in names else torch.eye(len(scale))
        noise[rows, rows] = scale[:, None] * tril
        for upstream, columns in at.items():
            if f"deps.{name}.{upstream}" in names:
                shifts[rows, columns] = getattr(getattr(guide.deps, name), upstream)
    factor = torch.linalg.solve(torch.eye(6) - shifts, noise)
    return torch.cat([getattr(guide.locs, name).reshape(-1) for name in at]), factor @ factor.T


@pytest.mark.parametrize(
    "conditionals",
    ["normal", "mvn", {"mu": "normal", "z": "mvn", "w": "normal"}],
    ids=["normal", "mvn", "both"],
)
def test_law_is_the_normal_law_of_its_parameters(conditionals: Any) -> None:
    guide = perturbed(AutoStructured(model, conditionals=conditionals).setup(Y))
    loc, covariance = moments(guide)
    law = dist.MultivariateNormal(loc, covariance)
    value = torch.randn(4, 6)
    torch.testing.assert_close(
        guide.get_posterior().log_prob(value), law.log_prob(value), rtol=1e-4, atol=1e-4
    )
    trace = handlers.trace(guide).get_trace(Y)
    vector = trace["_AutoStructured_latent"].value
    torch.testing.assert_close(trace["_AutoStructured_latent"].fn.log_prob(vector), law.log_prob(vector))
    assert (trace["z"].value == vector[1:4]).all()
    found_loc, found_scale = guide.loc_and_scale()
    torch.testing.assert_close(found_loc, loc)
    torch.testing.assert_close(found_scale, covariance.diagonal().sqrt())


def test_draws_have_the_covariance_of_the_law() -> None:
    guide = perturbed(AutoStructured(model).setup(Y))
    draws = guide.sample_posterior(20_000, Y)
    rows = torch.cat([draws["mu"].unsqueeze(-1), draws["z"], draws["w"]], -1)
    loc, covariance = moments(guide)
    # n = 20 000: a correlation's standard error is below 0.0071; 5 of them fail once in a million.
    correlation = torch.corrcoef(rows.T)
    scale = covariance.diagonal().sqrt()
    torch.testing.assert_close(correlation, covariance / scale.outer(scale), rtol=0, atol=0.036)
    assert ((rows.mean(0) - loc).abs() < 5 * scale / 20_000**0.5).all()


def test_dependencies_follow_the_posterior() -> None:
    guide = AutoStructured(model).setup(Y)
    assert {name for name, _ in guide.named_parameters() if name.startswith("deps")} == {"deps.z.mu"}
    assert guide.deps.z.mu.shape == (3, 1)


def test_it_holds_a_normal_posterior() -> None:
    guide = AutoStructured(model)
    decay = optim.ClippedAdam({"lr": 0.05, "lrd": 0.01 ** (1 / 500)})
    SVI(model, guide, decay, Trace_ELBO(20)).run(500, Y, progress=False, compile=False)
    precision = torch.zeros(6, 6)
    precision[0, 0] = 1 / 4 + 3
    precision[0, 1:4] = precision[1:4, 0] = -1.0
    precision[1:4, 1:4] = torch.eye(3) * (1 + 4)
    precision[4:, 4:] = torch.eye(2) + 4.0
    covariance = torch.linalg.inv(precision)
    mean = covariance @ torch.cat([torch.zeros(1), 4 * Y, torch.full((2,), 4.0)])
    loc, found = moments(guide)
    torch.testing.assert_close(loc.detach(), mean, rtol=0, atol=0.03)
    torch.testing.assert_close(found.detach(), covariance, rtol=0, atol=0.03)


def test_median_and_quantiles() -> None:
    guide = perturbed(AutoStructured(model).setup(Y))
    loc, covariance = moments(guide)
    assert guide.median(Y)["mu"].item() == pytest.approx(loc[0].item())
    high = guide.quantiles([0.5, 0.8413447], Y)["z"][1]
    torch.testing.assert_close(high, (loc + covariance.diagonal().sqrt())[1:4].detach(), rtol=1e-4, atol=1e-4)


def test_points_have_neither_noise_nor_density() -> None:
    def positive() -> None:
        a = sample("a", dist.LogNormal(0.0, 1.0))
        sample("b", dist.Normal(a, 1.0))

    guide = AutoStructured(positive, conditionals={"a": "delta", "b": "normal"}).setup()
    trace = handlers.trace(guide).get_trace()
    assert trace["a"].value.item() == 1.0
    assert trace["a"].fn.log_prob(trace["a"].value).item() == 0.0
    assert "scales.a" not in dict(guide.named_parameters())


class Bend(nn.Module):
    """A parabola whose opening is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.opening = nn.Parameter(torch.tensor(0.1))

    def forward(self, shift: torch.Tensor) -> torch.Tensor:
        return self.opening * shift.square()


def banana() -> None:
    x = sample("x", dist.Normal(0.0, 1.0))
    sample("y", dist.Normal(x**2, 0.1))


def test_a_module_says_how_sites_depend() -> None:
    bend = Bend()
    guide = AutoStructured(banana, conditionals="normal", dependencies={"y": {"x": bend}})
    decay = optim.ClippedAdam({"lr": 0.05, "lrd": 0.01 ** (1 / 500)})
    svi = SVI(banana, guide, decay, Trace_ELBO(20))
    svi.run(500, progress=False, compile=False)
    # The family holds the prior itself: the loss is 0 there.
    assert bend.opening.item() == pytest.approx(1.0, abs=0.02)
    assert svi.evaluate_loss() == pytest.approx(0.0, abs=0.05)
    assert "AutoStructured.functions.0.opening" in get_param_store()
    with pytest.raises(GuideError, match="quantiles in closed form, got functions"):
        guide.quantiles(0.5)
    assert guide.median()["x"].item() == pytest.approx(0.0, abs=0.1)


def test_density_through_a_module_is_that_of_the_draw() -> None:
    guide = AutoStructured(banana, conditionals="normal", dependencies={"y": {"x": Bend()}}).setup()
    law = handlers.trace(guide).get_trace()["_AutoStructured_latent"].fn
    torch.testing.assert_close(law.log_prob(law.value), guide.get_posterior().log_prob(law.value))


def test_a_function_draws_the_noise() -> None:
    def heavy() -> torch.Tensor:
        scale = param("width", torch.tensor([0.5]), constraint=dist.constraints.positive)
        return sample("noise", dist.StudentT(5.0, 0.0, scale).to_event(1))

    def target() -> None:
        x = sample("x", dist.StudentT(5.0, 2.0, 1.0))
        sample("y", dist.Normal(x, 1.0))

    guide = AutoStructured(target, conditionals={"x": heavy, "y": "normal"}).setup()
    draws = guide.sample_posterior(50)
    assert len(draws["x"].unique()) == 50
    decay = optim.ClippedAdam({"lr": 0.05, "lrd": 0.01 ** (1 / 500)})
    svi = SVI(target, guide, decay, Trace_ELBO(20))
    svi.run(500, progress=False, compile=False)
    assert param("width").item() == pytest.approx(1.0, abs=0.05)
    assert guide.locs.x.item() == pytest.approx(2.0, abs=0.05)
    assert guide.deps.y.x.item() == pytest.approx(1.0, abs=0.05)
    assert svi.evaluate_loss() == pytest.approx(0.0, abs=0.05)


def test_transform_is_the_way_from_noise_to_the_law() -> None:
    guide = perturbed(AutoStructured(model, conditionals={"mu": "normal", "z": "mvn", "w": "mvn"}).setup(Y))
    transform, noise = guide.get_transform(), torch.randn(5, 6)
    vector = transform(noise)
    torch.testing.assert_close(transform.inv(vector), noise, rtol=1e-4, atol=1e-4)
    expected = dist.Normal(0.0, 1.0).log_prob(noise).sum(-1) - guide.get_posterior().log_prob(vector)
    torch.testing.assert_close(transform.log_abs_det_jacobian(noise, vector), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(
        GuideError, match="normal noise at every site for a transform, got 'delta' at site 'y'"
    ):
        AutoStructured(banana, conditionals={"x": "mvn", "y": "delta"}).setup().get_transform()


def test_it_is_a_part_of_a_list() -> None:
    guide = AutoGuideList(model)
    guide.append(AutoDelta(handlers.block(model, expose=["w"])))
    guide.append(AutoStructured(handlers.block(model, hide=["w"])))
    assert set(guide(Y)) == {"mu", "z", "w"}
    assert "AutoGuideList.1.deps.z.mu" in get_param_store()


def test_a_copy_is_its_own() -> None:
    guide = AutoStructured(model).setup(Y)
    twin = copy.deepcopy(guide)
    with torch.no_grad():
        next(iter(twin.parameters())).add_(1.0)
    assert guide.locs.mu.item() != twin.locs.mu.item()


def test_algebraic_model() -> None:
    a = NormalVariable(0.0, 1.0, "a")
    b = NormalVariable(a, 1.0, "b")
    c = NormalVariable(b, 1.0, "c")
    c.observe(1.0)
    guide = AutoStructured(ProbabilisticModel([c])).setup()
    assert guide.deps.b.a.shape == (1, 1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"conditionals": "nomal"}, r"conditionals as one of .* got 'nomal'; did you mean 'normal'\?"),
        ({"conditionals": {"x": 1}}, "conditionals as one of .* or functions by site, got 1"),
        ({"conditionals": nn.Linear(1, 1)}, "conditionals as one of .* or functions by site, got Linear"),
        ({"dependencies": "quadratic"}, "dependencies as one of .* got 'quadratic'; write 'linear'"),
        ({"dependencies": {"x": "linear"}}, "dependencies of site 'x' by site upstream, got 'linear'"),
        ({"init_scale": 0.0}, "init_scale as a number > 0"),
    ],
)
def test_argument_error(options: dict[str, Any], text: str) -> None:
    with pytest.raises(GuideError, match=text):
        AutoStructured(banana, **options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"conditionals": {"x": "normal"}}, r"a law for every latent site \['x', 'y'\], got none for 'y'"),
        ({"conditionals": {"x": "mvn", "y": "mvn", "zz": "mvn"}}, r"latent sites \['x', 'y'\], got 'zz'"),
        ({"dependencies": {"y": {"xx": "linear"}}}, "dependencies of latent sites .* got 'xx'"),
        ({"dependencies": {"x": {"y": "linear"}, "y": {"x": "linear"}}}, r"got a circle among \['x', 'y'\]"),
        ({"dependencies": {"x": {"x": "linear"}}}, r"got a circle among \['x'\]"),
        ({"dependencies": {"y": {"x": lambda u: u.expand(3)}}}, "to return 1 entries, got shape"),
        ({"conditionals": {"x": lambda: 0.0, "y": "mvn"}}, "a vector of 1 entries, got float"),
    ],
)
def test_first_call_error(options: dict[str, Any], text: str) -> None:
    with pytest.raises(GuideError, match=text):
        AutoStructured(banana, **options)()
