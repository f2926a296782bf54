"""Handlers with Pyro's methods, one for each type of message."""

from __future__ import annotations

import math

import pytest
import torch

import brancher
from brancher import distributions as dist
from brancher.errors import HandlerTypeError
from brancher.poutine import Messenger, mask, trace


def coffee(water):
    beans = brancher.sample("beans", dist.Gamma(2.0, 1.0))
    return brancher.sample("strength", dist.Normal(beans / water, 0.1))


class Ledger(Messenger):
    """Fills in what is known and keeps an account of every site; never calls the base's __init__."""

    def __init__(self, known):
        self.known, self.account = known, {}

    def _pyro_sample(self, msg):
        if msg["name"] in self.known:
            msg["value"], msg["done"] = torch.tensor(self.known[msg["name"]]), True

    def _pyro_post_sample(self, msg):
        self.account[msg["name"]] = float(msg["fn"].log_prob(msg["value"]))


def test_methods_by_type_are_called():
    with Ledger({"beans": 3.0, "strength": 1.4}) as ledger:
        assert coffee(2.0) == torch.tensor(1.4)
    assert list(ledger.account) == ["beans", "strength"]
    assert ledger.account["beans"] == pytest.approx(math.log(3.0) - 3.0)
    assert ledger.account["strength"] == pytest.approx(-0.5 - math.log(0.1) - 0.5 * math.log(2 * math.pi))


def test_other_types_pass_by():
    class Params(Messenger):
        seen = ()

        def _pyro_post_param(self, msg):
            Params.seen += (msg["name"],)

    with Params():
        coffee(1.0)
        brancher.param("p", torch.tensor(1.0))
    assert Params.seen == ("p",)


def test_method_for_all_types_reaches_those_by_type():
    calls = []

    class Both(Messenger):
        def _process_message(self, msg):
            calls.append(("all", msg["type"]))
            super()._process_message(msg)

        def _pyro_sample(self, msg):
            calls.append(("sample", msg["name"]))

        def _postprocess_message(self, msg):
            calls.append(("after", msg["name"]))

    with Both():
        brancher.sample("x", dist.Normal(0.0, 1.0))
    assert calls == [("all", "sample"), ("sample", "x"), ("after", "x")]


def test_methods_of_a_handler_here_can_be_extended():
    class Marked(trace):
        def _pyro_post_sample(self, msg):
            msg["infer"]["marked"] = True
            super()._pyro_post_sample(msg)

    with Marked() as recorder:
        brancher.param("p", torch.tensor(1.0))
        coffee(1.0)
    assert recorder.trace.names() == ["p", "beans", "strength"]
    assert recorder.trace.nodes["beans"]["infer"]["marked"]


def test_a_subclass_inherits_the_calls():
    class Forgetful(Ledger):
        def _pyro_post_sample(self, msg):
            super()._pyro_post_sample(msg)
            self.account.pop("beans", None)

    with Forgetful({"strength": 1.0}) as ledger:
        assert coffee(1.0) == 1.0
    assert list(ledger.account) == ["strength"]


def test_own_method_of_a_child_wins_over_pyros_of_its_parent():
    class Child(Ledger):
        def process_message(self, message):
            if message.type == "sample":
                message.value = torch.tensor(3.0)

    with Child({}):
        assert coffee(1.0) == 3.0


def test_stopping_hides_a_site():
    class Hide(Messenger):
        def _pyro_sample(self, msg):
            msg["stop"] = True

    with trace() as outer, Hide(), mask(mask=False):
        coffee(1.0)
    assert outer.trace.names() == []


def test_a_wrapped_function_runs_inside():
    class Double(Messenger):
        def _pyro_post_sample(self, msg):
            msg["value"] = msg["value"] * 2

    assert Double(lambda: brancher.sample("x", dist.Delta(torch.tensor(1.0))))() == 2.0


def test_error_in_a_method_leaves_no_handler():
    class Broken(Messenger):
        def _pyro_sample(self, msg):
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"), Broken():
        coffee(1.0)
    assert not brancher.poutine.runtime.am_i_wrapped()


@pytest.mark.parametrize(
    ("name", "right"), [("_pyro_smaple", "_pyro_sample"), ("_pyro_post_parm", "_pyro_post_param")]
)
def test_misspelled_method_error(name, right):
    with pytest.raises(HandlerTypeError, match=f"handler '.*Wrong': .*got '{name}'; did you mean '{right}'"):
        type("Wrong", (Messenger,), {name: lambda self, msg: None})
    type("Own", (Messenger,), {"_pyro_apply": lambda self, msg: None})
