"""Optimizers of Pyro that torch does not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from brancher.optim.clipping import clipped
from brancher.optim.direct import run_kernel


class ClippedAdam(torch.optim.Adam):
    """Adam with gradients clamped entry by entry and a learning rate that decays at every step.

    Args:
        params: tensors or groups of them.
        lr: learning rate.
        betas: decay of the running means of gradient and squared gradient.
        eps: added to the denominator.
        weight_decay: L2 penalty.
        clip_norm: gradients are clamped to [-clip_norm, clip_norm].
        lrd: the learning rate is multiplied by it before every step.
        foreach: see ``torch.optim.Adam``.
        fused: see ``torch.optim.Adam``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        clip_norm: float = 10.0,
        lrd: float = 1.0,
        *,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        if not clip_norm > 0:
            raise ValueError(f"Invalid clip_norm: {clip_norm}")
        if not lrd > 0:
            raise ValueError(f"Invalid lrd: {lrd}")
        self._own = {"clip_norm": clip_norm, "lrd": lrd}
        super().__init__(params, lr, betas, eps, weight_decay, foreach=foreach, fused=fused)
        self.defaults.update(self._own)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add tensors with options of their own."""
        for key, value in self._own.items():
            param_group.setdefault(key, value)
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["lr"] *= group["lrd"]
            for leaf in group["params"]:
                if leaf.grad is not None:
                    leaf.grad = clipped(leaf.grad, value=group["clip_norm"])
        if not run_kernel(self):
            super().step()
        return loss


class AdagradRMSProp(torch.optim.Optimizer):
    """Step sizes of ADVI (Kucukelbir et al. 2017, arXiv:1603.00788, eqs. 10 and 11).

    Args:
        params: tensors or groups of them.
        eta: scale of the step size.
        delta: offset of the exponent -1/2 with which the step size falls.
        t: weight of the newest squared gradient in the running mean.
    """

    def __init__(self, params: ParamsT, eta: float = 1.0, delta: float = 1e-16, t: float = 0.1) -> None:
        if not eta >= 0:
            raise ValueError(f"Invalid eta: {eta}")
        if not 0 < t <= 1:
            raise ValueError(f"Invalid t: {t}")
        super().__init__(params, {"eta": eta, "delta": delta, "t": t})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for leaf in group["params"]:
                if leaf.grad is not None:
                    _adagrad_rmsprop(leaf, leaf.grad, self.state[leaf], group)
        return loss


def _adagrad_rmsprop(
    leaf: torch.Tensor, grad: torch.Tensor, state: dict[str, Any], group: dict[str, Any]
) -> None:
    if not state:
        state["step"], state["sum"] = 0, grad * grad
    else:
        state["sum"] = torch.lerp(state["sum"], grad * grad, group["t"])
    state["step"] += 1
    rate = group["eta"] * state["step"] ** (group["delta"] - 0.5)
    leaf.addcdiv_(grad, 1.0 + state["sum"].sqrt(), value=-rate)
