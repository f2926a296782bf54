"""Operators, their text, and what they evaluate to."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from brancher.errors import SiteError, SiteTypeError
from brancher.symbolic import BF, DeterministicVariable, NormalVariable, ProbabilisticModel

A, B = 0.7, -1.3


def value_of(make: Any) -> torch.Tensor:
    """Evaluate an expression of a = 0.7 and b = -1.3, in a batch of two draws."""
    a, b = DeterministicVariable(A, "a"), DeterministicVariable(B, "b")
    model = ProbabilisticModel([DeterministicVariable(make(a, b), "result"), a, b])
    found = model._get_sample(2)["result"]
    torch.testing.assert_close(found[0], found[1])
    return found[0, 0]


@pytest.mark.parametrize(
    "make",
    [
        lambda a, b: a + b - 2 * a / b,
        lambda a, b: a**2 + 2**b + a ** b.__abs__(),
        lambda a, b: a // 0.3 + a % 0.3 + 5 // a + 5 % a,
        lambda a, b: -a + abs(b) - (+b),
        lambda a, b: 3.0 - a,
        lambda a, b: 1 / b,
        lambda a, b: (a > b) * 1.0 + (a <= b) * 2.0 + (a == a) + (a != b),
        lambda a, b: 1.0 * (((a > 0) & (b < 0)) | (a < b)),
        lambda a, b: 1.0 * ((a > 0) ^ (b > 0)),
        lambda a, b: np.exp(a) + np.arctan2(a, b) - np.maximum(0.0, b) + np.abs(b) - np.negative(a),
    ],
)
def test_operators_compute_what_python_does(make: Any) -> None:
    expected = make(np.float64(A), np.float64(B))
    torch.testing.assert_close(value_of(make), torch.tensor([float(expected)]))


LEFT = [np.array([1.0, 2.0]), torch.tensor([1.0, 2.0]), [1.0, 2.0], pd.Series([1.0, 2.0]), (1.0, 2.0)]


@pytest.mark.parametrize("left", LEFT, ids=lambda x: type(x).__name__)
def test_arrays_on_the_left_give_one_expression(left: Any) -> None:
    expected = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(value_of(lambda a, b: left + a), expected + A)
    torch.testing.assert_close(value_of(lambda a, b: left - a), expected - A)
    torch.testing.assert_close(value_of(lambda a, b: left * a), expected * A)
    torch.testing.assert_close(value_of(lambda a, b: left / a), expected / A)
    torch.testing.assert_close(value_of(lambda a, b: left**a), expected**A)


def test_method_of_a_tensor_error_says_the_function() -> None:
    a = NormalVariable(0.0, 1.0, "a")
    with pytest.raises(AttributeError, match=r"no attribute 'sum'; write BF\.sum"):
        a.sum()
    assert not hasattr(a + 1, "sum") and not hasattr(a, "nonsense")


def test_comparison_with_an_array_on_the_left() -> None:
    torch.testing.assert_close(
        value_of(lambda a, b: 1.0 * (np.array([0.0, 1.0]) < a)), torch.tensor([1.0, 0.0])
    )
    torch.testing.assert_close(
        value_of(lambda a, b: 1.0 * (torch.tensor([0.0, 1.0]) < a)), torch.tensor([1.0, 0.0])
    )


def test_matrix_products_of_data() -> None:
    m = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    v = torch.tensor([A, B])
    torch.testing.assert_close(value_of(lambda a, b: m @ BF.stack([a, b])), torch.tensor(m).float() @ v)
    torch.testing.assert_close(value_of(lambda a, b: BF.stack([a, b]) @ m.T), v @ torch.tensor(m.T).float())
    torch.testing.assert_close(
        value_of(lambda a, b: BF.stack([a, b]) @ [1.0, 2.0]), torch.tensor([A + 2 * B])
    )
    torch.testing.assert_close(
        value_of(lambda a, b: torch.eye(2) @ (a * m[:2])), A * torch.tensor(m[:2]).float()
    )


def test_lists_of_expressions_are_vectors() -> None:
    torch.testing.assert_close(
        value_of(lambda a, b: 2 * DeterministicVariable([a, b], "v")), torch.tensor([2 * A, 2 * B])
    )


def test_index_is_of_data() -> None:
    m = np.arange(12.0).reshape(3, 4)
    torch.testing.assert_close(value_of(lambda a, b: (m * a)[1]), torch.tensor(m[1] * A).float())
    torch.testing.assert_close(value_of(lambda a, b: (m * a)[1:, ::2]), torch.tensor(m[1:, ::2] * A).float())
    torch.testing.assert_close(value_of(lambda a, b: (m * a)[..., -1]), torch.tensor(m[..., -1] * A).float())
    torch.testing.assert_close(value_of(lambda a, b: (m * a)[[0, 2]]), torch.tensor(m[[0, 2]] * A).float())


def test_too_many_indices_error_names_the_shape() -> None:
    a = NormalVariable(np.zeros(3), 1.0, "a")
    model = ProbabilisticModel([DeterministicVariable(a[0, 0], "b")])
    with pytest.raises(SiteTypeError, match=r"a\[0, 0\].*at most 1"):
        model.get_sample(1)


def test_shared_expression_is_evaluated_once() -> None:
    calls = []

    def count(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        return x

    a = NormalVariable(0.0, 1.0, "a")
    shared = BF.BrancherFunction(count)(a)
    ProbabilisticModel(
        [NormalVariable(shared, BF.exp(shared), "b"), NormalVariable(shared**2, 1.0, "c")]
    ).get_sample(4)
    assert len(calls) == 1


def test_text_is_what_was_written() -> None:
    a, b = NormalVariable(0.0, 1.0, "a"), NormalVariable(0.0, 1.0, "b")
    assert str(a**2 + BF.sin(b)) == "a**2 + sin(b)"
    assert str((a + b) * 2 - -a) == "(a + b) * 2 - -a"
    assert str(a - (b - a)) == "a - (b - a)"
    assert str((2 * a) ** b) == "(2 * a)**b"
    assert str(a[1:, 0] @ b) == "a[1:, 0] @ b"
    assert str((a > 1) & (b < 0)) == "(a > 1) & (b < 0)"


def test_latex_is_a_formula() -> None:
    mu = NormalVariable(0.0, 1.0, "mu_1")
    y = NormalVariable(mu**2 / 2, BF.exp(mu), "y0")
    assert (mu / 2)._repr_latex_() == r"$\frac{\mu_{1}}{2}$"
    assert y._repr_latex_() == r"$y_{0} \sim \mathcal{N}\left(\frac{{\mu_{1}}^{2}}{2}, e^{\mu_{1}}\right)$"


def test_text_of_a_deep_expression_is_short() -> None:
    x: Any = NormalVariable(0.0, 1.0, "x")
    for _ in range(5000):
        x = x + x
    assert len(str(x)) < 10_000


def test_deep_expression_evaluates_without_recursion() -> None:
    a = DeterministicVariable(1.0, "a")
    total: Any = a
    for _ in range(5000):
        total = total + 1.0
    found = ProbabilisticModel([DeterministicVariable(total, "total")])._get_sample(1)["total"]
    assert float(found) == 5001.0


def test_truth_value_error_says_what_to_do() -> None:
    a = NormalVariable(0.0, 1.0, "a")
    with pytest.raises(SiteTypeError, match=r"a > 0.*BF.where"):
        bool(a > 0)
    with pytest.raises(SiteTypeError, match="expected no loop"):
        list(a)


def test_lists_of_variables_know_their_members() -> None:
    a, b = NormalVariable(0.0, 1.0, "a"), NormalVariable(0.0, 1.0, "b")
    assert b in [a, b] and [a, b].index(b) == 1 and a not in (b,)
    with pytest.raises(SiteTypeError, match=r"a == 1"):
        bool(a == 1)


def test_arrays_are_not_made_of_expressions_error() -> None:
    a = NormalVariable(np.zeros(2), 1.0, "a")
    with pytest.raises(SiteTypeError, match="'a'.*BF"):
        np.dot(np.eye(2), a)
    with pytest.raises(SiteTypeError, match="'a'.*BF"):
        np.add.reduce(a)


def test_operation_on_shapes_that_do_not_fit_error_names_variable_and_shapes() -> None:
    a, b = NormalVariable(np.zeros(2), 1.0, "a"), NormalVariable(np.zeros(3), 1.0, "b")
    model = ProbabilisticModel([NormalVariable(2.0 * (a + b), 1.0, "c")])
    with pytest.raises(SiteError, match=r"variable 'c'.*'a \+ b' with a \[2\], b \[3\].*RuntimeError"):
        model.get_sample(4)


def test_assigned_argument_error() -> None:
    a = NormalVariable(0.0, 1.0, "a")
    with pytest.raises(SiteError, match="variable 'a': expected 'loc' when it is made, got an assignment"):
        a.loc = 3.0  # type: ignore[attr-defined]


def test_text_is_no_operand_error() -> None:
    with pytest.raises(SiteTypeError, match="str"):
        NormalVariable(0.0, 1.0, "a") + "b"
    with pytest.raises(SiteTypeError, match=r"variable 'x', argument 'loc'.*list of str"):
        NormalVariable(["a", "b"], 1.0, "x")


SCRIPT = """
from brancher.symbolic import BF, NormalVariable, ProbabilisticModel, inference
names = ["z", "y", "alpha", "x", "b"]
parents = [NormalVariable(0.0, 1.0, n) for n in names]
child = NormalVariable(parents[3] * parents[0] + BF.exp(parents[4]) - parents[1] * parents[2], 1.0, "c")
model = ProbabilisticModel([child])
found = model.get_sample(3, seed=5).to_json(double_precision=15)
child.observe([0.5, 1.5])
inference.perform_inference(model, 5, 3, seed=0, progress=False, compile=False)
found += model.diagnostics["loss curve"].to_json(double_precision=15)
"""


def test_draws_are_the_same_in_another_process_with_other_hashes() -> None:
    here: dict[str, str] = {}
    exec(SCRIPT, here)
    # Not the seed of this process, whose hashes are random unless it was told otherwise.
    environment = {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", f"{SCRIPT}\nprint(found)"]
    there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert here["found"] == there.strip()
