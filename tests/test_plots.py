from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from brancher import errors, plots
from brancher.errors import InferenceError, MissingExtraError, UnknownNameError
from brancher.infer import Samples
from brancher.symbolic import Ensemble, NormalVariable, ProbabilisticModel, inference

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("seaborn")
matplotlib.use("Agg")

from matplotlib import pyplot  # noqa: E402


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    pyplot.close("all")


@pytest.fixture
def samples() -> Samples:
    values = {"mu": torch.randn(200), "theta": torch.randn(200, 2), "k": torch.randint(0, 5, (200,))}
    return Samples(values, {"theta": ("school",)}, {"school": ["Choate", "Deerfield"]})


def test_posterior_has_one_picture_an_entry(samples: Samples) -> None:
    axes = plots.plot_posterior(samples)
    assert [ax.get_title() for ax in axes] == ["mu", "theta[Choate]", "theta[Deerfield]", "k"]


def test_posterior_line_is_the_mean(samples: Samples) -> None:
    ax = plots.plot_posterior(samples, "mu")[0]
    assert ax.get_lines()[-1].get_xdata()[0] == pytest.approx(float(samples["mu"].mean()), rel=1e-5)


def test_constant_draws_can_be_shown() -> None:
    assert len(plots.plot_posterior({"x": torch.ones(10)})) == 1


def test_chains_are_put_end_to_end() -> None:
    grouped = Samples({"x": torch.randn(2, 50)}, batch_ndims=2)
    assert len(plots.plot_posterior(grouped)) == 1


def test_pair_has_a_panel_for_each_pair(samples: Samples) -> None:
    grid = plots.plot_pair(samples, ["mu", "theta"])
    assert list(grid.x_vars) == ["mu", "theta[Choate]", "theta[Deerfield]"]


def test_loss_shows_every_step() -> None:
    losses = pd.Series(np.linspace(10.0, 1.0, 40))
    line = plots.plot_loss(losses).get_lines()[0]
    np.testing.assert_array_equal(line.get_ydata(), losses)


def test_loss_accepts_a_list_with_infinities() -> None:
    low, high = plots.plot_loss([float("inf"), 3.0, 2.0, 1.0]).get_ylim()
    assert np.isfinite([low, high]).all() and low < 1.0 < 3.0 < high


def test_first_losses_do_not_squeeze_the_rest() -> None:
    losses = pd.Series([1e6, *np.linspace(5.0, 1.0, 99)])
    assert plots.plot_loss(losses).get_ylim()[1] < 10.0


def test_ppc_shows_simulated_and_observed() -> None:
    ax = plots.plot_ppc({"y": torch.randn(100, 30)}, torch.randn(30), max_draws=7)
    assert ax.get_legend_handles_labels()[1] == ["simulated", "observed"]
    assert len(ax.get_lines()) == 7 + 1


def test_ppc_of_counts_shows_bars() -> None:
    ax = plots.plot_ppc({"k": torch.randint(0, 4, (50, 30))}, np.array([0] * 10 + [1] * 20))
    assert [bar.get_height() for bar in ax.patches[:2]] == [10.0, 20.0]


def test_ppc_of_a_statistic_gives_its_tail_probability() -> None:
    simulated = torch.arange(100.0)[:, None].expand(100, 5)
    ax = plots.plot_ppc({"y": simulated}, torch.full((5,), 74.5), statistic=torch.max)
    assert "p = 0.25" in ax.get_legend_handles_labels()[1][0] + ax.get_legend_handles_labels()[1][1]


def test_ppc_finds_the_site_by_the_data(samples: Samples) -> None:
    ax = plots.plot_ppc(samples, {"theta": torch.zeros(2)})
    assert ax.get_xlabel() == "theta"


def test_forest_has_one_line_an_entry(samples: Samples) -> None:
    labels = [label.get_text() for label in plots.plot_forest(samples).get_yticklabels()]
    assert labels == ["mu", "theta[Choate]", "theta[Deerfield]", "k"]


