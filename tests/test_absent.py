"""Names of Pyro that are absent by decision say what to use instead."""

from __future__ import annotations

import importlib

import pytest

import brancher
from brancher import handlers, poutine
from brancher.absent import INSTEAD
from brancher.errors import AbsentNameError

ABSENT = [(module, name) for module, names in INSTEAD.items() for name in names]


@pytest.mark.parametrize(("module", "name"), ABSENT)
def test_absent_name_says_what_to_use(module, name):
    with pytest.raises(AbsentNameError, match=f"{module}.{name}: expected a name of {module}"):
        getattr(importlib.import_module(module), name)


def test_import_shows_the_text():
    with pytest.raises(ImportError, match="got one of Pyro; use SVI on a guide"):
        from brancher.infer import CSIS  # noqa: F401


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"has no attribute 'NUTZ'; did you mean 'NUTS'\?"):
        brancher.infer.NUTZ  # noqa: B018
    assert not hasattr(brancher, "never_there")


def test_poutine_is_handlers():
    assert poutine.trace is handlers.trace and set(poutine.__all__) == set(handlers.__all__)
    with pytest.raises(AbsentNameError, match="use brancher.infer.TraceEnum_ELBO"):
        poutine.collapse  # noqa: B018
