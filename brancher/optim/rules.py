"""Optimizer steps as functions of tensors, for the compiled step; the numbers are torch's to rounding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch

from brancher.optim.classes import ClippedAdam

Tensor = torch.Tensor
State: TypeAlias = dict[str, Tensor]
Options: TypeAlias = Mapping[str, Any]
#: (parameters, gradients, state, learning rate, options) -> (new parameters, new state)
Rule: TypeAlias = Callable[[Tensor, Tensor, State, Tensor, Options], tuple[Tensor, State]]


def adam(p: Tensor, g: Tensor, state: State, lr: Tensor, options: Options) -> tuple[Tensor, State]:
    """Adam (Kingma & Ba 2015, arXiv:1412.6980) and AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101)."""
    beta1, beta2 = options["betas"]
    decay = options["weight_decay"]
    g = -g if options["maximize"] else g
    if decay and options.get("decoupled_weight_decay"):
        p = p * (1 - lr * decay)
    elif decay:
        g = g + decay * p
    step = state["step"] + 1
    new = {"step": step, "exp_avg": torch.lerp(state["exp_avg"], g, 1 - beta1)}
    new["exp_avg_sq"] = beta2 * state["exp_avg_sq"] + (1 - beta2) * g * g
    second = new["exp_avg_sq"]
    if options["amsgrad"]:
        second = new["max_exp_avg_sq"] = torch.maximum(state["max_exp_avg_sq"], second)
    scale = second.sqrt() / _correction(beta2, step, p).sqrt() + options["eps"]
    return p - lr / _correction(beta1, step, p) * (new["exp_avg"] / scale), new


def _correction(beta: float, step: Tensor, like: Tensor) -> Tensor:
    """``1 - beta**step``; in float64, as torch does: in float32 it loses four digits at the first steps."""
    return (1 - beta ** step.double()).to(like.dtype)


def clipped_adam(p: Tensor, g: Tensor, state: State, lr: Tensor, options: Options) -> tuple[Tensor, State]:
    """Adam of clamped gradients; the rate is decayed before it comes here."""
    limit = options["clip_norm"]
    return adam(p, g.clamp(-limit, limit), state, lr, options)


def sgd(p: Tensor, g: Tensor, state: State, lr: Tensor, options: Options) -> tuple[Tensor, State]:
    """Gradient descent with momentum (Sutskever et al. 2013, ICML, section 2)."""
    g = -g if options["maximize"] else g
    if options["weight_decay"]:
        g = g + options["weight_decay"] * p
    momentum = options["momentum"]
    if not momentum:
        return p - lr * g, {}
    average = momentum * state["momentum_buffer"] + (1 - options["dampening"]) * g
    g = g + momentum * average if options["nesterov"] else average
    return p - lr * g, {"momentum_buffer": average}


def rmsprop(p: Tensor, g: Tensor, state: State, lr: Tensor, options: Options) -> tuple[Tensor, State]:
    """RMSprop (Tieleman & Hinton 2012, lecture 6.5; centred: Graves 2013, arXiv:1308.0850, eq. 40)."""
    g = -g if options["maximize"] else g
    if options["weight_decay"]:
        g = g + options["weight_decay"] * p
    alpha = options["alpha"]
    new = {"step": state["step"] + 1, "square_avg": alpha * state["square_avg"] + (1 - alpha) * g * g}
    second = new["square_avg"]
    if options["centered"]:
        new["grad_avg"] = torch.lerp(state["grad_avg"], g, 1 - alpha)
        second = second - new["grad_avg"] ** 2
    change = g / (second.sqrt() + options["eps"])
    if options["momentum"]:
        change = new["momentum_buffer"] = options["momentum"] * state["momentum_buffer"] + change
    return p - lr * change, new


def adagrad(p: Tensor, g: Tensor, state: State, lr: Tensor, options: Options) -> tuple[Tensor, State]:
    """Adagrad (Duchi et al. 2011, JMLR 12, eq. 1 with a diagonal matrix)."""
    g = -g if options["maximize"] else g
    if options["weight_decay"]:
        g = g + options["weight_decay"] * p
    rate = lr / (1 + state["step"] * options["lr_decay"])
    total = state["sum"] + g * g
    return p - rate * g / (total.sqrt() + options["eps"]), {"step": state["step"] + 1, "sum": total}


RULES: dict[type[torch.optim.Optimizer], Rule] = {
    torch.optim.Adam: adam,
    torch.optim.AdamW: adam,
    torch.optim.SGD: sgd,
    torch.optim.RMSprop: rmsprop,
    torch.optim.Adagrad: adagrad,
    ClippedAdam: clipped_adam,
}
