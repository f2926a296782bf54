"""``@model`` and ``@guide``: functions that also know what can be done with a model."""

from __future__ import annotations

import functools
import html
import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

import torch

from brancher.errors import HandlerTypeError
from brancher.handlers import Trace, condition, do, trace
from brancher.infer.predictive import Predictive
from brancher.infer.samples import Samples
from brancher.render import ModelGraph, render_model
from brancher.staging import random_state_kept

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Self

P = ParamSpec("P")
R = TypeVar("R")


class Program(Generic[P, R]):
    """A function with sites: callable as before, and able to show its sites.

    Args:
        fn: the function.

    Raises:
        HandlerTypeError: ``fn`` can not be called.
    """

    def __init__(self, fn: Callable[P, R]) -> None:
        if not callable(fn):
            raise HandlerTypeError(
                f"{type(self).__name__.lower()}: expected a function to decorate, got {type(fn).__name__}; "
                "write it above a def"
            )
        functools.update_wrapper(self, fn, updated=())
        self.fn = fn

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.fn(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Self:
        # A decorated method knows its object, and keeps the methods of a model.
        return self if instance is None else type(self)(MethodType(self.fn, instance))

    def shapes(self, *args: P.args, **kwargs: P.kwargs) -> pd.DataFrame:
        """Run once and show every site: its kind, distribution, shapes and plates.

        Returns:
            A DataFrame with one row a site.
        """
        return self._record(*args, **kwargs).to_frame()

    def render(
        self,
        *args: Any,
        filename: str | Path | None = None,
        render_distributions: bool = False,
        render_params: bool = False,
        render_deterministic: bool = True,
        **kwargs: Any,
    ) -> ModelGraph:
        """Run once and draw the sites as a plate diagram; see :func:`brancher.render_model`."""
        return render_model(
            self.fn, args, kwargs, filename, render_distributions, render_params, render_deterministic
        )

    def _record(self, *args: Any, **kwargs: Any) -> Trace:
        with random_state_kept(), torch.no_grad():
            return trace(self.fn).get_trace(*args, **kwargs)

    def __reduce__(self) -> Any:
        # The module's name leads to this object, not to the function inside: pickle by reference.
        name = getattr(self, "__qualname__", None)
        found: Any = sys.modules.get(getattr(self, "__module__", None) or "")
        for part in (name or "").split("."):
            found = getattr(found, part, None)
        return name if found is self else (type(self), (self.fn,))

    def __repr__(self) -> str:
        return f"{type(self).__name__.lower()} {self._title()}"

    def _title(self) -> str:
        name = getattr(self, "__name__", type(self.fn).__name__)
        try:
            return f"{name}{inspect.signature(self.fn)}"
        except (TypeError, ValueError):
            return str(name)

    def _repr_html_(self) -> str:
        text = inspect.getdoc(self.fn) or ""
        shown = [f"<b>{type(self).__name__.lower()}</b> <code>{html.escape(self._title())}</code>"]
        shown += [f"<p>{html.escape(text.splitlines()[0])}</p>"] if text else []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                shown.append(self._record().to_frame().to_html())
            except Exception:  # it needs arguments, which a notebook's display can not know
                shown.append(
                    "<p>Show its sites with <code>.shapes(...)</code> or <code>.render(...)</code>.</p>"
                )
        return "\n".join(shown)


class Model(Program[P, R]):
    """What :func:`model` makes of a function."""

    def condition(self, data: Mapping[str, Any] | Trace | None = None, **values: Any) -> Model[P, R]:
        """A model that observes sites at given values.

        Args:
            data: values by site name, or a trace.
            **values: values by site name, where the names are identifiers.
        """
        return Model(condition(self, data=_joined(data, values)))

    def do(self, data: Mapping[str, Any] | None = None, **values: Any) -> Model[P, R]:
        """A model in which sites are set by intervention.

        Args:
            data: values by site name.
            **values: values by site name, where the names are identifiers.
        """
        return Model(do(self, data=_joined(data, values)))

    def prior(self, num_samples: int, *args: Any, **kwargs: Any) -> Samples:
        """Draw from the model; without its data, from the prior predictive law.

        Args:
            num_samples: how many draws, > 0.
            *args: arguments of the model.
            **kwargs: keyword arguments of the model.

        Returns:
            Draws by site; ``.to_frame()`` and ``.summary()`` make tables of them.
        """
        return Predictive(self.fn, num_samples=num_samples)(*args, **kwargs)


class Guide(Program[P, R]):
    """What :func:`guide` makes of a function."""

    def sample(self, num_samples: int, *args: Any, **kwargs: Any) -> Samples:
        """Draw from the guide.

        Args:
            num_samples: how many draws, > 0.
            *args: arguments of the guide.
            **kwargs: keyword arguments of the guide.

        Returns:
            Draws by site; ``.to_frame()`` and ``.summary()`` make tables of them.
        """
        return Predictive(self.fn, num_samples=num_samples)(*args, **kwargs)


def model(fn: Callable[P, R]) -> Model[P, R]:
    """Decorate a function that is a model.

    It stays callable with the same signature, and also knows ``.condition``, ``.do``, ``.prior``,
    ``.shapes`` and ``.render``. Methods can be decorated too.

    Example:
        >>> @model
        ... def coin(n):
        ...     p = sample("p", dist.Normal(0.5, 0.1))
        ...     with plate("throw", n):
        ...         return sample("y", dist.Normal(p, 1.0))
        >>> coin(3).shape
        torch.Size([3])
        >>> coin.prior(10, 3)
        Samples(p: (10,), y: (10, 3))
        >>> coin.condition(p=torch.tensor(0.5)).shapes(3)["observed"].to_dict()
        {'p': True, 'y': False}
    """
    return Model(fn)


def guide(fn: Callable[P, R]) -> Guide[P, R]:
    """Decorate a function that is a guide.

    It stays callable with the same signature, and also knows ``.sample``, ``.shapes`` and
    ``.render``.

    Example:
        >>> @guide
        ... def normal():
        ...     return sample("p", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))
        >>> normal.sample(5)
        Samples(p: (5,))
    """
    return Guide(fn)


def _joined(data: Any, values: dict[str, Any]) -> Any:
    if not values:
        return data
    given = (
        {s.name: s.value for s in data.sites("sample") if not s.is_observed}
        if isinstance(data, Trace)
        else data
    )
    return {**(given or {}), **values}
