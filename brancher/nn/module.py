"""``PyroModule``: a torch module whose attributes can be random variables and constrained parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn
from torch.distributions.constraints import Constraint

from brancher.absent import refuse
from brancher.distributions import constraints
from brancher.errors import SiteTypeError
from brancher.handlers import Message, stack
from brancher.nn.attributes import PyroParam, PyroSample
from brancher.params import current_store
from brancher.params.entry import first_value, transform_for, unconstrain
from brancher.primitives import deterministic, sample
from brancher.primitives.param import show_module

if not TYPE_CHECKING:
    __getattr__ = refuse(__name__)

_F = TypeVar("_F", bound=Callable[..., Any])


class _Call:
    """One call of an outermost module: the names of the modules inside, and the values read so far.

    Args:
        root: the module that was called.
    """

    def __init__(self, root: PyroModule) -> None:
        self.names = {id(module): name for name, module in root.named_modules(prefix=root.root_name)}
        self.values: dict[str, Any] = {}

    def full_name(self, module: nn.Module, attribute: str) -> str:
        """The name of a site."""
        path = self.names[id(module)]
        return f"{path}.{attribute}" if path else attribute


_CALL: ContextVar[_Call | None] = ContextVar("brancher_module_call", default=None)


class _Mixing(type):
    """Lets ``PyroModule[nn.Linear]`` stand for a class that is both."""

    def __getitem__(cls, module_class: type[nn.Module]) -> type[PyroModule]:
        if not (isinstance(module_class, type) and issubclass(module_class, nn.Module)):
            raise SiteTypeError(
                f"PyroModule: expected a torch module class in brackets, got {module_class!r}; write "
                "PyroModule[nn.Linear](3, 1)"
            )
        if module_class is nn.Module:
            return PyroModule
        return module_class if issubclass(module_class, PyroModule) else _mixed(module_class)  # type: ignore[arg-type]


@functools.cache
def _mixed(module_class: type[nn.Module]) -> type[PyroModule]:
    name = f"Pyro{module_class.__name__}"
    return _Mixing(name, (module_class, PyroModule), {"__module__": module_class.__module__})  # type: ignore[return-value]


class PyroModule(nn.Module, metaclass=_Mixing):
    """A torch module that is a model: attributes set to :class:`PyroSample` are sampled when they are read.

    While the module is called, reading a :class:`PyroSample` is a sample site, and reading a parameter is
    a param site; both carry the attribute's path as their name and are read once. Parameters stay the
    module's own; the current store shows them while they are trained. ``PyroModule[nn.Linear](3, 1)``
    is a ``nn.Linear`` with these abilities. The unconstrained form of a :class:`PyroParam` ``x`` is
    ``x_unconstrained``.

    Args:
        name: first part of all names; empty by default.

    Example:
        >>> from brancher.nn import PyroModule, PyroSample
        >>> layer = PyroModule[torch.nn.Linear](3, 1)
        >>> layer.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 3]).to_event(2))
        >>> trace = handlers.trace(layer).get_trace(torch.ones(5, 3))
        >>> trace.stochastic_nodes, trace.param_nodes
        (['weight'], ['bias'])
    """

    def __init__(self, name: str = "") -> None:
        super().__init__()
        _prepare(self, name)

    @property
    def root_name(self) -> str:
        """First part of all names where this module is the outermost one."""
        return str(self.__dict__.get("_pyro_root_name", ""))

    def named_pyro_params(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
        """Every parameter with its name, constrained where :class:`PyroParam` says so."""
        for name, leaf in self.named_parameters(prefix, recurse):
            *path, last = name[len(prefix) :].lstrip(".").split(".")
            owner: Any = functools.reduce(getattr, path, self)
            yield name, _constrained(name, leaf, getattr(owner, "parameter_constraints", {}).get(last))

    def _pyro_get_fullname(self, name: str) -> str:
        # Programs written for Pyro name the sites of a module inside a larger one so.
        call = _CALL.get()
        if call is not None and id(self) in call.names:
            return call.full_name(self, name)
        return f"{self.root_name}.{name}" if self.root_name else name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run ``forward`` as a model."""
        with _calling(self):
            return super().__call__(*args, **kwargs)

    # Attributes

    def has_attribute(self, name: str) -> bool:
        """Whether a prior or parameter of that name has been set."""
        return name in self._pyro_samples or name in self._parameters

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("_pyro_samples", ()):
            return self._sampled(name)
        free = name.removesuffix("_unconstrained")
        if free != name and free in self._parameters:
            return self._parameters[free]
        value = super().__getattr__(name)
        call = _CALL.get()
        is_inside = call is not None and id(self) in call.names
        if name in self._parameters and isinstance(value, torch.Tensor):
            return self._parameter(name, value, call if is_inside else None)
        if is_inside and isinstance(value, nn.Module) and not isinstance(value, PyroModule):
            return show_module(call.full_name(self, name), value)  # type: ignore[union-attr]
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (PyroParam, PyroSample)):
            self.__dict__.pop(name, None)
            self._forget(name)
        if isinstance(value, PyroSample):
            self._pyro_samples[name] = value.prior
        elif isinstance(value, PyroParam):
            self._hold(name, value)
        elif name in self.__dict__.get("parameter_constraints", {}) and isinstance(value, torch.Tensor):
            with torch.no_grad():
                self._parameters[name].copy_(self._free(name, value))  # type: ignore[union-attr]
        else:
            self.__dict__.get("_pyro_samples", {}).pop(name, None)
            super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if not self._forget(name):
            super().__delattr__(name)

    def _forget(self, name: str) -> bool:
        self.parameter_constraints.pop(name, None)
        tables: tuple[dict[str, Any], ...] = (
            self._pyro_samples,
            self._parameters,
            self._modules,
            self._buffers,
        )
        found = [table.pop(name, self) is not self for table in tables]
        return any(found)

    def _hold(self, name: str, value: PyroParam) -> None:
        self.parameter_constraints[name] = value.constraint
        self._pyro_event_dims[name] = value.event_dim
        free = self._free(name, first_value(name, value.init_value))
        self._parameters[name] = nn.Parameter(free.detach().clone())

    def _free(self, name: str, value: torch.Tensor) -> torch.Tensor:
        constraint = self.parameter_constraints[name]
        return unconstrain(name, value, constraint, transform_for(name, constraint))

    def _parameter(self, name: str, leaf: torch.Tensor, call: _Call | None) -> torch.Tensor:
        constraint = self.parameter_constraints.get(name, constraints.real)
        if call is None or not stack.current():
            return _constrained(name, leaf, constraint)
        full_name = call.full_name(self, name)
        if full_name not in call.values:
            options = {"event_dim": self._pyro_event_dims.get(name)}
            message = Message("param", full_name, _answer, (leaf, constraint), options)
            message.unconstrained = leaf
            call.values[full_name] = stack.apply(message).value
        return call.values[full_name]  # type: ignore[no-any-return]

    def _sampled(self, name: str) -> Any:
        prior, call = self._pyro_samples[name], _CALL.get()
        if call is None or id(self) not in call.names:
            prior = prior if hasattr(prior, "log_prob") else prior(self)
            return prior.sample() if hasattr(prior, "log_prob") else prior
        full_name = call.full_name(self, name)
        if full_name not in call.values:
            prior = prior if hasattr(prior, "log_prob") else prior(self)
            draw = sample if hasattr(prior, "log_prob") else deterministic
            call.values[full_name] = draw(full_name, prior)
        return call.values[full_name]


