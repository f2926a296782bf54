"""Handlers with Pyro's methods, one for each type of message."""

from __future__ import annotations

import pytest
import torch

import brancher
from brancher import distributions as dist
from brancher.errors import HandlerTypeError
from brancher.poutine import Messenger, mask, trace


def scale(guess):
    weight = brancher.sample("weight", dist.Normal(guess, 1.0))
    return brancher.sample("measurement", dist.Normal(weight, 0.75))


class LogJoint(Messenger):
    """Sets values before they are drawn and adds up densities afterwards; never calls the base's __init__."""

    def __init__(self, data):
        self.data = data

    def __enter__(self):
        self.log_joint = torch.tensor(0.0)
        return super().__enter__()

    def _pyro_sample(self, msg):
        msg["value"] = self.data[msg["name"]]
        msg["done"] = True

    def _pyro_post_sample(self, msg):
        self.log_joint = self.log_joint + (msg["scale"] * msg["fn"].log_prob(msg["value"])).sum()


def test_methods_by_type_are_called():
    data = {"weight": torch.tensor(8.23), "measurement": torch.tensor(9.5)}
    with LogJoint(data) as handler:
        assert scale(8.5) == 9.5
    expected = dist.Normal(8.5, 1.0).log_prob(data["weight"])
    expected += dist.Normal(data["weight"], 0.75).log_prob(data["measurement"])
    torch.testing.assert_close(handler.log_joint, expected)


def test_other_types_pass_by():
    class Params(Messenger):
        seen = ()

        def _pyro_post_param(self, msg):
            Params.seen += (msg["name"],)

    with Params():
        scale(0.0)
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
        scale(0.0)
    assert recorder.trace.names() == ["p", "weight", "measurement"]
    assert recorder.trace.nodes["weight"]["infer"]["marked"]


def test_a_subclass_inherits_the_calls():
    class Child(LogJoint):
        def _pyro_post_sample(self, msg):
            super()._pyro_post_sample(msg)
            self.log_joint = self.log_joint * 0

    with Child({"weight": torch.tensor(1.0), "measurement": torch.tensor(1.0)}) as handler:
        assert scale(0.0) == 1.0
    assert handler.log_joint == 0


def test_own_method_of_a_child_wins_over_pyros_of_its_parent():
    class Child(LogJoint):
        def process_message(self, message):
            if message.type == "sample":
                message.value = torch.tensor(3.0)

    with Child({}):
        assert scale(0.0) == 3.0


def test_stopping_hides_a_site():
    class Hide(Messenger):
        def _pyro_sample(self, msg):
            msg["stop"] = True

    with trace() as outer, Hide(), mask(mask=False):
        scale(0.0)
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
        scale(0.0)
    assert not brancher.poutine.runtime.am_i_wrapped()


@pytest.mark.parametrize(
    ("name", "right"), [("_pyro_smaple", "_pyro_sample"), ("_pyro_post_parm", "_pyro_post_param")]
)
def test_misspelled_method_error(name, right):
    with pytest.raises(HandlerTypeError, match=f"handler '.*Wrong': .*got '{name}'; did you mean '{right}'"):
        type("Wrong", (Messenger,), {name: lambda self, msg: None})
    type("Own", (Messenger,), {"_pyro_apply": lambda self, msg: None})
