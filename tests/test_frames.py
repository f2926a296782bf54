from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from brancher.errors import UnknownNameError
from brancher.frames import draws_frame, entries_frame, entry_labels, pick


def test_scalar_entry_has_the_name_alone() -> None:
    assert entry_labels("mu", ()) == ["mu"]


def test_entries_without_coords_are_counted_from_zero() -> None:
    assert entry_labels("w", (2, 2)) == ["w[0,0]", "w[0,1]", "w[1,0]", "w[1,1]"]


def test_coords_label_their_own_dimension() -> None:
    labels = entry_labels("w", (2, 2), ("row", "col"), {"col": ["a", "b"]})
    assert labels == ["w[0,a]", "w[0,b]", "w[1,a]", "w[1,b]"]


def test_coords_of_another_length_are_not_used() -> None:
    assert entry_labels("w", (2,), ("row",), {"row": ["a", "b", "c"]}) == ["w[0]", "w[1]"]


def test_empty_dimension_has_no_entries() -> None:
    assert entry_labels("w", (0,)) == []


def test_draws_frame_keeps_integers() -> None:
    table = draws_frame({"k": torch.tensor([1, 2]), "x": torch.tensor([0.5, 1.5])})
    assert table.dtypes.to_dict() == {"k": np.dtype("int64"), "x": np.dtype("float32")}


def test_draws_frame_has_one_row_a_draw() -> None:
    values = torch.arange(6.0).reshape(3, 2)
    table = draws_frame({"x": values})
    pd.testing.assert_frame_equal(
        table,
        pd.DataFrame(values.numpy(), columns=["x[0]", "x[1]"], index=pd.RangeIndex(3, name="draw")),
    )


def test_draws_frame_of_chains_has_two_index_levels() -> None:
    table = draws_frame({"x": torch.arange(6.0).reshape(2, 3)}, ("chain", "draw"))
    assert table.index.names == ["chain", "draw"]
    assert table.loc[(1, 2), "x"] == 5.0


def test_draws_frame_accepts_values_with_gradients() -> None:
    assert draws_frame({"x": torch.zeros(2, requires_grad=True)}).shape == (2, 1)


def test_draws_frame_of_nothing_is_empty() -> None:
    assert draws_frame({}).empty


def test_entries_frame_has_one_row_an_entry() -> None:
    columns = {"a": {"mean": torch.tensor(1.0)}, "b": {"mean": torch.tensor([2.0, 3.0])}}
    table = entries_frame(columns, {"b": ("row",)}, {"row": ["u", "v"]})
    assert table["mean"].to_dict() == {"a": 1.0, "b[u]": 2.0, "b[v]": 3.0}


def test_pick_names_the_nearest_error() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'theta'"):
        pick({"theta": torch.zeros(1)}, ["thetta"])
