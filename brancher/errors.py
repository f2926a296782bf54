"""Every exception and warning of the package, and the phrasing they share.

::

    BrancherError
    ├── SiteError            ValueError    a site's name, value, shape or place
    │   └── SiteTypeError    TypeError     ... has the wrong Python type
    ├── PlateError           ValueError    a plate's size, dim or nesting
    │   └── PlateIndexError  IndexError    ... an index outside the plate
    ├── DistributionError    ValueError    a distribution's argument, value or shape
    │   └── DistributionTypeError  TypeError
    ├── ParamError           ValueError    a parameter's value, shape or constraint
    │   ├── UnknownParamError  KeyError    ... was never given a value
    │   └── ParamTypeError   TypeError
    ├── GuideError           ValueError    guide and model do not fit together
    ├── UnknownNameError     KeyError      a name that matches nothing
    ├── HandlerError         ValueError    a handler's own argument
    │   └── HandlerTypeError TypeError
    ├── OptimError           ValueError    an optimizer or its options
    │   └── OptimTypeError   TypeError
    ├── InferenceError       RuntimeError, ValueError   an algorithm's argument or its run
    │   ├── InferenceTypeError  TypeError
    │   ├── NonFiniteError      a loss, gradient or density is NaN or infinite
    │   │   └── SMCFailed       no particle of a filter is possible any more
    │   └── UnsupportedError    NotImplementedError   this model is outside the algorithm
    ├── FileFormatError      RuntimeError, ValueError   a saved file is damaged or foreign
    │   ├── FileTypeError    TypeError    ... is named by no path
    │   └── MissingFileError FileNotFoundError
    ├── MissingExtraError    ImportError   an optional package is not installed
    └── AbsentNameError      ImportError   a name of Pyro that is not here by decision

    BrancherWarning (UserWarning)
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class BrancherError(Exception):
    """Base of every error that the package raises for a user's mistake."""

    def __str__(self) -> str:
        # KeyError would show the repr of its text.
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


class SiteError(BrancherError, ValueError):
    """A site's name, value, shape or place in the model is wrong."""


class SiteTypeError(SiteError, TypeError):
    """A site was given an object of the wrong type."""


class PlateError(BrancherError, ValueError):
    """A plate's size, dimension, subsample or nesting is wrong."""


class PlateIndexError(PlateError, IndexError):
    """An index lies outside its plate."""


class DistributionError(BrancherError, ValueError):
    """A distribution's argument, value or shape is wrong."""


class DistributionTypeError(DistributionError, TypeError):
    """A distribution was given an object of the wrong type."""


class ParamError(BrancherError, ValueError):
    """A parameter's value, shape or constraint is wrong."""


class UnknownParamError(ParamError, KeyError):
    """A parameter is read that was never given a value."""


class ParamTypeError(ParamError, TypeError):
    """A parameter was given an object of the wrong type."""


class GuideError(BrancherError, ValueError):
    """Guide and model do not fit together."""


class UnknownNameError(BrancherError, KeyError):
    """A name matches no site, parameter or plate."""


class HandlerError(BrancherError, ValueError):
    """A handler's own argument is wrong."""


class HandlerTypeError(HandlerError, TypeError):
    """A handler was given an object of the wrong type."""


class OptimError(BrancherError, ValueError):
    """An optimizer, its options or its state is wrong."""


class OptimTypeError(OptimError, TypeError):
    """Something else was given where an optimizer is expected."""


class InferenceError(BrancherError, RuntimeError, ValueError):
    """An inference algorithm got a wrong argument or can not go on."""


class InferenceTypeError(InferenceError, TypeError):
    """An inference algorithm was given an object of the wrong type."""


class NonFiniteError(InferenceError):
    """A loss, gradient, parameter or density is NaN or infinite."""


class SMCFailed(NonFiniteError):
    """No particle of a filter is possible any more."""


class UnsupportedError(InferenceError, NotImplementedError):
    """The model is outside what the algorithm can do."""


class FileFormatError(BrancherError, RuntimeError, ValueError):
    """A saved file is damaged, truncated or of another kind."""


class FileTypeError(FileFormatError, TypeError):
    """Something else was given where a path is expected."""


class MissingFileError(FileFormatError, FileNotFoundError):
    """A file or its directory does not exist."""


class MissingExtraError(BrancherError, ImportError):
    """An optional package is not installed."""


class AbsentNameError(BrancherError, ImportError):
    """A name of Pyro that is not here by decision; the text says what to use instead."""


class BrancherWarning(UserWarning):
    """Base of every warning that the package issues."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to ``name``, or ``""``.

    Example:
        >>> nearest("zz", ["z", "mu"])
        "; did you mean 'z'?"
    """
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def add_place(error: BaseException, place: str, unless: str | None = None) -> None:
    """Note on an error where it arose, for causes that can not know; from Python 3.11 on.

    Args:
        error: on its way out.
        place: where it passes.
        unless: how a note begins that says so already; the place itself by default.
    """
    known = getattr(error, "__notes__", ())
    if hasattr(error, "add_note") and not any(note.startswith(unless or place) for note in known):
        error.add_note(place)


def require(package: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional package, or say which extra brings it.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose}: expected the package '{package}', got none installed; "
            f"run: pip install 'brancher[{extra}]'"
        ) from error
