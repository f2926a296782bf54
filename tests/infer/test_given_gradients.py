from __future__ import annotations

from typing import Any

import pytest
import torch

import brancher.distributions as dist
from brancher import get_param_store, param, sample
from brancher.errors import InferenceTypeError
from brancher.infer import SVI, Trace_ELBO
from brancher.optim import SGD


def model() -> None:
    sample("x", dist.Normal(param("q", torch.tensor(3.0)), 1.0), obs=torch.tensor(1.0))


def guide() -> None: ...


def test_svi_steps_with_the_gradients_of_a_function() -> None:
    elbo = Trace_ELBO()
    svi = SVI(model, guide, SGD({"lr": 0.1}), elbo.loss, elbo.loss_and_grads)
    assert svi.step() == pytest.approx(2.9189385)
    torch.testing.assert_close(param("q"), torch.tensor(2.8), check_stride=False)


def test_function_may_change_the_gradients() -> None:
    def halved(*args: Any) -> float:
        loss = Trace_ELBO().loss_and_grads(*args)
        param("q").grad *= 0.5
        return loss

    svi = SVI(model, guide, SGD({"lr": 0.1}), loss_and_grads=halved)
    svi.step()
    torch.testing.assert_close(param("q").detach(), torch.tensor(2.9))
    svi.step()
    torch.testing.assert_close(param("q").detach(), torch.tensor(2.805))


def test_gradients_do_not_stay_behind() -> None:
    svi = SVI(model, guide, SGD({"lr": 0.1}), loss_and_grads=Trace_ELBO().loss_and_grads)
    svi.step()
    assert param("q").grad is None


def test_failing_function_leaves_the_gradients() -> None:
    svi = SVI(model, guide, SGD({"lr": 0.1}), loss_and_grads=Trace_ELBO().loss_and_grads)
    svi.step()
    leaf = param("q")
    leaf.grad = torch.tensor(7.0)

    def failing(*args: Any) -> float:
        Trace_ELBO().loss_and_grads(*args)
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        SVI(model, guide, SGD({"lr": 0.1}), loss_and_grads=failing).step()
    assert leaf.grad == 7.0


def test_gradients_of_the_user_are_not_added() -> None:
    svi = SVI(model, guide, SGD({"lr": 0.1}), loss_and_grads=Trace_ELBO().loss_and_grads)
    param("q", torch.tensor(3.0)).grad = torch.tensor(100.0)
    svi.step()
    torch.testing.assert_close(param("q").detach(), torch.tensor(2.8))


def test_loss_and_grads_of_another_kind_error() -> None:
    with pytest.raises(InferenceTypeError, match="SVI: expected loss_and_grads as a function, got int"):
        SVI(model, guide, SGD({"lr": 0.1}), loss_and_grads=3)  # type: ignore[arg-type]


def test_loss_and_grads_of_an_svi_is_that_of_its_loss() -> None:
    svi = SVI(model, guide, SGD({"lr": 0.1}), Trace_ELBO())
    torch.manual_seed(0)
    value = svi.loss_and_grads(model, guide)
    torch.manual_seed(0)
    assert value == pytest.approx(Trace_ELBO().loss(model, guide))
    leaves = get_param_store().unconstrained().values()
    assert any(leaf.grad is not None and bool(leaf.grad.any()) for leaf in leaves)


def test_loss_and_grads_of_a_plain_function_error() -> None:
    svi = SVI(model, guide, SGD({"lr": 0.1}), lambda model, guide: torch.zeros(()))
    with pytest.raises(InferenceTypeError, match="expected a loss that adds gradients itself, got <lambda>"):
        svi.loss_and_grads(model, guide)


def test_an_elbo_may_override_its_gradients() -> None:
    class Doubled(Trace_ELBO):
        def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
            return 2.0 * super().differentiable_loss(model, guide, *args, **kwargs)

    class Counted(Trace_ELBO):
        calls = 0

        def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
            self.calls += 1
            return super().loss_and_grads(model, guide, *args, **kwargs)

    moved = []
    counted = Counted()
    for loss in (Trace_ELBO(), Doubled(), counted):
        get_param_store().clear()
        SVI(model, guide, SGD({"lr": 0.1}), loss).run(1, progress=False)
        moved.append(param("q").item() - 3.0)
    assert moved == pytest.approx([-0.2, -0.4, -0.2])
    assert counted.calls == 1