@pytest.mark.parametrize(
    "plot",
    [
        lambda ax: plots.plot_loss([3.0, 2.0, 1.0], ax=ax),
        lambda ax: plots.plot_ppc({"y": torch.randn(5, 9)}, torch.randn(9), ax=ax),
        lambda ax: plots.plot_forest({"y": torch.randn(50, 9)}, ax=ax),
    ],
)
def test_given_axes_are_used(plot: Any) -> None:
    _, ax = pyplot.subplots()
    assert plot(ax) is ax
    assert len(pyplot.get_fignums()) == 1


def test_settings_are_left_alone(samples: Samples) -> None:
    before = dict(matplotlib.rcParams)
    plots.plot_posterior(samples)
    plots.plot_pair(samples)
    plots.plot_loss([3.0, 2.0])
    plots.plot_forest(samples)
    plots.plot_ppc({"y": torch.randn(5, 9)}, torch.randn(9))
    assert dict(matplotlib.rcParams) == before


def test_random_numbers_are_left_alone(samples: Samples) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    plots.plot_pair(samples)
    plots.plot_ppc({"y": samples["theta"]}, torch.zeros(2))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_importing_loads_no_plotting_package() -> None:
    heavy = ("seaborn", "matplotlib", "pandas")
    script = f"import sys, brancher.plots; print([m for m in {heavy!r} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_too_many_entries_error() -> None:
    with pytest.raises(InferenceError, match="at most 64 entries .* got 100"):
        plots.plot_posterior({"x": torch.randn(5, 100)})


def test_unknown_name_error(samples: Samples) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'theta'"):
        plots.plot_posterior(samples, ["thetta"])


def test_no_draws_error() -> None:
    with pytest.raises(InferenceError, match="got none"):
        plots.plot_posterior({"x": torch.zeros(0)})


def test_no_losses_error() -> None:
    with pytest.raises(InferenceError, match="at least one loss"):
        plots.plot_loss([])


def test_ppc_without_a_clear_site_error(samples: Samples) -> None:
    with pytest.raises(UnknownNameError, match="name the observed site"):
        plots.plot_ppc(samples, torch.zeros(2))


def test_ppc_of_other_size_error(samples: Samples) -> None:
    with pytest.raises(InferenceError, match="expected 2 observed values"):
        plots.plot_ppc(samples, torch.zeros(3), "theta")


