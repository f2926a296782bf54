"""What every automatic guide keeps to, on every kind of model."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

from brancher import get_param_store, handlers
from brancher.errors import GuideError
from brancher.infer import Trace_ELBO
from brancher.infer.agreement import BATCH, why_not
from brancher.infer.autoguide import AutoMessenger
from brancher.infer.pairing import paired_traces
from brancher.infer.replicate import lay_out
from brancher.params import ParamStore


@pytest.mark.parametrize("num_particles", [1, 7])
def test_loss_is_finite_and_every_parameter_has_a_gradient(
    make_guide: Any, case: Any, num_particles: int
) -> None:
    guide = make_guide(case.model).setup(*case.args)
    loss = Trace_ELBO(num_particles, vectorize_particles=True)(case.model, guide)(*case.args)
    loss.backward()
    assert torch.isfinite(loss)
    for name, parameter in guide.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_particles_in_a_batch_are_those_of_a_loop(make_guide: Any, case: Any) -> None:
    guide = make_guide(case.model).setup(*case.args)

    def run() -> Any:
        return paired_traces(case.model, guide, case.args, {})

    assert why_not(BATCH, run, lay_out(run, {})) is None


def test_a_call_gives_every_latent_site(make_guide: Any, case: Any) -> None:
    guide = make_guide(case.model)
    assert set(guide(*case.args)) == set(case.shapes)


def test_posterior_draws_have_all_rows(make_guide: Any, case: Any) -> None:
    guide = make_guide(case.model)
    draws = guide.sample_posterior(5, *case.args)
    rows = {name: tuple(value.shape[1:]) for name, value in draws.items()}
    # Guides by runs of the model have the rows of the call.
    size = case.rows if isinstance(guide, AutoMessenger) else 8
    assert rows == {name: tuple(size if n == 8 else n for n in shape) for name, shape in case.shapes.items()}


def test_values_lie_in_their_supports(make_guide: Any, case: Any) -> None:
    guide = make_guide(case.model)
    trace = handlers.trace(
        handlers.replay(case.model, handlers.trace(guide).get_trace(*case.args))
    ).get_trace(*case.args)
    for site in trace.sites("sample"):
        if not site.is_observed:
            assert site.fn.support.check(site.value).all(), site.name


def test_random_state_is_as_before_setup(make_guide: Any, case: Any) -> None:
    torch.manual_seed(3)
    make_guide(case.model).setup(*case.args)
    after = torch.rand(())
    torch.manual_seed(3)
    assert torch.rand(()) == after


def test_state_goes_into_a_fresh_guide_before_the_first_step(make_guide: Any, case: Any) -> None:
    first, second = make_guide(case.model).setup(*case.args), make_guide(case.model).setup(*case.args)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter += 0.5
    second.load_state_dict(first.state_dict())
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_state_before_setup_is_refused_error(make_guide: Any, case: Any) -> None:
    first = make_guide(case.model).setup(*case.args)
    with pytest.raises(GuideError, match=r"setup\(\*args\)"):
        make_guide(case.model).load_state_dict(first.state_dict())


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda guide: pickle.loads(pickle.dumps(guide))], ids=["copy", "pickle"]
)
def test_copies_keep_values_and_draw_alike(make_guide: Any, case: Any, how: Any) -> None:
    guide = make_guide(case.model).setup(*case.args)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter += 0.1
    twin = how(guide)
    torch.manual_seed(1)
    values = guide(*case.args)
    torch.manual_seed(1)
    for name, value in twin(*case.args).items():
        torch.testing.assert_close(value, values[name], rtol=0, atol=0)


def test_copies_share_no_parameter(make_guide: Any, case: Any) -> None:
    guide = make_guide(case.model).setup(*case.args)
    twin = copy.deepcopy(guide)
    theirs = {id(parameter) for parameter in twin.parameters()}
    assert not theirs & {id(parameter) for parameter in guide.parameters()}


def test_store_shows_every_parameter_inside_its_constraint(make_guide: Any, case: Any) -> None:
    guide = make_guide(case.model).setup(*case.args)
    store = get_param_store()
    assert set(store.keys()) == {f"{type(guide).__name__}.{name}" for name, _ in guide.named_parameters()}
    for name, value in store.items():
        assert store.constraint(name).check(value).all(), name


def test_param_sites_carry_the_leaves(make_guide: Any, case: Any) -> None:
    guide = make_guide(case.model)
    trace = handlers.trace(guide).get_trace(*case.args)
    leaves = {f"{type(guide).__name__}.{name}": leaf for name, leaf in guide.named_parameters()}
    assert {site.name: id(site.unconstrained) for site in trace.sites("param")} == {
        n: id(p) for n, p in leaves.items()
    }


def test_values_are_functions_of_stand_in_tensors(make_guide: Any, case: Any) -> None:
    guide = make_guide(case.model).setup(*case.args)
    store = get_param_store()
    tensors = {name: (leaf.detach() + 0.1).requires_grad_() for name, leaf in store.unconstrained().items()}
    with store.substituted(tensors):
        loss = Trace_ELBO().differentiable_loss(case.model, guide, *case.args)
    grads = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)
    assert all(grad is not None for grad in grads)


def test_default_dtype_is_followed(make_guide: Any, case: Any) -> None:
    torch.set_default_dtype(torch.float64)
    args = tuple(a.double() if a.is_floating_point() else a for a in case.args)
    guide = make_guide(case.model).setup(*args)
    loss = Trace_ELBO().differentiable_loss(case.model, guide, *args)
    assert {p.dtype for p in guide.parameters()} == {loss.dtype} == {torch.float64}


def test_another_store_sees_the_same_parameters(make_guide: Any, case: Any) -> None:
    guide = make_guide(case.model).setup(*case.args)
    with ParamStore() as store:
        guide(*case.args)
        assert {id(p) for p in store.unconstrained().values()} == {id(p) for p in guide.parameters()}
