from __future__ import annotations

import asyncio
import copy
import pickle
import re
import threading
import weakref
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch.distributions import constraints

from brancher.distributions.validation import validation_enabled
from brancher.errors import BrancherWarning, ParamError, ParamTypeError, UnknownParamError
from brancher.params import ParamStore, clear_param_store, current_store, get_param_store


@pytest.fixture
def store() -> ParamStore:
    return ParamStore()


def test_declare_returns_the_leaf_itself_where_nothing_constrains(store):
    value = store.declare("w", torch.tensor([1.0, 2.0]))
    assert value is store.unconstrained()["w"] and value.is_leaf and value.requires_grad


@pytest.mark.parametrize(
    "constraint", [constraints.real, constraints.real_vector, constraints.independent(constraints.real, 2)]
)
def test_identity_constraints_read_the_leaf(store, constraint):
    assert store.declare("w", torch.ones(2, 3), constraint) is store.unconstrained()["w"]


@pytest.mark.parametrize(
    ("constraint", "value"),
    [
        (constraints.positive, [0.3, 4.0]),
        (constraints.nonnegative, [0.3, 4.0]),
        (constraints.greater_than(2.0), [2.5, 9.0]),
        (constraints.less_than(-1.0), [-1.5, -9.0]),
        (constraints.unit_interval, [0.25, 0.75]),
        (constraints.interval(-1.0, 3.0), [0.0, 2.0]),
        (constraints.simplex, [0.2, 0.3, 0.5]),
        (constraints.lower_cholesky, [[1.0, 0.0], [0.5, 2.0]]),
        (constraints.positive_definite, [[2.0, 0.5], [0.5, 1.0]]),
        (constraints.corr_cholesky, [[1.0, 0.0], [0.6, 0.8]]),
    ],
)
def test_declare_reads_back_the_value(store, constraint, value):
    given = torch.tensor(value, dtype=torch.float64)
    # Rounding of exp/log and of softmax in float64; corr_cholesky goes through tanh.
    torch.testing.assert_close(store.declare("p", given, constraint), given, rtol=1e-9, atol=1e-9)


def test_positive_reads_exp_of_the_leaf(store):
    value = store.declare("s", torch.tensor([2.0, 3.0]), constraints.positive)
    assert torch.equal(value, store.unconstrained()["s"].exp())


def test_constrained_value_is_differentiable_in_the_leaf(store):
    store.declare("s", 2.0, constraints.positive).backward()
    assert store.unconstrained()["s"].grad.item() == pytest.approx(2.0)


def test_declare_copies_the_initial_tensor(store):
    init = torch.ones(2)
    store.declare("w", init)
    init.fill_(7.0)
    assert store["w"].tolist() == [1.0, 1.0]


def test_declare_copies_a_numpy_array_and_keeps_its_dtype(store):
    init = np.ones(2)
    store.declare("w", init)
    init[:] = 7.0
    assert store["w"].tolist() == [1.0, 1.0] and store["w"].dtype == torch.float64


@pytest.mark.parametrize("init", [2, 2.0, [2.0], np.float32(2.0), np.array(2.0, np.float32)])
def test_declare_converts_numbers_and_arrays(store, init):
    assert store.declare("w", init).dtype == torch.float32


def test_number_follows_the_default_dtype(store):
    torch.set_default_dtype(torch.float64)
    assert store.declare("w", 1.0).dtype == torch.float64


def test_lazy_init_is_called_once(store):
    calls = []
    for _ in range(3):
        store.declare("w", lambda: calls.append(1) or torch.zeros(2))
    assert len(calls) == 1


def test_failing_lazy_init_leaves_no_parameter(store):
    with pytest.raises(ZeroDivisionError):
        store.declare("w", lambda: 1 / 0)
    assert "w" not in store and len(store) == 0


def test_later_declare_returns_the_stored_value(store):
    store.declare("w", torch.zeros(2))
    assert store.declare("w", torch.ones(2)).tolist() == [0.0, 0.0]