def test_missing_package_error(monkeypatch: pytest.MonkeyPatch, samples: Samples) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(errors.importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'brancher\[plot\]'"):
        plots.plot_posterior(samples)


# Algebraic models


@pytest.fixture
def model() -> Any:
    mu, sd = NormalVariable(0.0, 2.0, "mu"), NormalVariable([0.0, 0.0], 1.0, "w")
    y = NormalVariable(mu, 1.0, "y")
    y.observe([1.0, 2.0])
    found = ProbabilisticModel([y, sd])
    found.set_posterior_model([NormalVariable(1.0, 0.5, "mu"), NormalVariable([1.0, 2.0], 0.5, "w")])
    return found


def test_posterior_of_a_model_is_a_grid_with_its_prior(model: Any) -> None:
    grid = plots.plot_posterior(model, seed=0)
    assert list(grid.x_vars) == ["mu", "w[0]", "w[1]"]
    assert [text.get_text() for text in grid.legend.get_texts()] == ["prior", "posterior"]
    assert grid.data.groupby("law")["mu"].std()["prior"] == pytest.approx(2.0, abs=0.3)


def test_posterior_of_one_variable_has_a_legend(model: Any) -> None:
    grid = plots.plot_posterior(model, variables=[model.get_variable("mu")], prior=False)
    assert [text.get_text() for text in grid.diag_axes[0].get_legend().get_texts()] == ["posterior"]


def test_posterior_histogram_has_heights_of_densities(model: Any) -> None:
    axes = plots.plot_posterior_histogram(model, ["mu"], number_samples=4000, bins=10, seed=0)
    prior = axes[0].patches[0].get_xy()
    # The prior's density at its mean is 0.2; five standard errors of a bar's height.
    assert prior[:, 1].max() == pytest.approx(0.2, abs=0.06)


def test_density_shows_a_line_an_entry(model: Any) -> None:
    assert len(plots.plot_density(model).get_legend().get_texts()) == 4
    assert len(plots.plot_density(model.get_posterior_sample(100), ["mu", "w"]).collections) == 3


def test_several_samples_are_told_apart(model: Any) -> None:
    grid = plots.plot_multiple_samples(
        [model.get_sample(50), model.get_posterior_sample(60)], "mu", ["a", "b"]
    )
    assert grid.data["law"].value_counts().to_dict() == {"a": 50, "b": 60}


def test_several_samples_need_their_labels_error(model: Any) -> None:
    with pytest.raises(InferenceError, match="1 tables and 2 labels"):
        plots.plot_multiple_samples([model.get_sample(5)], "mu", ["a", "b"])


def test_ensemble_histogram_has_area_one() -> None:
    ensemble = Ensemble([ProbabilisticModel([NormalVariable(loc, 1.0, "x")]) for loc in (-3.0, 3.0)], [1, 3])
    for ax in (
        plots.ensemble_histogram(ensemble.get_sample(1000, seed=0), "x"),
        plots.ensemble_histogram([m.get_sample(500) for m in ensemble.models.values()], "x", [1, 3]),
    ):
        area = sum(patch.get_height() * patch.get_width() for patch in ax.patches)
        assert area == pytest.approx(1.0)
        right = sum(p.get_height() * p.get_width() for p in ax.patches if p.get_x() > 0)
        assert right == pytest.approx(0.75, abs=0.07)


def test_ensemble_histogram_of_an_unknown_variable_error() -> None:
    with pytest.raises(UnknownNameError, match="got 'z'"):
        plots.ensemble_histogram([pd.DataFrame({"x": [1.0]})], "z")


def test_ensemble_histogram_with_wrong_weights_error() -> None:
    with pytest.raises(InferenceError, match="expected 1 weights"):
        plots.ensemble_histogram([pd.DataFrame({"x": [1.0]})], "x", [1.0, 2.0])


def test_particles_are_as_large_as_their_weights() -> None:
    points = {"x": torch.tensor([[0.0, 1.0], [2.0, 3.0]])}
    ax = plots.plot_particles(points, weights=[1.0, 3.0])
    sizes = ax.collections[0].get_sizes()
    assert sizes[1] / sizes[0] == pytest.approx(3.0)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x[0]", "x[1]")
    assert len(plots.plot_particles(points, "x[0]", [1.0, 3.0], trace=points).get_lines()) == 1


def test_particles_of_a_fitted_model(model: Any) -> None:
    model.posterior_model = None
    method = inference.SteinVariationalGradientDescent(number_particles=7)
    inference.perform_inference(model, 2, inference_method=method, progress=False, compile=False)
    assert len(plots.plot_particles(model, "mu").get_lines()[0].get_xdata()) == 7


def test_posterior_without_particles_error(model: Any) -> None:
    with pytest.raises(InferenceError, match="expected a posterior of particles"):
        plots.plot_particles(model)


def test_band_holds_its_share() -> None:
    frame = pd.DataFrame(np.random.default_rng(0).standard_normal((5, 4000)), index=range(2000, 2005))
    ax = plots.plot_timeseries(frame, data=pd.Series({2001: 0.5, 2003: np.nan}), prob=0.9, max_lines=3)
    low, high = ax.collections[0].get_paths()[0].get_extents().get_points()[:, 1]
    assert (low, high) == pytest.approx((-1.645, 1.645), abs=0.1)
    assert len(ax.get_lines()) == 1 + 3 + 1


def test_band_of_a_prediction_is_its_own() -> None:
    table = pd.DataFrame({"mean": [0.0], "sd": [1.0], "5%": [-2.0], "95%": [2.0]}, index=[1.0])
    ax = plots.plot_timeseries(table)
    assert ax.get_legend_handles_labels()[1] == ["90 % band", "median"]


def test_band_of_arrays_error() -> None:
    with pytest.raises(InferenceError, match="a number in every cell"):
        plots.plot_timeseries(pd.DataFrame({0: [np.zeros(2), np.zeros(2)]}))


def test_pictures_of_models_leave_settings_alone(model: Any) -> None:
    before = dict(matplotlib.rcParams)
    plots.plot_posterior(model)
    plots.plot_density(model)
    assert dict(matplotlib.rcParams) == before
