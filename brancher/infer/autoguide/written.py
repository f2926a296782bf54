"""What a guide of a program's own, a subclass of ``AutoGuide`` with a ``forward``, has besides."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from brancher.handlers import stack
from brancher.infer.autoguide.module import GuideModule
from brancher.infer.autoguide.parameters import Holder
from brancher.nn import PyroModule, PyroParam
from brancher.params.entry import first_value
from brancher.primitives.param import show_module


class WrittenGuide(GuideModule):
    """Attributes as in a :class:`~brancher.nn.PyroModule`, for guides that write ``forward`` themselves.

    A :class:`~brancher.nn.PyroParam` becomes a constrained parameter; parameters, and torch modules, are
    shown to the handlers where they are read.
    """

    #: Whether the class writes ``forward`` itself.
    is_written: ClassVar[bool] = False

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, PyroParam):
            self.hold(name, first_value(name, value.init_value), value.constraint)
        else:
            super().__setattr__(name, value)
        if type(self).is_written and isinstance(value, (PyroParam, nn.Parameter, nn.Module)):
            self.forget_caches()

    def __getattr__(self, name: str) -> Any:
        if not type(self).is_written or not stack.current():
            return super().__getattr__(name)
        if name in self.__dict__.get("_parameters", {}):
            return self.read(name)
        value = super().__getattr__(name)
        if isinstance(value, nn.Module) and not isinstance(value, (Holder, PyroModule)):
            return show_module(f"{self._name}.{name}", value)
        return value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run ``forward``; the current store shows the parameters."""
        if type(self).is_written:
            self.register()
        return super().__call__(*args, **kwargs)
