"""Geweke's joint test: parameters and data drawn in turn keep to the law that the model has for both.

Source: Geweke 2004, "Getting it right: joint distribution tests of posterior simulators". Chains begin at
draws of the joint law, so that after any number of rounds they are independent draws of it again, if the
transition leaves every posterior as it is. Data and parameters are then compared with fresh draws.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from brancher.handlers import uncondition
from brancher.infer import Predictive
from brancher.infer.mcmc import HMC, NUTS, mass, rng, stepsize
from brancher.infer.mcmc.calibration import _Simulated
from brancher.infer.mcmc.engine import Buffers, Orders, TensorEngine
from brancher.infer.mcmc.hmc import HMCKernel
from brancher.infer.mcmc.integrator import value_and_grad
from brancher.infer.mcmc.nuts import NUTSKernel
from brancher.infer.mcmc.random_walk import RandomWalkKernel
from brancher.infer.mcmc.state import Chain

stats = pytest.importorskip("scipy.stats")

_spec = importlib.util.spec_from_file_location("small_models", Path(__file__).with_name("small_models.py"))
small_models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(small_models)

CHAINS, ROUNDS = 2000, 15
KERNELS = {
    "nuts": NUTSKernel(max_tree_depth=4),
    "hmc": HMCKernel(trajectory_length=1.0),
    "random walk": RandomWalkKernel(),
}


def joint(model):
    return dict(Predictive(uncondition(model), num_samples=CHAINS)())


def one_draw(kernel, density, position, round_number, step_size):
    """Move every chain by one draw, at the data that the density holds now."""
    gradient = value_and_grad(density.log_prob)
    log_prob, grad = gradient(position)
    none = torch.zeros(CHAINS, dtype=torch.int64)
    step = stepsize.start(torch.full_like(log_prob, step_size))
    keys = rng.chain_keys(100 + round_number, torch.arange(CHAINS))
    state = kernel.init(Chain(keys, none, none.clone(), position, grad, log_prob, step))
    metric = mass.unit_metric(CHAINS, position.shape[1], False, position)
    buffers = Buffers.empty(CHAINS, 1, position, False)
    TensorEngine(kernel, gradient).run(state, metric, Orders(1, 0, False), buffers, 1000)
    return buffers.draws[:, 0]


def alternate(kernel, model, step_size=0.25):
    drawn = joint(model)
    density = _Simulated(model, (), {}, {"y": drawn["y"]}, NUTS(model))
    position = density.unconstrain(drawn)
    for number in range(ROUNDS):
        position = one_draw(kernel, density, position, number, step_size)
        values = density.inner.constrain(position)
        latent = {slot.name: values[slot.name] for slot in density.inner.slots}
        data = Predictive(uncondition(model), latent)()["y"]
        density.data["y"] = data
    return latent | {"y": data}


def least_p_value(found, expected):
    entries = [
        (found[name].reshape(CHAINS, -1)[:, i], expected[name].reshape(CHAINS, -1)[:, i])
        for name in found
        for i in range(expected[name][0].numel())
    ]
    return min(stats.ks_2samp(a.numpy(), b.numpy()).pvalue for a, b in entries)


@pytest.mark.slow
@pytest.mark.parametrize("model", small_models.MODELS)
@pytest.mark.parametrize("name", KERNELS)
def test_joint_law_is_kept(name, model):
    # 2000 chains, at most 8 entries of one Kolmogorov-Smirnov test each: p > 1e-5 alarms falsely less than
    # once in 12,000 cases.
    torch.manual_seed(1)
    assert least_p_value(alternate(KERNELS[name], model), joint(model)) > 1e-5


@pytest.mark.slow
def test_a_wrong_density_is_found_out(monkeypatch):
    torch.manual_seed(1)
    right = _Simulated.log_prob
    monkeypatch.setattr(_Simulated, "log_prob", lambda self, position: 0.5 * right(self, position))
    model = small_models.location_scale
    assert least_p_value(alternate(KERNELS["hmc"], model), joint(model)) < 1e-5


def test_kernels_of_the_front_end_are_those_tested():
    model = small_models.nested
    assert isinstance(NUTS(model).transition(), NUTSKernel)
    assert isinstance(HMC(model).transition(), HMCKernel)
