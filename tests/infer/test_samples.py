from __future__ import annotations

import copy
import pickle

import pytest
import torch

from brancher import deterministic, handlers, plate, sample
from brancher import distributions as dist
from brancher.errors import InferenceError, InferenceTypeError, UnknownNameError
from brancher.infer import Samples, summary
from brancher.infer.samples import labels_of

LABELLED = Samples({"x": torch.zeros(4, 2)}, {"x": ("row",)}, {"row": ["a", "b"]})


def test_samples_are_a_dict() -> None:
    assert dict(LABELLED) == {"x": LABELLED["x"]} and LABELLED.num_samples == 4


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_keep_their_labels(twin: object) -> None:
    made = twin(LABELLED)  # type: ignore[operator]
    assert list(made.to_frame()) == ["x[a]", "x[b]"]


def test_one_draw_is_one_row() -> None:
    single = Samples({"x": torch.zeros(2)}, batch_ndims=0)
    assert single.to_frame().shape == (1, 2)
    assert list(single.summary().index) == ["x[0]", "x[1]"]


def test_notebook_shows_the_summary() -> None:
    assert "x[a]" in LABELLED._repr_html_()


def test_unknown_column_error() -> None:
    with pytest.raises(UnknownNameError, match="got 'z'"):
        LABELLED.to_frame("z")


def test_plates_name_dimensions_left_of_events() -> None:
    def model() -> None:
        with plate("outer", 2, dim=-2), plate("inner", 3, dim=-1):
            sample("x", dist.Normal(torch.zeros(4), 1.0).to_event(1))

    record = handlers.trace(model).get_trace()
    assert labels_of(record.sites(), record)[0] == {"x": ("outer", "inner", "x_dim_2")}


def test_deterministic_values_find_their_plate() -> None:
    def model() -> None:
        with plate("row", 2):
            deterministic("plain", torch.zeros(2))
            deterministic("event", torch.zeros(2, 5))
            deterministic("declared", torch.zeros(2, 2), event_dim=1)
        deterministic("outside", torch.zeros(2))

    record = handlers.trace(model).get_trace()
    assert labels_of(record.sites(), record)[0] == {
        "plain": ("row",),
        "event": ("row", "event_dim_1"),
        "declared": ("row", "declared_dim_1"),
        "outside": ("outside_dim_0",),
    }


def test_summary_has_exact_moments() -> None:
    table = summary({"x": torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 60.0]])}, prob=0.5)
    assert list(table.index) == ["x[0]", "x[1]"]
    assert table["mean"].to_list() == [2.0, 30.0]
    assert table["median"].to_list() == [2.0, 20.0]
    assert table["sd"].to_list() == pytest.approx([1.0, 26.457513])


def test_summary_of_draws_claims_no_convergence() -> None:
    assert list(summary({"x": torch.randn(50)})) == ["mean", "sd", "median", "hpdi_5%", "hpdi_95%"]


def test_summary_of_chains_has_diagnostics() -> None:
    table = summary({"x": torch.randn(4, 200)}, group_by_chain=True)
    assert list(table)[-4:] == ["mcse_mean", "ess_bulk", "ess_tail", "r_hat"]
    assert table.loc["x", "r_hat"] < 1.05


def test_summary_of_grouped_samples_needs_no_flag() -> None:
    assert "r_hat" in Samples({"x": torch.randn(4, 200)}, batch_ndims=2).summary()


def test_summary_accepts_counts() -> None:
    assert summary({"k": torch.tensor([1, 2, 3])}).loc["k", "mean"] == 2.0


def test_summary_of_one_draw_has_no_interval() -> None:
    assert list(summary({"x": torch.zeros(1)})) == ["mean", "sd", "median"]


def test_summary_without_draws_error() -> None:
    with pytest.raises(InferenceError, match="'x'"):
        summary({"x": torch.zeros(0)})


def test_summary_of_a_tensor_error() -> None:
    with pytest.raises(InferenceTypeError, match="mapping"):
        summary(torch.zeros(3))  # type: ignore[arg-type]
