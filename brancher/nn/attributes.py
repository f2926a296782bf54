"""What is assigned to an attribute of a ``PyroModule``: a constrained parameter or a prior."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch.distributions.constraints import Constraint

from brancher.distributions import constraints
from brancher.errors import ParamTypeError, SiteTypeError


class _Attribute:
    """A value that the module sets at the first look, where it decorates a method of the class."""

    _name: str = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def bound(self, module: Any) -> _Attribute:
        """The attribute for one module, where it was written as a method."""
        return self

    def __get__(self, module: Any, owner: type | None = None) -> Any:
        if module is None:
            return self
        if not module.has_attribute(self._name):
            setattr(module, self._name, self.bound(module))
        return module.__getattr__(self._name)


class PyroParam(_Attribute):
    """A constrained parameter as an attribute of a :class:`PyroModule`.

    Assigned to an attribute, or decorating a method that makes the first value.

    Args:
        init_value: first value inside the constraint, or a function that makes it.
        constraint: where the value lies.
        event_dim: as for ``param``: a subsampled plate cuts the dimensions left of these.

    Example:
        >>> from brancher.nn import PyroModule, PyroParam
        >>> class Noise(PyroModule):
        ...     @PyroParam(constraint=dist.constraints.positive)
        ...     def scale(self):
        ...         return torch.tensor(2.0)
        >>> Noise().scale
        tensor(2.0000, grad_fn=...)
    """

    def __init__(
        self,
        init_value: Any = None,
        constraint: Constraint = constraints.real,
        event_dim: int | None = None,
    ) -> None:
        if not isinstance(constraint, Constraint):
            raise ParamTypeError(
                f"PyroParam: expected a Constraint, got {type(constraint).__name__}; use one of "
                "brancher.distributions.constraints"
            )
        self.init_value, self.constraint, self.event_dim = init_value, constraint, event_dim

    def __call__(self, make: Callable[[Any], Any]) -> PyroParam:
        """Decorate the method that makes the first value."""
        return PyroParam(make, self.constraint, self.event_dim)

    def bound(self, module: Any) -> PyroParam:
        """The parameter of one module."""
        return PyroParam(functools.partial(self.init_value, module), self.constraint, self.event_dim)


class PyroSample(_Attribute):
    """A random variable as an attribute of a :class:`PyroModule`, sampled once in each of its calls.

    Assigned to an attribute, or decorating a method that makes the prior.

    Args:
        prior: a distribution; or a function from the module to a distribution, or to a tensor, which is
            recorded as deterministic.

    Raises:
        SiteTypeError: the prior is neither.

    Example:
        >>> from brancher.nn import PyroModule, PyroSample
        >>> class Line(PyroModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.slope = PyroSample(dist.Normal(0.0, 1.0))
        ...     def forward(self, x):
        ...         return self.slope * x
        >>> handlers.trace(Line()).get_trace(2.0).stochastic_nodes
        ['slope']
    """

    def __init__(self, prior: Any) -> None:
        if not (hasattr(prior, "log_prob") or callable(prior)) or isinstance(prior, type):
            raise SiteTypeError(
                f"PyroSample: expected prior as a distribution or a function of the module, got {prior!r}; "
                "write PyroSample(dist.Normal(0.0, 1.0))"
            )
        self.prior = prior
