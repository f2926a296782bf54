"""Ctrl-C at any moment of a step leaves handlers, stores and parameters clean."""

from __future__ import annotations

import math
import sys

import torch

from brancher import ParamStore, get_param_store, optim, param, plate, sample
from brancher import distributions as dist
from brancher.distributions import constraints
from brancher.distributions.validation import is_validating
from brancher.handlers import stack
from brancher.infer import SVI
from brancher.params import current_store


def model():
    mu = sample("mu", dist.Normal(0.0, 1.0))
    with plate("row", 4, subsample_size=2):
        sample("y", dist.Normal(mu, 1.0), obs=torch.zeros(2))


def guide():
    sample(
        "mu",
        dist.Normal(param("loc", torch.tensor(0.0)), param("s", torch.tensor(1.0), constraints.positive)),
    )


def interrupted_step(svi, moment):
    """Run a step and raise KeyboardInterrupt at its ``moment``-th line inside the package."""
    count = 0

    def tracer(frame, event, arg):
        nonlocal count
        if "brancher" not in frame.f_code.co_filename:
            return None
        if event == "line":
            count += 1
            if count == moment:
                sys.settrace(None)
                raise KeyboardInterrupt
        return tracer

    sys.settrace(tracer)
    try:
        svi.step()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def test_interrupts_at_300_moments_leave_everything_clean():
    svi = SVI(model, guide, optim.Adam({"lr": 0.01}))
    svi.step()
    store, hit = current_store(), 0
    for moment in range(1, 3000, 10):
        hit += interrupted_step(svi, moment)
        assert stack.current() == ()
        assert current_store() is store and is_validating()
        assert all(bool(torch.isfinite(value)) for value in get_param_store().values())
    assert hit > 50
    assert math.isfinite(svi.step())


def test_interrupt_inside_an_own_store_closes_it():
    svi = SVI(model, guide, optim.Adam({"lr": 0.01}), store=ParamStore())
    svi.step()
    outside = current_store()
    for moment in range(1, 600, 7):
        interrupted_step(svi, moment)
        assert current_store() is outside and stack.current() == ()