def test_declare_under_inference_mode_makes_a_trainable_leaf(store):
    with torch.inference_mode():
        store.declare("w", torch.ones(2))
    assert not store["w"].is_inference()
    store["w"].sum().backward()


def test_declare_follows_the_device(store, device):
    init = torch.tensor([1.0, 2.0]).to(device)
    value = store.declare("s", init, constraints.positive)
    assert value.device.type == device.type
    value.sum().backward()


@pytest.mark.parametrize(
    ("init", "constraint", "words"),
    [
        (
            torch.tensor([1.0, -1.0, -2.0]),
            constraints.positive,
            "'s'.*GreaterThan.*2 offending, the first -1.0 at index .1,",
        ),
        (0.0, constraints.nonnegative, "'s'.*boundary"),
        (torch.tensor([1.0, float("nan")]), constraints.real, "'s'.*1 offending, the first nan at index .1,"),
        (float("inf"), constraints.real, "'s'.*finite.*inf"),
        (torch.tensor([0.5, -0.6]), constraints.simplex, "'s'.*Simplex"),
        (1.0, constraints.simplex, "'s'.*1 dimension"),
        (1.0, constraints.boolean, "'s'.*Boolean"),
    ],
)
def test_declare_outside_the_constraint_error(store, init, constraint, words):
    with pytest.raises(ParamError, match=words):
        store.declare("s", init, constraint)
    assert "s" not in store


@pytest.mark.parametrize("constraint", [constraints.simplex, constraints.independent(constraints.simplex, 1)])
def test_declare_weights_of_a_simplex_are_normalised(store, constraint):
    with pytest.warns(BrancherWarning, match=r"'s'.*sum to 1, got sums from 2 to 4"):
        value = store.declare("s", torch.tensor([[0.5, 1.5], [3.0, 1.0]]), constraint)
    torch.testing.assert_close(value, torch.tensor([[0.25, 0.75], [0.75, 0.25]]))


@pytest.mark.parametrize("init", [torch.tensor([1, 2]), [1, 2], np.array([1])])
def test_declare_integer_dtype_error(store, init):
    with pytest.raises(ParamTypeError, match=r"'s'.*torch\.int64") as caught:
        store.declare("s", init)
    assert isinstance(caught.value, TypeError) and isinstance(caught.value, ValueError)


@pytest.mark.parametrize("init", ["text", None, object(), True, ["a"], 1j])
def test_declare_wrong_type_error(store, init):
    with pytest.raises(ParamTypeError, match="'s'"):
        store.declare("s", init)


@pytest.mark.parametrize("name", [3, None, ""])
def test_declare_bad_name_error(store, name):
    with pytest.raises(ParamError, match="name"):
        store.declare(name, 1.0)


def test_declare_no_constraint_error(store):
    with pytest.raises(ParamTypeError, match=r"'s'.*constraint.*str"):
        store.declare("s", 1.0, "positive")


def test_declare_another_constraint_error(store):
    store.declare("s", 0.5, constraints.positive)
    with pytest.raises(ParamError, match=r"'s'.*GreaterThan\(lower_bound=0.0\).*Interval"):
        store.declare("s", 0.5, constraints.unit_interval)


@pytest.mark.parametrize("bound", [2.0, torch.tensor(2.0), torch.tensor([2.0])])
def test_declare_with_an_equal_constraint_object(store, bound):
    store.declare("s", [3.0], constraints.greater_than(bound))
    again = bound if isinstance(bound, float) else bound.clone()
    assert store.declare("s", [3.0], constraints.greater_than(again)).tolist() == [3.0]


@pytest.mark.parametrize("bound", [2.5, torch.tensor(2.5), torch.tensor([2.0])])
def test_declare_with_another_bound_error(store, bound):
    store.declare("s", [3.0], constraints.greater_than(2.0))
    with pytest.raises(ParamError, match="'s'"):
        store.declare("s", [3.0], constraints.greater_than(bound))


