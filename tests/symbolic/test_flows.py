"""Densities of transformed variables: by other families, by integration, by torch's Jacobians."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch.autograd.functional import jacobian

from brancher.distributions import Normal, TransformedDistribution, transforms
from brancher.distributions.flow_transforms import CenteredSoftmaxTransform, PlanarTransform
from brancher.errors import SiteError, SiteTypeError
from brancher.symbolic import LogNormalVariable, NormalVariable, ProbabilisticModel, inference
from brancher.symbolic.flows import (
    Bias,
    Exp,
    Flow,
    PlanarFlow,
    Scaling,
    Sigmoid,
    Softmax,
    Transformation,
    TriangularLinear,
)


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)  # put back by the conftest of the project


def density(variable: Any, values: Any) -> np.ndarray:
    return np.exp(variable.calculate_log_probability({variable.name: values}).numpy())


def normal(size: int = 2) -> Any:
    return NormalVariable(torch.zeros(size), 1.0, "z")


# Known laws


@pytest.mark.parametrize(
    ("make", "law", "values"),
    [
        (lambda: Exp(), stats.lognorm(0.7, scale=np.exp(0.3)), [0.2, 1.0, 5.0]),
        (lambda: Scaling(2.0), stats.norm(0.6, 1.4), [-1.0, 0.0, 3.0]),
        (lambda: Scaling(-2.0), stats.norm(-0.6, 1.4), [-1.0, 0.0, 3.0]),
        (lambda: Bias(1.5), stats.norm(1.8, 0.7), [-1.0, 0.0, 3.0]),
    ],
    ids=["Exp", "Scaling", "mirrored", "Bias"],
)
def test_known_laws(make: Callable[[], Transformation], law: Any, values: list[float]) -> None:
    y = make()(NormalVariable(0.3, 0.7, "y"))
    np.testing.assert_allclose(density(y, values), law.pdf(values), rtol=1e-10)


def test_sigmoid_is_logit_normal() -> None:
    y = Sigmoid()(NormalVariable(0.3, 0.7, "y"))
    values = np.array([0.1, 0.5, 0.9])
    expected = stats.norm.pdf(np.log(values / (1 - values)), 0.3, 0.7) / (values * (1 - values))
    np.testing.assert_allclose(density(y, values), expected, rtol=1e-10)


def test_triangular_map_is_a_multivariate_normal() -> None:
    matrix = np.array([[2.0, 0.0], [0.5, 1.5]])
    y = Bias([1.0, -1.0])(TriangularLinear(matrix)(normal()))
    values = np.array([[0.3, 0.2], [1.0, -2.0]])
    law = stats.multivariate_normal([1.0, -1.0], matrix @ matrix.T)
    np.testing.assert_allclose(density(y, values), law.pdf(values), rtol=1e-10)


def test_one_map_after_another() -> None:
    """3 exp(2 z + 1) is log-normal."""
    y = Scaling(3.0)(Exp()(Bias(1.0)(Scaling(2.0)(NormalVariable(0.0, 1.0, "y")))))
    law = stats.lognorm(2.0, scale=3.0 * np.exp(1.0))
    np.testing.assert_allclose(density(y, [0.5, 3.0, 20.0]), law.pdf([0.5, 3.0, 20.0]), rtol=1e-10)


def test_random_scale_belongs_to_its_draw() -> None:
    scale = LogNormalVariable(0.0, 1.0, "scale")
    y = Scaling(scale)(normal())
    draws = y._get_sample(20_000, seed=0)
    ratio = draws["z"][:, 0] / draws["scale"][:, 0]
    # Five standard errors of a standard deviation.
    np.testing.assert_allclose(ratio.std(0), [1.0, 1.0], rtol=5 / 40_000**0.5)
    values = {"scale": [0.5, 2.0], "z": [[0.1, 0.2], [0.3, 0.4]]}
    expected = [
        stats.lognorm.logpdf(s, 1.0) + stats.norm.logpdf(z, 0.0, s).sum()
        for s, z in zip(values["scale"], np.array(values["z"]), strict=True)
    ]
    np.testing.assert_allclose(y.calculate_log_probability(values), expected, rtol=1e-10)


# Integrals


def planar() -> PlanarFlow:
    return PlanarFlow([2.0, -1.0], [1.0, 1.5], 0.3)


FLOWS: dict[str, Callable[[], Any]] = {
    "planar": lambda: planar()(normal()),
    "two planes": lambda: PlanarFlow([0.5, 1.0], [-3.0, 1.0], -0.2)(planar()(normal())),
    "planar, triangular": lambda: planar()(TriangularLinear([[0.7, 0.0], [0.4, 0.9]])(normal())),
    "planar, scaled": lambda: Scaling([0.5, 0.8])(planar()(normal())),
}


@pytest.mark.parametrize("flow", FLOWS)
def test_density_integrates_to_one(flow: str) -> None:
    y = FLOWS[flow]()
    axis = np.linspace(-9, 9, 401)  # the rest is below 1e-8; the step is a tenth of the finest scale
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    assert density(y, points).sum() * (axis[1] - axis[0]) ** 2 == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("flow", FLOWS)
def test_draws_have_the_moments_of_the_density(flow: str) -> None:
    y = FLOWS[flow]()
    axis = np.linspace(-9, 9, 301)
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    weights = density(y, points)
    weights /= weights.sum()
    mean = weights @ points
    draws = y._get_sample(40_000, seed=0)["z"][:, 0].numpy()
    np.testing.assert_allclose(draws.mean(0), mean, atol=5 * 2.5 / 40_000**0.5)
    np.testing.assert_allclose(draws.var(0), weights @ (points - mean) ** 2, rtol=0.05)


def test_softmax_integrates_to_one_over_the_simplex() -> None:
    y = Softmax()(normal())
    axis = (np.arange(300) + 0.5) / 300
    first, second = np.meshgrid(axis, axis)
    is_inside = first + second < 1
    points = np.stack([first, second, 1 - first - second], -1)[is_inside]
    assert density(y, points).sum() / 300**2 == pytest.approx(1.0, abs=2e-3)
    assert y.get_sample(1)["z"][0].sum() == pytest.approx(1.0)


# Maps


def random_planar(size: int = 3) -> PlanarTransform:
    return PlanarTransform(torch.randn(size), 3 * torch.randn(size), torch.randn(()))


@pytest.mark.parametrize("seed", range(5))
def test_planar_log_determinant_is_that_of_the_jacobian(seed: int) -> None:
    torch.manual_seed(seed)
    f, x = random_planar(), torch.randn(3)
    expected = torch.linalg.slogdet(jacobian(f, x))[1]
    torch.testing.assert_close(f.log_abs_det_jacobian(x, f(x)), expected)


def test_softmax_log_determinant_is_that_of_the_jacobian() -> None:
    f, x = CenteredSoftmaxTransform(), torch.randn(3)
    matrix = jacobian(lambda x: f(x)[:-1], x)
    torch.testing.assert_close(f.log_abs_det_jacobian(x, f(x)), torch.linalg.slogdet(matrix)[1])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_inverses(scale: float) -> None:
    x = scale * torch.randn(50, 3)
    f = random_planar()
    torch.testing.assert_close(f.inv(f(x)), x, rtol=1e-9, atol=1e-9)


def test_planar_inverse_has_its_gradients() -> None:
    y = torch.randn(3, requires_grad=True)
    parts = [
        torch.randn(3, requires_grad=True),
        torch.randn(3, requires_grad=True),
        torch.randn((), requires_grad=True),
    ]
    assert torch.autograd.gradcheck(lambda y, w, u, b: PlanarTransform(w, u, b).inv(y), (y, *parts))


def test_planar_of_weight_zero_is_a_shift() -> None:
    f = PlanarTransform(torch.zeros(2), torch.ones(2), torch.tensor(0.5))
    x = torch.randn(2)
    torch.testing.assert_close(f(x), x + torch.tensor(0.5).tanh())
    assert f.log_abs_det_jacobian(x, f(x)) == 0.0


# Models


def test_flow_learns_a_bent_posterior() -> None:
    """Around the parabola a normal reaches -2.29 and two planes -1.62, of a log evidence of -1.30."""
    z = NormalVariable([0.0, 0.0], 1.0, "z")
    bend = NormalVariable(z[0] ** 2 - z[1], 0.2, "bend")
    bend.observe(1.0)
    model = ProbabilisticModel([bend])

    def bound(posterior: Any) -> float:
        model.set_posterior_model([posterior])
        for steps, lr in ((150, 0.1), (100, 0.01)):
            inference.perform_inference(model, steps, 20, lr=lr, progress=False, compile=False, seed=0)
        return model.estimate_log_model_evidence(5000, seed=0)

    def base() -> Any:
        return NormalVariable([0.0, 0.0], [1.0, 1.0], "z", learnable=True)

    left = PlanarFlow([-1.0, 0.0], [0.0, 0.1], -1.0, learnable=True)
    right = PlanarFlow([1.0, 0.0], [0.0, 0.1], -1.0, learnable=True)
    bent = bound(left(right(base())))
    axis = np.linspace(-6, 6, 600)
    first, second = np.meshgrid(axis, axis)
    joint = stats.norm.pdf(first) * stats.norm.pdf(second) * stats.norm.pdf(1.0, first**2 - second, 0.2)
    evidence = np.log(joint.sum() * (axis[1] - axis[0]) ** 2)
    assert bound(base()) + 0.1 < bent < evidence + 0.02


def test_all_settings_learn() -> None:
    base = NormalVariable([0.0, 0.0], [1.0, 1.0], "z", learnable=True)
    flow = PlanarFlow(size=2)(TriangularLinear(size=2)(Bias([0.0, 0.0], learnable=True)(base)))
    y = NormalVariable(NormalVariable([0.0, 0.0], 1.0, "z")[0] ** 2, 0.5, "y")
    y.observe(1.0)
    model = ProbabilisticModel([y])
    model.set_posterior_model([flow])
    before = model.posterior_model.parameters
    inference.perform_inference(model, 2, 10, lr=0.1, progress=False, compile=False)
    after = model.posterior_model.parameters
    assert set(before) == {
        "z.loc", "z.scale", "z.Bias_shift", "z.TriangularLinear_matrix",
        "z.PlanarFlow_weight", "z.PlanarFlow_direction", "z.PlanarFlow_bias",
    }  # fmt: skip
    assert all(bool((before[key] != after[key]).any()) for key in before)


def test_settings_of_equal_maps_have_names_of_their_own() -> None:
    flow = PlanarFlow(size=2)(PlanarFlow(size=2)(normal()))
    assert {"PlanarFlow_weight", "PlanarFlow_weight_2"} <= set(flow.arguments)


def test_transformed_variable_is_observed_in_a_plate() -> None:
    loc = NormalVariable(0.0, 1.0, "loc")
    y = Exp()(NormalVariable(loc, 1.0, "y"))
    y.observe([1.0, 2.0, 3.0])
    expected = stats.norm.logpdf(0.2) + stats.lognorm.logpdf([1, 2, 3], 1.0, scale=np.exp(0.2)).sum()
    model = ProbabilisticModel([y])
    assert model.calculate_log_probability({"loc": 0.2}) == pytest.approx(expected)


def test_name_is_that_of_the_base_or_its_own() -> None:
    base = NormalVariable(0.0, 1.0, "x")
    assert Exp()(base).name == "x"
    assert Exp()(base, name="y").name == "y"
    assert list(Exp()(base, name="y").get_sample(2)) == ["y"]


def test_transforms_of_distributions_are_lifted() -> None:
    values = torch.tensor([[0.3, -0.2], [1.0, 0.5]])
    maps = [transforms.SigmoidTransform(), transforms.spline_coupling(2), transforms.StickBreakingTransform()]
    for map_ in maps:
        y = Flow(map_)(normal())
        at = map_(values)
        base = Normal(torch.zeros(2), 1.0).to_event(1)
        expected = TransformedDistribution(base, [map_]).log_prob(at)
        torch.testing.assert_close(y.calculate_log_probability({"z": at}), expected)


def test_networks_of_a_flow_learn() -> None:
    coupling = transforms.spline_coupling(2)
    before = {name: value.detach().clone() for name, value in coupling.named_parameters()}
    y = NormalVariable(normal()[0] ** 2, 0.5, "y")
    y.observe(1.0)
    model = ProbabilisticModel([y])
    model.set_posterior_model([Flow(coupling)(normal())])
    inference.perform_inference(model, 3, 10, lr=0.1, progress=False, compile=False)
    assert any(bool((before[name] != value).any()) for name, value in coupling.named_parameters())
    assert np.isfinite(model.estimate_log_model_evidence(100))


# Errors


def test_function_for_a_transform_error() -> None:
    with pytest.raises(SiteTypeError, match="Flow: expected a transform, got type"):
        Flow(transforms.SigmoidTransform)  # type: ignore[arg-type]


def test_number_for_a_vector_error() -> None:
    with pytest.raises(SiteError, match="variable 'x': expected a vector to transform by PlanarFlow"):
        PlanarFlow(size=2)(NormalVariable(0.0, 1.0, "x")).get_sample(1)


def test_settings_of_another_size_error() -> None:
    with pytest.raises(
        SiteError, match=r"'weight' of PlanarFlow to fit values of shape \(2,\), got shape \(3,\)"
    ):
        PlanarFlow(size=3)(normal()).get_sample(1)
    with pytest.raises(SiteError, match="'scale' of Scaling"):
        Scaling([1.0, 2.0])(NormalVariable(0.0, 1.0, "x")).get_sample(1)


def test_expression_error() -> None:
    with pytest.raises(SiteTypeError, match="Exp: expected a random variable, got Operation"):
        Exp()(2 * NormalVariable(0.0, 1.0, "x"))  # type: ignore[arg-type]


def test_missing_settings_error() -> None:
    with pytest.raises(SiteError, match="or a size to start from, got neither"):
        PlanarFlow()
    with pytest.raises(SiteError, match="got both"):
        TriangularLinear([[1.0]], size=1)
