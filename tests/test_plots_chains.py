"""Pictures of chains."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brancher import plots
from brancher.errors import InferenceError
from brancher.infer import Samples

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("seaborn")
matplotlib.use("Agg")

from matplotlib import pyplot  # noqa: E402


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


@pytest.fixture
def grouped():
    values = {"mu": torch.randn(3, 40), "theta": torch.randn(3, 40, 2)}
    return Samples(values, {"theta": ("school",)}, {"school": ["A", "B"]}, batch_ndims=2)


def test_trace_has_a_row_an_entry_and_a_line_a_chain(grouped):
    axes = plots.plot_trace(grouped)
    assert [row[0].get_title() for row in axes] == ["mu", "theta[A]", "theta[B]"]
    assert [len(ax.get_lines()) for ax in axes[0]] == [3, 3]


def test_trace_shows_the_draws(grouped):
    line = plots.plot_trace(grouped, "mu")[0][1].get_lines()[1]
    np.testing.assert_allclose(line.get_ydata(), grouped["mu"][1].numpy())


def test_ranks_of_one_chain_count_its_draws(grouped):
    axes = plots.plot_rank(grouped, "mu", bins=5)
    assert axes.shape == (1, 3)
    assert [sum(bar.get_height() for bar in ax.patches) for ax in axes[0]] == [40, 40, 40]


def test_a_chain_that_lies_above_has_the_high_ranks():
    samples = Samples({"x": torch.stack([torch.zeros(20), torch.ones(20)])}, batch_ndims=2)
    axes = plots.plot_rank(samples, bins=2)
    assert [bar.get_height() for bar in axes[0][1].patches] == [0, 20]


def test_energy_tells_bfmi():
    ax = plots.plot_energy({"energy": torch.randn(2, 200)})
    assert "E-BFMI" in ax.get_xlabel() and len(ax.get_legend().get_texts()) == 2


@pytest.mark.parametrize("plot", [plots.plot_trace, plots.plot_rank])
def test_draws_in_one_row_error(plot):
    with pytest.raises(InferenceError, match="group_by_chain=True"):
        plot({"x": torch.zeros(5)})


def test_too_many_entries_error():
    with pytest.raises(InferenceError, match="at most 16 entries.*names="):
        plots.plot_trace(Samples({"x": torch.zeros(2, 5, 17)}, batch_ndims=2))


def test_too_many_chains_error():
    with pytest.raises(InferenceError, match="at most 8 chains"):
        plots.plot_rank(Samples({"x": torch.zeros(9, 5)}, batch_ndims=2))


def test_too_few_energies_error():
    with pytest.raises(InferenceError, match="give mcmc.stats"):
        plots.plot_energy({"energy": torch.zeros(2, 2)})
