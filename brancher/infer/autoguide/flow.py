"""``AutoNormalizingFlow``: a flow from a standard normal vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.distributions.transforms import ComposeTransform, IndependentTransform, Transform

from brancher.distributions import Distribution, TransformedDistribution, constraints
from brancher.errors import GuideError
from brancher.handlers import Message, stack
from brancher.infer.autoguide.affine import drawn_from_noise, noise_like
from brancher.infer.autoguide.continuous import AutoContinuous
from brancher.infer.initialization import Init, init_to_feasible

Fn = Callable[..., Any]


class AutoNormalizingFlow(AutoContinuous):
    """Guide all latent sites by a standard normal vector sent through a flow.

    Rezende & Mohamed 2015, arXiv:1505.05770. The flow's modules are parts of the guide; their
    parameters are ``AutoNormalizingFlow.transform.<number>.<parameter>``. What the flow gives at
    first is where the guide starts; ``init_loc_fn`` only serves the look at the model.

    Args:
        model: the model.
        init_transform_fn: called with the length n of the flat vector, returns the flow: an
            invertible map of vectors, or a list of them, first to last. A map is a transform of
            torch, or any callable with ``log_abs_det_jacobian(x, y)``; learnable ones are modules.
        init_loc_fn: see :class:`AutoGuide`.
        create_plates: see :class:`AutoGuide`.
        prefix: see :class:`AutoGuide`.

    Raises:
        GuideError: ``init_transform_fn`` is no function or returns something else.

    Example:
        >>> from brancher.infer.autoguide import AffineAutoregressive, AutoNormalizingFlow
        >>> model = lambda: sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        >>> guide = AutoNormalizingFlow(model, lambda n: [AffineAutoregressive(n) for _ in range(2)])
        >>> guide()["x"].shape
        torch.Size([2])
    """

    def __init__(
        self,
        model: Fn,
        init_transform_fn: Fn,
        init_loc_fn: Init = init_to_feasible,
        *,
        create_plates: Fn | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(model, init_loc_fn, create_plates=create_plates, prefix=prefix)
        if not callable(init_transform_fn):
            raise GuideError(
                f"{type(self).__name__}: expected init_transform_fn as a function from the length "
                f"of the latent vector to a flow, got {type(init_transform_fn).__name__}"
            )
        # In a tuple: a class or factory that is a module is no part of the guide.
        self._make_flow: tuple[Fn | None] = (init_transform_fn,)
        self._flow: list[Transform] = []

    def declare_law(self, start: torch.Tensor) -> None:
        """Make the flow, with the dtype and on the device of the model's values."""
        make = self._make_flow[0]
        if make is None:
            raise GuideError(
                f"{type(self).__name__}: expected init_transform_fn, got a guide pickled without it"
            )
        made = make(len(start))
        maps = list(made) if isinstance(made, (list, tuple, nn.ModuleList)) else [made]
        modules = nn.ModuleDict()
        for number, each in enumerate(maps):
            if isinstance(each, nn.Module):
                modules[str(number)] = each.to(dtype=start.dtype, device=start.device)
        self.transform = modules
        self._flow = [_as_vector_map(each) for each in maps]

    def get_transform(self, *args: Any, **kwargs: Any) -> Transform:
        """From a standard normal vector to the posterior's."""
        for key, parameter in self.transform.named_parameters():
            show_parameter(f"{self._name}.transform.{key}", parameter)
        return self._flow[0] if len(self._flow) == 1 else ComposeTransform(list(self._flow))

    def get_posterior(self, *args: Any, **kwargs: Any) -> Distribution:
        """The law of the flow's output, event shape (n,)."""
        return TransformedDistribution(self.get_base_dist(), [self.get_transform()], validate_args=False)

    def draw(self, batch_shape: torch.Size) -> Distribution:
        """The law with a draw whose noise is known: nothing is inverted."""
        self.get_transform()
        noise = noise_like(self.latents[0].free_start.new_zeros(self.latent_dim), batch_shape)
        steps = [noise]
        for each in self._flow:
            steps.append(each(steps[-1]))

        def log_slope() -> torch.Tensor:
            slopes = [
                each.log_abs_det_jacobian(x, y)
                for each, x, y in zip(self._flow, steps, steps[1:], strict=False)
            ]
            return torch.stack(torch.broadcast_tensors(*slopes)).sum(0)

        return drawn_from_noise(noise, steps[-1], log_slope, self.get_posterior)

    def __getstate__(self) -> dict[str, Any]:
        from brancher.infer.autoguide.module import can_be_pickled

        state = super().__getstate__()
        if not can_be_pickled(state["_make_flow"]):
            state["_make_flow"] = (None,)
        return state


class ModuleTransform(Transform):
    """A module that is an invertible map of vectors, as a transform.

    Args:
        module: callable, with ``log_abs_det_jacobian(x, y)`` and, to invert it, ``inverse(y)``.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x)  # type: ignore[no-any-return]

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        inverse = getattr(self.module, "inverse", None) or getattr(self.module, "_inverse", None)
        if inverse is None:
            raise GuideError(
                f"flow: expected {type(self.module).__name__} to have a method inverse(y), got none; the "
                "density of a value that is not the guide's own draw needs it"
            )
        return inverse(y)  # type: ignore[no-any-return]

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log-determinant of the map at ``x``, summed over the vector."""
        slope: torch.Tensor = self.module.log_abs_det_jacobian(x, y)
        return slope.sum(-1) if slope.dim() == x.dim() else slope


def _as_vector_map(each: Any) -> Transform:
    if isinstance(each, Transform):
        rank = each.domain.event_dim
        return IndependentTransform(each, 1 - rank) if rank < 1 else each
    if callable(each) and hasattr(each, "log_abs_det_jacobian"):
        return ModuleTransform(each)
    raise GuideError(
        f"flow: expected a transform, or a callable with log_abs_det_jacobian(x, y), got "
        f"{type(each).__name__}; return one or a list of them from init_transform_fn"
    )


def show_parameter(name: str, parameter: torch.Tensor) -> None:
    """Show a parameter of a module to the handlers.

    Raises:
        GuideError: a handler replaced it, which a module has no way to take up.
    """
    if not stack.current():
        return
    message = Message(
        "param", name, None, (parameter, constraints.real), {"event_dim": None}, value=parameter
    )
    message.unconstrained = parameter
    if stack.apply(message).value is not parameter:
        raise GuideError(
            f"parameter '{name}': expected a parameter of a flow to be read as it is, got it replaced by a "
            "handler; leave it out of lift, substitute and replay"
        )
