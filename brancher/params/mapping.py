"""The parts of a store that follow from its names and its values."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import ItemsView, Iterator, KeysView

import torch


class ParamMapping(ABC):
    """Constrained values by name, in order of declaration."""

    @abstractmethod
    def __getitem__(self, name: str) -> torch.Tensor:
        """Return the constrained value of a parameter."""

    @abstractmethod
    def named_parameters(self) -> ItemsView[str, torch.Tensor]:
        """Return names with unconstrained leaves, frozen ones of modules included."""

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.keys())})"

    def keys(self) -> KeysView[str]:
        """Return the names."""
        return dict(self.named_parameters()).keys()

    def values(self) -> Iterator[torch.Tensor]:
        """Return the constrained values."""
        return (self[name] for name in self.keys())

    def items(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Return names with constrained values."""
        return ((name, self[name]) for name in self.keys())

    def get_all_param_names(self) -> KeysView[str]:
        """Return the names."""
        return self.keys()

    def match(self, pattern: str) -> dict[str, torch.Tensor]:
        """Return the constrained values whose names begin with a match of a regular expression.

        Example:
            >>> from brancher.params import ParamStore
            >>> store = ParamStore()
            >>> _ = store.declare("guide.loc", 0.0), store.declare("noise", 1.0)
            >>> list(store.match("guide"))
            ['guide.loc']
        """
        matches = re.compile(pattern).match
        return {name: value for name, value in self.items() if matches(name)}

    def param_name(self, leaf: torch.Tensor) -> str | None:
        """Return the name of an unconstrained leaf, None for a tensor that is not in the store."""
        return next((name for name, held in self.named_parameters() if held is leaf), None)
