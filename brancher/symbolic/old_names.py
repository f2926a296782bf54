"""What was called otherwise in older programs."""

from __future__ import annotations

from collections.abc import Iterable

from brancher.errors import AbsentNameError, nearest

_ARGUMENTS = {
    "p": "probs",
    "softmax_p": "logits",
    "logit_p": "logits",
    "mu": "loc",
    "sigma": "scale",
    "n": "total_count",
    "lam": "rate",
    "cholesky_factor": "scale_tril",
}
_OPTIONS = ("name", "learnable", "is_observed", "has_bias")
_GONE = {
    "is_policy": "; remove it: any learnable variable is a policy",
    "is_reward": "; make a RewardVariable, and fit by inference.ExpectedReward()",
}


def argument_hint(name: str, known: list[str]) -> str:
    """What to write in place of an argument that a variable does not have.

    Args:
        name: the argument.
        known: those that it has.
    """
    renamed = _ARGUMENTS.get(name)
    if renamed in known:
        return f"; it is called '{renamed}' here"
    return _GONE.get(name) or nearest(name, [*known, *_OPTIONS]) or "; remove it"


def missing(module: str, name: str, known: Iterable[str]) -> Exception:
    """What a module says of a name that it does not have.

    An old name of a variable is an ImportError: Python hides the text of an AttributeError from
    ``from ... import``.

    Args:
        module: name of the module.
        name: what was asked for.
        known: what there is.
    """
    plain = name.replace("Standard", "").replace("Bernulli", "Bernoulli")
    known = list(known)
    if plain in known and plain != name:
        return AbsentNameError(
            f"{module}.{name}: expected one of its variables, got an old name; it is called '{plain}' here"
        )
    return AttributeError(f"module {module!r} has no attribute {name!r}{nearest(name, known)}")