def pyro_method(method: _F) -> _F:
    """Decorate a method of a :class:`PyroModule` so that calling it is a call of the module as a model.

    Example:
        >>> from brancher.nn import PyroModule, PyroSample, pyro_method
        >>> class Coin(PyroModule):
        ...     bias = PyroSample(dist.Beta(1.0, 1.0))
        ...     @pyro_method
        ...     def flips(self):
        ...         return sample("flips", dist.Binomial(10, self.bias))
        >>> handlers.trace(Coin().flips).get_trace().stochastic_nodes
        ['bias', 'flips']
    """

    @functools.wraps(method)
    def called(self: PyroModule, *args: Any, **kwargs: Any) -> Any:
        with _calling(self):
            return method(self, *args, **kwargs)

    return called  # type: ignore[return-value]


def to_pyro_module_(module: nn.Module, recurse: bool = True) -> None:
    """Turn a torch module into a :class:`PyroModule`, in place.

    Args:
        module: the module; its class changes.
        recurse: whether to turn the modules inside as well.

    Raises:
        SiteTypeError: it is no torch module.
    """
    if not isinstance(module, nn.Module):
        raise SiteTypeError(f"to_pyro_module_: expected a torch module, got {type(module).__name__}")
    if not isinstance(module, PyroModule):
        module.__class__ = PyroModule[type(module)]
        _prepare(module, "")
    if recurse:
        for child in module.children():
            to_pyro_module_(child)


def _prepare(module: nn.Module, name: str) -> None:
    module.__dict__.setdefault("_pyro_samples", {})
    module.__dict__.setdefault("_pyro_event_dims", {})
    module.__dict__.setdefault("parameter_constraints", {})
    module.__dict__["_pyro_root_name"] = name


@contextmanager
def _calling(module: PyroModule) -> Iterator[None]:
    """Let attributes be sites, of the call going on or of one that begins here."""
    call = _CALL.get()
    if call is not None and id(module) in call.names:
        yield
        return
    current_store().register_module(
        module.root_name or f"{type(module).__name__}()", module, prefix=module.root_name
    )
    token = _CALL.set(_Call(module))
    try:
        yield
    finally:
        _CALL.reset(token)


def _answer(message: Message) -> torch.Tensor:
    leaf, constraint = message.args
    return _constrained(message.name, leaf, constraint)


def _constrained(name: str, leaf: torch.Tensor, constraint: Constraint | None) -> torch.Tensor:
    is_real = constraint is None or constraint is constraints.real
    transform = None if is_real else transform_for(name, constraint)
    return leaf if transform is None else transform(leaf)


PyroModuleList = _Mixing.__getitem__(PyroModule, nn.ModuleList)