def test_declare_another_shape_error(store):
    store.declare("s", torch.ones(2))
    for init in (torch.ones(3), np.ones(3, np.float32), 1.0, [1.0, 2.0, 3.0]):
        with pytest.raises(ParamError, match=r"'s'.*\(2,\).*got"):
            store.declare("s", init)


def test_declare_again_with_a_callable_keeps_the_shape(store):
    store.declare("s", torch.ones(2))
    assert store.declare("s", lambda: torch.ones(3)).shape == (2,)


@pytest.mark.parametrize(
    ("event_dim", "constraint"), [(3, constraints.real), (-1, constraints.real), (0, constraints.simplex)]
)
def test_declare_event_dim_error(store, event_dim, constraint):
    with pytest.raises(ParamError, match=f"'s'.*event_dim.*{event_dim}"):
        store.declare("s", torch.full((2, 2), 0.5), constraint, event_dim)


def test_declare_another_event_dim_error(store):
    store.declare("s", torch.ones(2, 2), event_dim=1)
    with pytest.raises(ParamError, match=r"'s'.*event_dim 1.*got 0"):
        store.declare("s", torch.ones(2, 2), event_dim=0)
    assert store.event_dim("s") == 1


def test_read_unknown_error(store):
    store.declare("scale", 1.0)
    with pytest.raises(UnknownParamError, match=re.escape("'scal': expected one of ['scale']")) as caught:
        store["scal"]
    assert isinstance(caught.value, KeyError) and "did you mean 'scale'" in str(caught.value)


