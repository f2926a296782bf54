"""PyroModule, PyroParam, PyroSample and torch modules."""

import pyro
import pyro.distributions as dist
import pyro.nn
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal
from pyro.nn import DenseNN, PyroModule, PyroParam, PyroSample
from pyro.nn.module import to_pyro_module_
from torch import nn

T = torch.tensor
X = torch.linspace(-1, 1, 20).unsqueeze(-1)
Y = 2 * X.squeeze(-1) + 0.5


class Regression(PyroModule):
    def __init__(self, i=1, o=1):
        super().__init__()
        self.linear = PyroModule[nn.Linear](i, o)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([o, i]).to_event(2))
        self.linear.bias = PyroSample(dist.Normal(0.0, 10.0).expand([o]).to_event(1))

    def forward(self, x, y=None):
        sigma = pyro.sample("sigma", dist.Uniform(0.0, 10.0))
        mean = self.linear(x).squeeze(-1)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("obs", dist.Normal(mean, sigma), obs=y)
        return mean


def names(tr):
    return sorted(k for k, s in tr.nodes.items() if s["type"] in ("sample", "param") and k != "data")


def case_sites():
    return names(poutine.trace(Regression()).get_trace(X, Y))


def case_train_predict():
    m = Regression()
    g = AutoDiagonalNormal(m)
    svi = SVI(m, g, pyro.optim.Adam({"lr": 0.05}), loss=Trace_ELBO())
    for _ in range(200):
        svi.step(X, Y)
    q = g.quantiles([0.25, 0.5, 0.75])
    pred = Predictive(m, guide=g, num_samples=50, return_sites=("linear.weight", "obs", "_RETURN"))
    s = pred(X)
    shapes = {k: [n for n in v.shape if n != 1] for k, v in s.items()}
    return shapes, sorted(q), abs(float(q["linear.weight"][1]) - 2) < 0.5


def case_pyroparam_pieces():
    class M(PyroModule):
        def __init__(self):
            super().__init__()
            self.x = nn.Parameter(T(1.0))
            self.y = PyroParam(lambda: torch.ones(2), constraints.positive)
            self.z = PyroSample(dist.Normal(0.0, 1.0))
            self.w = PyroSample(lambda self: dist.Normal(self.z, 1.0))

        def forward(self):
            return self.x + self.y + self.z + self.w

    m = M()
    tr = poutine.trace(m).get_trace()
    return names(tr), tr.nodes["_RETURN"]["value"].shape


def case_pyroparam_decorator():
    class M(PyroModule):
        @PyroParam
        def a(self):
            return T(3.0)

        @PyroParam(constraint=constraints.positive)
        def b(self):
            return T(2.0)

        @PyroSample
        def c(self):
            return dist.Normal(self.a, 1.0)

        def forward(self):
            return self.a + self.b + self.c

    return names(poutine.trace(M()).get_trace())


def case_setattr_constrained():
    m = PyroModule()
    m.s = PyroParam(T(2.0), constraints.positive)
    a = m.s.detach().clone()
    m.s = T(4.0)
    return a, m.s


def case_named_pyro_params():
    m = PyroModule()
    m.s = PyroParam(T(2.0), constraints.positive)
    m.t = nn.Parameter(T(1.0))
    return sorted(n for n, _ in m.named_pyro_params())


def case_module_list():
    class M(PyroModule):
        def __init__(self):
            super().__init__()
            self.layers = PyroModule[nn.ModuleList]([PyroModule[nn.Linear](2, 2) for _ in range(2)])
            for shown in self.layers:
                shown.weight = PyroSample(dist.Normal(0.0, 1.0).expand([2, 2]).to_event(2))

        def forward(self, x):
            for shown in self.layers:
                x = shown(x)
            return x

    return names(poutine.trace(M()).get_trace(torch.ones(3, 2)))


def case_sequential():
    class M(PyroModule):
        def __init__(self):
            super().__init__()
            self.net = PyroModule[nn.Sequential](
                PyroModule[nn.Linear](2, 3), PyroModule[nn.ReLU](), PyroModule[nn.Linear](3, 1)
            )

        def forward(self, x):
            return self.net(x)

    return names(poutine.trace(M()).get_trace(torch.ones(3, 2)))


