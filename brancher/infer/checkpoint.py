"""Save a run of SVI and go on from there, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from brancher.errors import FileFormatError
from brancher.infer.autoguide.module import GuideModule
from brancher.infer.elbo import ELBO
from brancher.optim.state import check as check_optimizer_state
from brancher.params import current_store
from brancher.params.files import load_state, save_state

if TYPE_CHECKING:
    from brancher.infer.svi import SVI

_KIND = "svi"
_KEYS = {"params", "modules", "optim", "loss", "steps", "history", "rng"}


def save(svi: SVI, path: str | os.PathLike[str]) -> None:
    """Write parameters, modules, optimizer, loss, counters and random state to one file."""
    save_state(path, _KIND, _state(svi))


def _state(svi: SVI) -> dict[str, Any]:
    return {
        "params": current_store().pack(),
        "modules": {role: _tensors(fn) for role, fn in _modules(svi).items()},
        "guide": svi.guide.registered_name if isinstance(svi.guide, GuideModule) else "",
        "optim": svi.optim.state_dict(),
        "loss": svi.loss.state_dict() if isinstance(svi.loss, ELBO) else {},
        "steps": svi.steps,
        "history": torch.tensor(svi.history, dtype=torch.float64),
        "rng": torch.get_rng_state(),
    }


def load(svi: SVI, path: str | os.PathLike[str]) -> None:
    """Put back what :func:`save` wrote; an error leaves everything as it was.

    Raises:
        FileFormatError: the file is damaged, of another kind, or of another guide.
        OptimError: it is of another class of optimizer.
    """
    state = load_state(path, _KIND)
    if not isinstance(state, Mapping) or not set(state) >= _KEYS:
        raise FileFormatError(
            f"file '{os.fspath(path)}': expected a checkpoint of SVI, got another content; "
            "load what svi.save wrote"
        )
    for role, module in _modules(svi).items():
        _check_fits(path, role, module, state["modules"].get(role, {}))
    check_optimizer_state(state["optim"], svi.optim.name)
    before = _state(svi)
    try:
        _put(svi, state)
    except BaseException:
        _put(svi, before)
        raise


def _put(svi: SVI, state: Mapping[str, Any]) -> None:
    current_store().unpack(state["params"])
    if isinstance(svi.guide, GuideModule) and state.get("guide"):
        svi.guide.take_name(state["guide"])
    for role, module in _modules(svi).items():
        _write(module, state["modules"].get(role, {}))
    svi.optim.load_state_dict(state["optim"], expected=[])
    if isinstance(svi.loss, ELBO):
        svi.loss.load_state_dict(state["loss"])
    svi.steps, svi.history = int(state["steps"]), state["history"].tolist()
    torch.set_rng_state(state["rng"])


def _modules(svi: SVI) -> dict[str, torch.nn.Module]:
    """Model and guide where they are modules; the store sees their parameters only once they ran."""
    pair = {"model": svi.model, "guide": svi.guide}
    return {role: fn for role, fn in pair.items() if isinstance(fn, torch.nn.Module)}


def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _check_fits(
    path: str | os.PathLike[str], role: str, module: torch.nn.Module, saved: Mapping[str, torch.Tensor]
) -> None:
    own = module.state_dict()
    # An autoguide has no parameters before it has seen arguments; it takes the saved ones then.
    wrong = [name for name in saved if name in own and own[name].shape != saved[name].shape]
    missing = [name for name in own if name not in saved]
    if wrong or missing:
        raise FileFormatError(
            f"file '{os.fspath(path)}': expected the state of this {role}, got other shapes for {wrong} and "
            f"nothing for {missing}; load into the {role} that was saved"
        )


def _write(module: torch.nn.Module, saved: Mapping[str, torch.Tensor]) -> None:
    own = module.state_dict()
    with torch.no_grad():
        for name, tensor in saved.items():
            if name in own:
                own[name].copy_(tensor)
