"""The parameter store."""

import pyro
import torch
from pyro.distributions import constraints
from pyro.nn import PyroModule, PyroParam

T = torch.tensor


def case_param_basic():
    p = pyro.param("a", T(1.0))
    return p, pyro.param("a"), p.requires_grad


def case_param_lambda():
    return pyro.param("a", lambda: torch.ones(2))


def case_constrained():
    p = pyro.param("s", T([0.5, 2.0]), constraint=constraints.positive)
    return p, p.unconstrained()


def case_store_api():
    pyro.param("a", T(1.0))
    pyro.param("b", T(2.0), constraint=constraints.positive)
    s = pyro.get_param_store()
    return (
        sorted(s.keys()),
        dict(s.items()),
        "a" in s,
        len(s),
        s["b"],
        {k: v.detach() for k, v in s.named_parameters()},
    )


def case_store_set_delete():
    s = pyro.get_param_store()
    pyro.param("a", T(1.0))
    s["a"] = T(3.0)
    x = pyro.param("a").detach().clone()
    del s["a"]
    return x, "a" in s


def case_store_setitem_constrained():
    s = pyro.get_param_store()
    pyro.param("b", T(2.0), constraint=constraints.positive)
    s["b"] = T(5.0)
    return pyro.param("b"), s["b"].unconstrained()


def case_setdefault():
    s = pyro.get_param_store()
    a = s.setdefault("x", T(1.0), constraint=constraints.positive)
    b = s.setdefault("x", T(7.0))
    return a, b


def case_get_param():
    pyro.param("a", T(1.0))
    return pyro.get_param_store().get_param("a")


def case_match():
    pyro.param("auto.loc", T(1.0))
    pyro.param("auto.scale", T(1.0))
    pyro.param("other", T(1.0))
    return sorted(pyro.get_param_store().match("auto.*"))


def case_clear():
    pyro.param("a", T(1.0))
    pyro.clear_param_store()
    return len(pyro.get_param_store())


def case_state_roundtrip():
    s = pyro.get_param_store()
    pyro.param("a", T(1.5))
    pyro.param("b", T(2.0), constraint=constraints.positive)
    st = s.get_state()
    s.clear()
    s.set_state(st)
    return sorted(s.keys()), s["a"], s["b"]


def case_save_load():
    import tempfile
    from pathlib import Path

    s = pyro.get_param_store()
    pyro.param("a", T(1.5))
    pyro.param("b", T(2.0), constraint=constraints.positive)
    f = str(Path(tempfile.mkdtemp()) / "p.pt")
    s.save(f)
    s.clear()
    s.load(f)
    return sorted(s.keys()), pyro.param("a"), pyro.param("b")


def case_scope():
    s = pyro.get_param_store()
    pyro.param("a", T(1.0))
    with s.scope():
        pyro.param("b", T(2.0))
        inside = sorted(s.keys())
    return inside, sorted(s.keys())


def case_param_in_plate():
    with pyro.plate("p", 3):
        return pyro.param("x", lambda: torch.ones(3), event_dim=0).shape


def case_param_subsample_plate():
    with pyro.plate("p", 5, subsample=T([0, 2])):
        return pyro.param("x", lambda: torch.arange(5.0), event_dim=0)


def case_event_dim():
    with pyro.plate("p", 5, subsample=T([0, 2])):
        return pyro.param("x", lambda: torch.ones(5, 4), event_dim=1).shape


def case_pyro_subsample():
    with pyro.plate("p", 5, subsample=T([0, 2])):
        return pyro.subsample(torch.arange(5.0), event_dim=0)


def case_params_values():
    pyro.param("a", T(1.0))
    pyro.param("b", T(1.0))
    return list(pyro.get_param_store().values()), list(pyro.get_param_store())


def case_grad_through_param():
    p = pyro.param("s", T(2.0), constraint=constraints.positive)
    (p**2).backward()
    return p.unconstrained().grad


def case_param_name_lookup():
    p = pyro.param("a", T(1.0))
    return pyro.get_param_store().param_name(p)


def case_pyro_module_params():
    class M(PyroModule):
        def __init__(self):
            super().__init__()
            self.a = PyroParam(T(1.0), constraints.positive)
            self.b = torch.nn.Parameter(T(2.0))

        def forward(self):
            return self.a + self.b

    m = M()
    r = m()
    return r, sorted(pyro.get_param_store().keys())
