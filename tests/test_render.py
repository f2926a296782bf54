from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from brancher import deterministic, factor, handlers, module, param, plate, sample
from brancher import distributions as dist
from brancher.errors import HandlerTypeError, InferenceError, MissingExtraError
from brancher.render import render_model


def schools(y: Any = None) -> None:
    mu = sample("mu", dist.Normal(0.0, 5.0))
    tau = sample("tau", dist.HalfCauchy(5.0))
    with plate("school", 8):
        eta = sample("eta", dist.Normal(0.0, 1.0))
        theta = deterministic("theta", mu + tau * eta, event_dim=0)
        sample("y", dist.Normal(theta, 1.0), obs=y)


def test_eight_schools() -> None:
    graph = render_model(schools, (torch.zeros(8),))
    assert set(graph.edges) == {("mu", "theta"), ("tau", "theta"), ("eta", "theta"), ("theta", "y")}
    assert {name: node.kind for name, node in graph.nodes.items()} == {
        "mu": "latent",
        "tau": "latent",
        "eta": "latent",
        "theta": "deterministic",
        "y": "observed",
    }
    assert graph.nodes["y"].plates == ("school",)


def test_deterministic_sites_can_be_looked_through() -> None:
    graph = render_model(schools, (torch.zeros(8),), render_deterministic=False)
    assert set(graph.edges) == {("mu", "y"), ("tau", "y"), ("eta", "y")}


def test_hidden_markov_model_with_discrete_states() -> None:
    def hmm() -> None:
        rows, means = torch.full((3, 3), 1 / 3), torch.arange(3.0)
        z: Any = 0
        for t in range(3):
            z = sample(f"z_{t}", dist.Categorical(rows[z]))
            sample(f"x_{t}", dist.Normal(means[z], 1.0), obs=torch.tensor(0.0))

    edges = {("z_0", "z_1"), ("z_1", "z_2"), ("z_0", "x_0"), ("z_1", "x_1"), ("z_2", "x_2")}
    assert set(render_model(hmm).edges) == edges


def test_writing_to_a_buffer_is_followed_entry_by_entry() -> None:
    def model() -> None:
        buffer = torch.zeros(2)
        buffer[0] = sample("a", dist.Normal(0.0, 1.0))
        buffer[1] = sample("b", dist.Normal(0.0, 1.0))
        sample("x", dist.Normal(buffer[0], 1.0))
        sample("y", dist.Normal(buffer.sum(), 1.0))

    assert set(render_model(model).edges) == {("a", "x"), ("a", "y"), ("b", "y")}


def test_writing_through_a_view_is_followed() -> None:
    def model() -> None:
        buffer = torch.zeros(2)
        buffer[0].copy_(sample("a", dist.Normal(0.0, 1.0)))
        sample("y", dist.Normal(buffer.sum(), 1.0))

    assert render_model(model).edges == (("a", "y"),)


def test_regression_in_matrix_form() -> None:
    def model(x: torch.Tensor, y: torch.Tensor) -> None:
        w = sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        scale = sample("scale", dist.HalfNormal(1.0))
        with plate("row", len(x)):
            sample("y", dist.Normal(x @ w, scale), obs=y)

    graph = render_model(model, (torch.ones(5, 2),), {"y": torch.zeros(5)})
    assert graph.edges == (("w", "y"), ("scale", "y"))


def test_a_network_between_sites_is_followed() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))

    def model() -> None:
        net_ = module("net", net)
        z = sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        sample("x", dist.Normal(net_(z), 1.0).to_event(1), obs=torch.zeros(3))

    assert render_model(model).edges == (("z", "x"),)
    assert ("net.0.weight", "x") in render_model(model, render_params=True).edges


def test_draws_do_not_inherit_the_parents_of_their_law() -> None:
    def chain() -> None:
        a = sample("a", dist.Normal(0.0, 1.0))
        b = sample("b", dist.Normal(a, 1.0))
        sample("c", dist.Normal(b, 1.0))

    assert render_model(chain).edges == (("a", "b"), ("b", "c"))


def test_observed_values_can_be_parents() -> None:
    def model() -> None:
        x = sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(1.0))
        sample("y", dist.Normal(x, 1.0))

    assert render_model(model).edges == (("x", "y"),)


def test_params_are_shown_on_demand() -> None:
    def model() -> None:
        sample("x", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))

    assert list(render_model(model).nodes) == ["x"]
    assert render_model(model, render_params=True).edges == (("loc", "x"),)


