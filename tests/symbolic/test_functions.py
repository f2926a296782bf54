"""Functions of torch on expressions: a batch of draws gives what single draws give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from brancher.errors import SiteError, SiteTypeError
from brancher.handlers import condition
from brancher.symbolic import BF, DeterministicVariable, NormalVariable, ProbabilisticModel
from brancher.symbolic.program import Program

SHAPES = {
    "s": (),
    "a": (3,),
    "W": (2, 3),
    "A": (3, 3),
    "image": (2, 6, 6),
    "kernel": (4, 2, 3, 3),
    "line": (2, 8),
    "k1": (4, 2, 3),
}

CASES: dict[str, Any] = {
    "linear": lambda v: BF.linear(v["a"], v["W"]),
    "linear of a matrix": lambda v: BF.linear(v["A"], v["W"], v["s"]),
    "cat": lambda v: BF.cat([v["a"], v["s"]], 1),
    "cat of scalars": lambda v: BF.cat((v["s"], v["s"] * 2), 1),
    "stack": lambda v: BF.stack([v["s"], v["s"] * 2]),
    "stack of vectors": lambda v: BF.stack([v["a"], v["a"] * 2], dim=2),
    "where": lambda v: BF.where(v["a"] > 0, v["a"], v["s"]),
    "conv2d": lambda v: BF.conv2d(v["image"], v["kernel"], padding=1),
    "conv1d, stride": lambda v: BF.conv1d(v["line"], v["k1"], stride=2),
    "conv1d, fixed weights": lambda v: BF.conv1d(v["line"], torch.ones(1, 2, 3)),
    "softmax": lambda v: BF.softmax(v["a"]),
    "sum of a dimension": lambda v: BF.sum(v["A"], 1),
    "sum": lambda v: BF.sum(v["A"]),
    "max": lambda v: BF.max(v["A"]),
    "max of a dimension": lambda v: BF.max(v["A"], 1)[0],
    "maximum": lambda v: BF.maximum(v["a"], 0.0),
    "inverse": lambda v: BF.inv(v["A"] @ BF.transpose(v["A"], 1, 2) + np.eye(3)),
    "cholesky": lambda v: BF.linalg.cholesky(v["A"] @ BF.transpose(v["A"], 1, 2) + np.eye(3)),
    "det": lambda v: BF.det(v["A"]),
    "triangular_form": lambda v: BF.triangular_form(BF.cat([v["a"], v["a"]], 1)),
    "batch_meshgrid": lambda v: BF.batch_meshgrid(v["a"], v["a"])[1],
    "delta": lambda v: BF.delta(v["a"], v["a"]),
    "dot": lambda v: BF.dot(v["a"], v["a"]),
    "reshape": lambda v: BF.reshape(v["A"], (-1, 9)),
    "reshape of the data": lambda v: BF.reshape(v["A"], shape=(9, 1)),
    "flatten": lambda v: BF.flatten(v["A"], 1),
    "torch's own call": lambda v: torch.sigmoid(v["a"]),
    "norm": lambda v: BF.norm(v["a"]),
    "logsumexp": lambda v: BF.logsumexp(v["a"], 1),
    "cumsum": lambda v: BF.cumsum(v["a"]),
    "clamp": lambda v: BF.clamp(v["a"], -0.5, 0.5),
    "gelu": lambda v: BF.gelu(v["a"]),
    "softplus with an option": lambda v: BF.softplus(v["a"], beta=2.0),
    "special": lambda v: BF.special.expit(v["a"]),
    "bmm": lambda v: BF.bmm(v["W"], v["A"]),
    "a lambda of two": lambda v: BF.BrancherFunction(lambda x, y: x.sum(1, keepdim=True) * y)(v["a"], v["s"]),
    "outer": lambda v: BF.outer(v["a"], v["a"]),
    "kron": lambda v: BF.kron(v["a"], v["W"]),
    "trace": lambda v: BF.trace(v["A"]),
    "addmm": lambda v: BF.addmm(v["W"], v["W"], v["A"]),
    "diag of a vector": lambda v: BF.diag(v["a"]),
    "diagonal": lambda v: BF.diagonal(v["A"]),
    "transposed": lambda v: BF.t(v["A"]),
    "cross": lambda v: BF.cross(v["a"], v["A"][0]),
    "quantile": lambda v: BF.quantile(v["A"], 0.3),
    "std_mean": lambda v: BF.std_mean(v["A"])[0],
    "flip": lambda v: BF.flip(v["a"]),
    "flipud": lambda v: BF.flipud(v["A"]),
    "rot90": lambda v: BF.rot90(v["A"]),
    "squeeze": lambda v: BF.squeeze(v["A"][:1]),
    "flatten all": lambda v: BF.flatten(v["A"]),
    "fftn": lambda v: BF.abs(BF.fft.fftn(v["A"])),
    "cov": lambda v: BF.cov(v["W"]),
    "embedding": lambda v: BF.embedding(1 * (v["s"] > 0), torch.eye(3)),
    "dropout that is off": lambda v: BF.dropout(v["a"], training=False),
    "layer_norm": lambda v: BF.layer_norm(v["a"], (3,)),
    "vector times matrix": lambda v: v["a"] @ v["A"],
    "outer product": lambda v: BF.reshape(v["a"], (-1, 3, 1)) @ BF.reshape(v["a"], (-1, 1, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_batch_of_draws_gives_what_single_draws_give(name: str) -> None:
    variables = {key: NormalVariable(np.zeros(shape), 1.0, key) for key, shape in SHAPES.items()}
    result = DeterministicVariable(CASES[name](variables), "result")
    model = ProbabilisticModel([*variables.values(), result])
    draws = model._get_sample(4)
    program = Program([*variables.values(), result])
    for i in range(4):
        values = {key: draws[key][i, 0].reshape(shape) for key, shape in SHAPES.items()}
        alone = condition(program, data=values)()["result"]
        together = draws["result"][i, 0]
        torch.testing.assert_close(together.reshape(alone.shape), alone, rtol=1e-4, atol=1e-4)


def test_random_convolution_is_torchs_for_each_draw() -> None:
    image, kernel = (NormalVariable(np.zeros(SHAPES[key]), 1.0, key) for key in ("image", "kernel"))
    draws = ProbabilisticModel([DeterministicVariable(BF.conv2d(image, kernel, padding=1), "r")])._get_sample(
        3
    )
    expected = functional.conv2d(draws["image"][1], draws["kernel"][1, 0], padding=1)
    torch.testing.assert_close(draws["r"][1], expected, rtol=1e-4, atol=1e-4)


def test_triangular_form_fills_rows() -> None:
    found = ProbabilisticModel(
        [DeterministicVariable(BF.triangular_form(np.arange(1.0, 7.0)), "t")]
    )._get_sample(1)["t"]
    torch.testing.assert_close(found[0, 0], torch.tensor([[1.0, 0, 0], [2, 3, 0], [4, 5, 6]]))


def test_network_with_a_dict_of_results() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"mean": self.layer(x), "sd": self.layer(x).exp()}

    a = NormalVariable(np.zeros(3), 1.0, "a")
    out = BF.BrancherFunction(Net())(a)
    model = ProbabilisticModel([NormalVariable(out["mean"], out["sd"], "b")])
    assert model._get_sample(5)["b"].shape == (5, 1, 4)


def test_batch_dimension_is_no_data_error() -> None:
    a = NormalVariable(np.zeros(3), 1.0, "a")
    with pytest.raises(SiteTypeError, match="dim=0"):
        BF.sum(a, 0)
    with pytest.raises(SiteError, match="dimension 0 is the batch"):
        ProbabilisticModel([DeterministicVariable(BF.unsqueeze(a, 0), "b")]).get_sample(5)


def test_unknown_function_error_names_the_nearest() -> None:
    with pytest.raises(AttributeError, match="sigmoid"):
        BF.sigmod  # noqa: B018