def case_to_pyro_module():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    to_pyro_module_(net)
    for m in net.modules():
        for name, value in list(m.named_parameters(recurse=False)):
            setattr(m, name, PyroSample(prior=dist.Normal(0, 1).expand(value.shape).to_event(value.dim())))
    return names(poutine.trace(net).get_trace(torch.ones(4, 2)))


def case_bnn_random_module():
    class BNN(PyroModule):
        def __init__(self, h=5):
            super().__init__()
            self.layer1 = PyroModule[nn.Linear](1, h)
            self.layer1.weight = PyroSample(dist.Normal(0.0, 10.0).expand([h, 1]).to_event(2))
            self.layer1.bias = PyroSample(dist.Normal(0.0, 10.0).expand([h]).to_event(1))
            self.layer2 = PyroModule[nn.Linear](h, 1)
            self.layer2.weight = PyroSample(dist.Normal(0.0, 10.0).expand([1, h]).to_event(2))
            self.layer2.bias = PyroSample(dist.Normal(0.0, 10.0).expand([1]).to_event(1))
            self.activation = nn.Tanh()

        def forward(self, x, y=None):
            x = x.reshape(-1, 1)
            mu = self.layer2(self.activation(self.layer1(x))).squeeze()
            sigma = pyro.sample("sigma", dist.Gamma(0.5, 1.0))
            with pyro.plate("data", x.shape[0]):
                pyro.sample("obs", dist.Normal(mu, sigma * sigma), obs=y)
            return mu

    m = BNN()
    tr = poutine.trace(m).get_trace(X, Y)
    return names(tr)


def case_shared_cache():
    class M(PyroModule):
        def __init__(self):
            super().__init__()
            self.z = PyroSample(dist.Normal(0.0, 1.0))

        def forward(self):
            return self.z, self.z

    a, b = M()()
    return a == b


def case_module_pyro_module_call():
    net = DenseNN(2, [4], [1, 1])
    return [o.shape for o in net(torch.ones(3, 2))]


def case_pyro_module_method():
    class M(PyroModule):
        @pyro.nn.pyro_method
        def predict(self, x):
            return x * self.w

        def forward(self, x):
            return self.predict(x)

    m = M()
    m.w = PyroParam(T(2.0), constraints.positive)
    return m.predict(T(3.0)), names(poutine.trace(m.predict).get_trace(T(1.0)))


def case_del_attr():
    m = PyroModule()
    m.a = PyroParam(T(1.0))
    del m.a
    return hasattr(m, "a")


def case_name_arg():
    m = PyroModule("net")
    m.a = PyroParam(T(1.0), constraints.positive)
    return names(poutine.trace(lambda: m.a).get_trace())


def case_submodule_names():
    class Sub(PyroModule):
        def __init__(self):
            super().__init__()
            self.p = PyroParam(T(1.0))
            self.s = PyroSample(dist.Normal(0.0, 1.0))

        def forward(self):
            return self.p + self.s

    class M(PyroModule):
        def __init__(self):
            super().__init__()
            self.one = Sub()
            self.two = Sub()

        def forward(self):
            return self.one() + self.two()

    return names(poutine.trace(M()).get_trace())


def case_plain_torch_module_inside():
    class M(PyroModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(2, 1)

        def forward(self, x):
            return self.net(x)

    m = M()
    m(torch.ones(1, 2))
    return [n for n, _ in m.named_parameters()]


def case_sample_plate():
    class M(PyroModule):
        def __init__(self):
            super().__init__()
            self.s = PyroSample(dist.Normal(0.0, 1.0))

        def forward(self):
            with pyro.plate("p", 3):
                return self.s

    return M()().shape


def case_elbo_module_train():
    m = Regression()
    g = AutoNormal(m)
    loss = Trace_ELBO()(m, g)
    loss(X, Y)
    o = torch.optim.Adam(loss.parameters(), lr=0.05)
    for _ in range(5):
        o.zero_grad()
        shown = loss(X, Y)
        shown.backward()
        o.step()
    return len(list(loss.parameters()))
