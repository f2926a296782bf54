"""Guides and models of every shape: modules, methods, lists; their files."""

import io

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoCallable, AutoDelta, AutoGuideList, AutoNormal
from pyro.nn import PyroModule
from torch import nn

T = torch.tensor


def model():
    pyro.sample("z", dist.Normal(0.0, 1.0))


def losses(program, guide, *args):
    svi = SVI(program, guide, pyro.optim.SGD({"lr": 0.1}), Trace_ELBO())
    return [svi.step(*args) for _ in range(3)]


def case_guide_is_a_pyro_module():
    class Guide(PyroModule):
        def __init__(self):
            super().__init__()
            self.at = nn.Parameter(T(0.3))

        def forward(self):
            return pyro.sample("z", dist.Delta(self.at))

    return losses(model, Guide())


def case_guide_is_a_torch_module():
    class Guide(nn.Module):
        def __init__(self):
            super().__init__()
            self.at = nn.Parameter(T(0.3))

        def forward(self):
            pyro.module("guide", self)
            return pyro.sample("z", dist.Delta(self.at))

    return losses(model, Guide())


def case_model_and_guide_are_methods():
    class Both:
        def model(self, x):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        def guide(self, x):
            pyro.sample("z", dist.Delta(pyro.param("at", T(0.3))))

    both = Both()
    return losses(both.model, both.guide, T(1.0))


def case_guide_of_a_function_and_of_points():
    def pair():
        pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample("b", dist.Normal(0.0, 1.0))

    def own():
        pyro.sample("a", dist.Delta(pyro.param("at", T(0.3))))

    guide = AutoGuideList(pair)
    guide.append(AutoCallable(poutine.block(pair, expose=["a"]), own))
    guide.append(AutoDelta(poutine.block(pair, hide=["a"]), init_loc_fn=lambda site: T(0.5)))
    return losses(pair, guide)


def case_epochs_and_evaluation():
    def normal(x):
        with pyro.plate("row", len(x)):
            pyro.sample("x", dist.Normal(pyro.param("mean", T(0.0)), 1.0), obs=x)

    svi = SVI(normal, lambda x: None, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    x = torch.arange(4.0)
    return sum(svi.step(x) / len(x) for _ in range(2)), svi.evaluate_loss(x) / len(x)


def case_state_of_a_guide_goes_through_a_file():
    guide, twin = AutoNormal(model), AutoNormal(model)
    guide()
    twin()
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(1.0)
    file = io.BytesIO()
    torch.save(guide.state_dict(), file)
    file.seek(0)
    twin.load_state_dict(torch.load(file))
    return bool((twin.median()["z"] == guide.median()["z"]).all())


def case_guide_goes_through_a_file():
    guide = AutoNormal(model)
    guide()
    file = io.BytesIO()
    torch.save({"guide": guide}, file)
    file.seek(0)
    twin = torch.load(file, weights_only=False)["guide"]
    return bool((twin.median()["z"] == guide.median()["z"]).all())
