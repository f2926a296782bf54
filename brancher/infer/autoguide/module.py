"""A guide as a module: its model, its parameters' names in a store, its copies."""

from __future__ import annotations

import copy
import pickle
import weakref
from collections.abc import Callable, Iterator
from itertools import chain, count
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from brancher.errors import GuideError
from brancher.infer.autoguide.parameters import Holder, Place, announce
from brancher.params import current_store

if TYPE_CHECKING:
    from typing_extensions import Self

Fn = Callable[..., Any]


class GuideModule(Holder):
    """A module that holds a guide's parameters and knows the model they are for.

    Args:
        model: the model.
        prefix: first part of the parameters' names; None for the class name.

    Raises:
        GuideError: the model is no function.
    """

    #: Attributes that a copy makes anew.
    caches: ClassVar[frozenset[str]] = frozenset({"_places", "_faces"})

    def __init__(self, model: Fn, prefix: str | None = None) -> None:
        super().__init__()
        if not callable(model):
            kind = type(self).__name__
            raise GuideError(
                f"{kind}: expected the model as a function, got {type(model).__name__}; write {kind}(model)"
            )
        # In a tuple, for a model that is a module is no part of the guide.
        self._model: tuple[Fn | None] = (model,)
        self.prefix = type(self).__name__ if prefix is None else prefix
        self._name = self.prefix
        self._is_part = False
        self.forget_caches()

    def forget_caches(self) -> None:
        """Drop what follows from the rest."""
        self._places: dict[str, Place] | None = None
        self._faces: tuple[Face, ...] = ()

    @property
    def has_model(self) -> bool:
        """Whether the model is there."""
        return self._model[0] is not None

    @property
    def model(self) -> Fn:
        """The model.

        Raises:
            GuideError: the guide comes from a file that could not hold it.
        """
        (model,) = self._model
        if model is None:
            raise GuideError(
                f"{type(self).__name__}: expected a model, got a guide that was pickled without it (a lambda "
                "or local function can not be pickled); set guide.model = model"
            )
        return model

    @model.setter
    def model(self, model: Fn) -> None:
        self._model = (model,)

    # Names

    def register(self) -> None:
        """Show the parameters in the current store, under a name that no other living guide has there.

        The name is ``prefix``, or ``prefix_1`` and so on where that is taken; it stays as long as the store
        holds the guide.
        """
        if self._is_part:
            return
        store, face = current_store(), self._face()
        numbered = (f"{self.prefix}_{number}" if number else self.prefix for number in count())
        # The name that it has, first: one that has become free since must not change it in mid-step.
        for name in chain([self._name], numbered):
            other = store.get_module(name)
            if other is face:
                break
            if other is None or (isinstance(other, Face) and other.guide() is None):
                if other is not None:
                    store.unregister_module(name)
                store.register_module(name, face)
                break
        self._name = name

    def take_name(self, name: str) -> None:
        """Take the name that a guide had when it was saved, unless the store knows this one already."""
        if current_store().get_module(self._name) is not self._face():
            self._name = name

    @property
    def registered_name(self) -> str:
        """First part of the parameters' names in the store."""
        return self._name

    def _face(self) -> Face:
        if not self._faces:
            self._faces = (Face(self),)
        return self._faces[0]

    def become_part(self, name: str) -> None:
        """Take a name inside another guide, which shows the parameters in its stead."""
        self._is_part, self._name = True, name

    def all_places(self) -> dict[str, Place]:
        """Every parameter that the guide holds, by path."""
        if self._places is None:
            self._places = self.places()
        return self._places

    def named_pyro_params(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
        """Every parameter with its path, constrained; without those of modules for ``recurse=False``."""
        start = f"{prefix}." if prefix else ""
        places = self.all_places()
        for path, leaf in self.named_parameters(recurse=recurse):
            yield f"{start}{path}", places[path].value() if path in places else leaf

    def show(self, place: Place, value: Any) -> Any:
        """A parameter's value, or what a handler puts in its place."""
        return announce(f"{self._name}.{place.path}", place, value)

    def read(self, path: str) -> Any:
        """The constrained value of a parameter, shown to the handlers as a param site."""
        place = self.all_places()[path]
        return self.show(place, place.value())

    def call(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, ...]:
        """Draw every latent site, for ``torch.jit.trace_module``: values in the order of the sites' names."""
        return tuple(value for _, value in sorted(self(*args, **kwargs).items()))

    # Copies

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        for key, value in self.__dict__.items():
            twin.__dict__[key] = None if key in self.caches else copy.deepcopy(value, memo)
        twin.forget_caches()
        return twin

    def __getstate__(self) -> dict[str, Any]:
        state = {key: value for key, value in self.__dict__.items() if key not in self.caches}
        if not can_be_pickled(state["_model"]):
            state["_model"] = (None,)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.forget_caches()


class Face(Holder):
    """What a store sees of a guide: its parameters, but neither the guide nor its model.

    So a store does not keep models and their data alive, and the name of a guide that is gone can
    be taken by the next one.
    """

    def __init__(self, guide: GuideModule) -> None:
        super().__init__()
        self.guide = weakref.ref(guide)
        for table in ("_parameters", "_buffers", "_modules", "parameter_constraints"):
            self.__dict__[table] = guide.__dict__[table]


def can_be_pickled(value: Any) -> bool:
    """Whether a value can be pickled."""
    try:
        pickle.dumps(value)
    except Exception:  # a foreign object's own way of refusing
        return False
    return True