def test_factors_have_parents() -> None:
    def model() -> None:
        x = sample("x", dist.Normal(0.0, 1.0))
        factor("f", -(x**2))

    assert render_model(model).edges == (("x", "f"),)


def test_masks_are_parents() -> None:
    def model() -> None:
        x = sample("x", dist.Normal(0.0, 1.0))
        with handlers.mask(mask=x > 0):
            sample("y", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))

    assert render_model(model).edges == (("x", "y"),)


def test_a_law_without_density_is_looked_into() -> None:
    class Simulator(torch.distributions.Normal):
        def log_prob(self, value: torch.Tensor) -> torch.Tensor:
            raise NotImplementedError

    def model() -> None:
        x = sample("x", dist.Normal(0.0, 1.0))
        sample("y", Simulator(x, 1.0))

    assert render_model(model).edges == (("x", "y"),)


def test_dot_is_as_written_by_hand() -> None:
    def model() -> None:
        with plate("row", 10, subsample_size=2):
            sample("x", dist.Normal(0.0, 1.0), obs=torch.zeros(2))

    assert render_model(model, render_distributions=True).dot.splitlines()[3:] == [
        '  subgraph "cluster_0" {',
        '    label="row × 2 of 10"; labeljust=r; labelloc=b',
        '    style=rounded; color="#808080"',
        '    "x" [label="x\\n~ Normal", shape=ellipse, style=filled, fillcolor="#d0d0d0"]',
        "  }",
        "}",
    ]


def test_mermaid_is_as_written_by_hand() -> None:
    def model() -> None:
        mu = sample("mu", dist.Normal(0.0, 1.0))
        with plate("row", 2):
            sample("x", dist.Normal(mu, 1.0))

    assert render_model(model).mermaid.splitlines()[:6] == [
        "flowchart TD",
        '  n0(["mu"]):::latent',
        '  subgraph p0["row × 2"]',
        '    n1(["x"]):::latent',
        "  end",
        "  n0 --> n1",
    ]


def test_nested_plates_are_nested_boxes() -> None:
    def model() -> None:
        with plate("outer", 3, dim=-2):
            sample("a", dist.Normal(0.0, 1.0))
            with plate("inner", 2, dim=-1):
                sample("x", dist.Normal(0.0, 1.0))

    text = render_model(model).mermaid
    assert text.index("outer") < text.index("inner") < text.index("end")


def test_crossing_plates_draw_one_twice() -> None:
    def model() -> None:
        rows, columns = plate("row", 3, dim=-2), plate("column", 2, dim=-1)
        with rows:
            sample("a", dist.Normal(0.0, 1.0))
        with columns:
            sample("b", dist.Normal(0.0, 1.0))
        with rows, columns:
            sample("x", dist.Normal(0.0, 1.0))

    text = render_model(model).mermaid
    assert (text.count("row × 3"), text.count("column × 2")) == (1, 2)


def test_quotes_in_names_are_escaped() -> None:
    graph = render_model(lambda: sample('say "x"', dist.Normal(0.0, 1.0)))
    assert '\\"x\\"' in graph.dot and "#quot;x#quot;" in graph.mermaid


def test_rendering_leaves_the_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    render_model(schools)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("suffix", [".dot", ".mmd"])
def test_text_is_saved(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    graph = render_model(schools, filename=path)
    assert path.read_text("utf-8") == (graph.dot if suffix == ".dot" else graph.mermaid)


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs graphviz")
def test_image_is_saved(tmp_path: Path) -> None:
    pytest.importorskip("graphviz")
    render_model(schools, filename=tmp_path / "model.png")
    assert (tmp_path / "model.png").read_bytes().startswith(b"\x89PNG")


def test_image_without_dot_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("graphviz")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingExtraError, match="program 'dot'"):
        render_model(schools, filename=tmp_path / "model.png")
    assert list(tmp_path.iterdir()) == []


def test_notebook_without_dot_shows_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    shown = render_model(schools)._repr_mimebundle_()
    assert shown["text/markdown"].startswith("```mermaid")


def test_unknown_suffix_error(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match="suffix"):
        render_model(schools, filename=tmp_path / "model.xyz")


def test_what_is_no_model_error() -> None:
    with pytest.raises(HandlerTypeError, match="model as a function"):
        render_model(3)  # type: ignore[arg-type]
