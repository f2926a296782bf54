"""What was called otherwise in older programs."""

from __future__ import annotations

from brancher.errors import nearest

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


def variable_hint(name: str, known: list[str]) -> str:
    """What to write in place of a name that is none of the variables.

    Args:
        name: the class that was asked for.
        known: those that there are.
    """
    plain = name.replace("Standard", "").replace("Bernulli", "Bernoulli")
    return f"; it is called '{plain}' here" if plain in known and plain != name else nearest(name, known)