def test_two_threads_that_declare_at_once_get_one_leaf(store):
    barrier, got = threading.Barrier(2), []

    def init():
        barrier.wait(timeout=10)
        return torch.zeros(2)

    threads = [threading.Thread(target=lambda: got.append(store.declare("w", init))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got[0] is got[1] is store["w"]


def test_mapping_face(store):
    store.setdefault("a", 1.0)
    store.setdefault("b", 2.0, constraints.positive)
    assert list(store) == list(store.keys()) == list(store.get_all_param_names()) == ["a", "b"]
    assert [round(v.item(), 5) for v in store.values()] == [1.0, 2.0]
    assert dict(store.items()).keys() == {"a", "b"} and "a" in store and len(store) == 2 and store
    assert [name for name, leaf in store.named_parameters() if leaf.is_leaf] == ["a", "b"]
    assert repr(store) == "ParamStore(['a', 'b'])"


def test_get_param(store):
    assert store.get_param("a", 1.0) is store.get_param("a")
    with pytest.raises(UnknownParamError):
        store.get_param("b")


def test_setitem_keeps_the_leaf(store):
    store.declare("s", torch.ones(2), constraints.positive)
    leaf = store.unconstrained()["s"]
    store["s"] = torch.tensor([2.0, 3.0])
    assert store.unconstrained()["s"] is leaf
    torch.testing.assert_close(store["s"], torch.tensor([2.0, 3.0]))


def test_setitem_of_another_shape_makes_a_new_leaf(store):
    store.declare("s", torch.ones(2))
    leaf = store["s"]
    store["s"] = torch.zeros(3)
    assert store["s"] is not leaf and store.declare("s", torch.zeros(3)).shape == (3,)


def test_setitem_of_a_new_name_is_unconstrained(store):
    store["w"] = -1.0
    assert store.constraint("w") is constraints.real


def test_setitem_outside_the_constraint_error(store):
    store.declare("s", 1.0, constraints.positive)
    with pytest.raises(ParamError, match="'s'"):
        store["s"] = -1.0
    assert store["s"].item() == 1.0


def test_delitem(store):
    store.declare("s", 1.0)
    del store["s"]
    assert "s" not in store
    with pytest.raises(UnknownParamError):
        del store["s"]


def test_match_finds_by_regular_expression(store):
    for name in ("a.loc", "a.scale", "b.loc"):
        store.declare(name, 1.0)
    assert list(store.match(r"a\..*")) == ["a.loc", "a.scale"]


def test_param_name_and_replace_param(store):
    leaf = store.declare("s", 1.0)
    assert store.param_name(leaf) == "s" and store.param_name(torch.ones(())) is None
    store.replace_param("s", 3.0, leaf)
    assert store["s"].item() == 3.0
    with pytest.raises(ParamError, match=r"'s'.*old_param"):
        store.replace_param("s", 3.0, torch.ones(()))


def test_clear_forgets_and_frees(store):
    gone = weakref.ref(store.declare("s", torch.ones(2)))
    store.clear()
    assert len(store) == 0 and not store and gone() is None


def test_state_round_trip(store):
    store.declare("s", torch.tensor([1.0, 2.0]), constraints.positive, 0)
    state = store.get_state()
    store["s"] = torch.tensor([5.0, 6.0])
    store.set_state(state)
    torch.testing.assert_close(store["s"], torch.tensor([1.0, 2.0]))
    other = ParamStore()
    assert other.set_state(state) == ([], ["s"])
    assert other.constraint("s") is constraints.positive and other.event_dim("s") == 0


def test_state_is_a_copy(store):
    store.declare("s", torch.ones(2))
    state = store.get_state()
    store["s"] = torch.zeros(2)
    assert state["params"]["s"].tolist() == [1.0, 1.0]


def test_set_state_replaces_and_tells(store):
    store.declare("old", 1.0)
    with pytest.warns(UserWarning, match=r"missing \['old'\], unexpected \['new'\]"):
        report = store.set_state({"params": {"new": torch.ones(2)}, "constraints": {}})
    assert report.missing == ["old"] and report.unexpected == ["new"] and list(store) == ["new"]


@pytest.mark.parametrize(
    "state",
    [
        {},
        None,
        {"params": {}},
        {"params": {"a": 1.0}, "constraints": {}},
        {"params": {"a": torch.tensor(1)}, "constraints": {}},
    ],
)
def test_set_state_malformed_error(store, state):
    store.declare("s", 1.0)
    with pytest.raises(ParamError, match="state"):
        store.set_state(state)
    assert list(store) == ["s"]


def test_scope_begins_empty_and_restores(store):
    leaf = store.declare("s", 1.0)
    with store.scope() as state:
        assert len(store) == 0
        store.declare("t", 2.0)
    assert store["s"] is leaf and list(store) == ["s"] and list(state["params"]) == ["t"]
    with store.scope(state):
        assert store["t"].item() == 2.0


def test_scope_restores_after_an_exception(store):
    store.declare("s", 1.0)
    with suppress(ZeroDivisionError), store.scope():
        store.declare("t", 1.0)
        raise ZeroDivisionError
    assert list(store) == ["s"]


@pytest.mark.parametrize("way", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_keep_values(store, way):
    store.declare("s", 2.0, constraints.positive)
    store.register_module("net", torch.nn.Linear(2, 1))
    other = way(store)
    assert list(other) == list(store) and other["s"].item() == store["s"].item()
    other["s"] = 5.0
    other.declare("s", 2.0, constraints.positive)
    assert store["s"].item() == 2.0


def test_leaf_is_the_unconstrained_tensor(store):
    store.declare("s", 1.0, constraints.positive)
    assert store.leaf("s") is store.unconstrained()["s"]
    other = torch.zeros(())
    with store.substituted({"s": other}):
        assert store.leaf("s") is other
    with pytest.raises(UnknownParamError):
        store.leaf("t")


def test_forget_since_a_mark(store):
    store.declare("a", 1.0)
    mark = store.mark()
    store.declare("b", 1.0)
    store.register_module("net", torch.nn.Linear(1, 1))
    store.forget_since(mark)
    assert list(store) == ["a"]


# The current store ----------------------------------------------------------------------------


def test_with_makes_a_store_current():
    before = current_store()
    with ParamStore() as store:
        assert current_store() is get_param_store() is store
        with store, ParamStore() as inner:
            assert current_store() is inner
        assert current_store() is store
    assert current_store() is before


def test_exception_leaves_the_former_store_current():
    before = current_store()
    with suppress(ZeroDivisionError), ParamStore():
        raise ZeroDivisionError
    assert current_store() is before


def test_clear_param_store_clears_the_current_one_only():
    current_store().declare("a", 1.0)
    with ParamStore() as store:
        store.declare("b", 1.0)
        clear_param_store()
        assert len(store) == 0
    assert "a" in current_store()


def test_leaving_out_of_order_removes_only_its_own():
    before, first, second = current_store(), ParamStore(), ParamStore()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert current_store() is second
    second.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert current_store() is before


def test_another_thread_does_not_see_an_open_store():
    seen = []
    with ParamStore() as store:
        thread = threading.Thread(target=lambda: seen.append(current_store()))
        thread.start()
        thread.join()
        assert seen[0] is not store


def test_asyncio_tasks_have_their_own_store():
    async def task():
        with ParamStore() as store:
            for _ in range(3):
                await asyncio.sleep(0)
                assert current_store() is store

    async def main():
        await asyncio.gather(task(), task())

    asyncio.run(main())


def test_abandoned_generator_leaves_nothing_open():
    def opens():
        with ParamStore():
            yield

    before, generator = current_store(), opens()
    next(generator)
    del generator
    assert current_store() is before


# Standing in ----------------------------------------------------------------------------------


def test_substituted_reads_values_of_other_tensors(store):
    store.declare("s", 1.0, constraints.positive)
    other = torch.tensor(3.0, requires_grad=True)
    with store.substituted({"s": other}):
        value = store["s"]
        assert store.declare("s", 1.0, constraints.positive).item() == value.item()
        assert store.unconstrained()["s"] is other
    assert torch.equal(value, other.exp()) and store["s"].item() == 1.0
    (gradient,) = torch.autograd.grad(value, other)
    assert torch.equal(gradient, other.exp())


def test_substituted_nests(store):
    store.declare("a", 1.0)
    store.declare("b", 1.0)
    with store.substituted({"a": torch.tensor(2.0), "b": torch.tensor(2.0)}):
        with store.substituted({"a": torch.tensor(3.0)}):
            assert store["a"].item() == 3.0 and store["b"].item() == 2.0
        assert store["a"].item() == 2.0


def test_substituted_touches_one_store_only(store):
    other = ParamStore()
    store.declare("a", 1.0)
    other.declare("a", 1.0)
    with store.substituted({"a": torch.tensor(2.0)}):
        assert other["a"].item() == 1.0


def test_substituted_unknown_name_error(store):
    store.declare("scale", 1.0)
    with (
        pytest.raises(UnknownParamError, match="did you mean 'scale'"),
        store.substituted({"scal": torch.ones(())}),
    ):
        pass


def test_substituted_ends_with_an_exception(store):
    store.declare("a", 1.0)
    with suppress(ZeroDivisionError), store.substituted({"a": torch.tensor(2.0)}):
        raise ZeroDivisionError
    assert store["a"].item() == 1.0


def test_substituted_is_not_seen_by_another_thread(store):
    store.declare("a", 1.0)
    seen = []
    with store.substituted({"a": torch.tensor(2.0)}):
        thread = threading.Thread(target=lambda: seen.append(store["a"].item()))
        thread.start()
        thread.join()
    assert seen == [1.0]


def test_a_step_over_substituted_parameters_can_be_traced(store):
    from torch.fx.experimental.proxy_tensor import make_fx

    store.declare("a", torch.ones(2), constraints.positive)

    def loss(free):
        with store.substituted({"a": free}), validation_enabled(False):
            value = store.declare("a", torch.ones(2), constraints.positive)
            (gradient,) = torch.autograd.grad((value**2).sum(), free)
            return free - gradient

    free = torch.zeros(2, requires_grad=True)
    assert torch.equal(make_fx(loss)(free)(free), free - 2.0)
