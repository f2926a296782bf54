"""``AutoLaplaceApproximation``: the mode, then a normal law from the curvature there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from brancher.distributions import Delta, Distribution
from brancher.distributions.multivariate import tril_of_precision
from brancher.errors import InferenceError
from brancher.infer.autoguide.continuous import AutoContinuous
from brancher.infer.autoguide.multivariate_normal import AutoMultivariateNormal
from brancher.infer.elbo import Trace_ELBO

Fn = Callable[..., Any]


class AutoLaplaceApproximation(AutoContinuous):
    """Find the mode in unconstrained space, then approximate the posterior by its curvature.

    Train it like any guide: the loss is minus the log joint density, Jacobian included. Then
    :meth:`laplace_approximation` gives the normal law (Bishop 2006, section 4.4). The parameter
    is ``AutoLaplaceApproximation.loc``, shape (n,).

    Args:
        model: the model.
        init_loc_fn: where to start.
        create_plates: see :class:`AutoGuide`.
        prefix: see :class:`AutoGuide`.

    Example:
        >>> from brancher.infer.autoguide import AutoLaplaceApproximation
        >>> guide = AutoLaplaceApproximation(lambda: sample("x", dist.Normal(0.0, 2.0))).setup()
        >>> guide.laplace_approximation().get_posterior().covariance_matrix
        tensor([[4.0000]], grad_fn=...)
    """

    def declare_law(self, start: torch.Tensor) -> None:
        """Make the location."""
        self.hold("loc", start)

    def get_posterior(self, *args: Any, **kwargs: Any) -> Distribution:
        """All mass on the location, event shape (n,)."""
        return Delta(self.read("loc"), event_dim=1, validate_args=False)

    def loc_and_scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The location, without spread."""
        loc = self.read("loc")
        return loc, torch.zeros_like(loc)

    def laplace_approximation(self, *args: Any, **kwargs: Any) -> AutoMultivariateNormal:
        """The normal law with the mode as mean and the inverse curvature as covariance.

        Args:
            *args: the model's arguments.
            **kwargs: its keyword arguments.

        Returns:
            A guide; its ``get_posterior()`` is the normal law.

        Raises:
            InferenceError: the curvature is not positive definite, so this is no maximum yet.
        """
        self.setup(*args, **kwargs)
        tril = self._tril(self._curvature(args, kwargs))
        guide = AutoMultivariateNormal(self.model, self.init_loc_fn, create_plates=self.create_plates)
        guide.adopt(self)
        scale = tril.diagonal()
        guide.set_law(self.loc.detach(), scale, tril / scale.unsqueeze(-1))
        return guide

    def _curvature(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
        """Second derivatives of minus the log joint density at the location, shape (n, n)."""
        leaf = self.all_places()["loc"].leaf
        with torch.enable_grad():
            loss = Trace_ELBO().differentiable_loss(self.model, self, *args, **kwargs)
            (slope,) = torch.autograd.grad(loss, leaf, create_graph=True)
            rows = [torch.autograd.grad(entry, leaf, retain_graph=True)[0] for entry in slope]
        curvature = torch.stack(rows).detach()
        return 0.5 * (curvature + curvature.mT)

    def _tril(self, curvature: torch.Tensor) -> torch.Tensor:
        eigenvalues = torch.linalg.eigvalsh(curvature)
        if not bool((eigenvalues > 0).all()):
            raise InferenceError(
                "AutoLaplaceApproximation: expected a positive definite curvature, got the smallest "
                f"eigenvalue {float(eigenvalues.min()):.3g}; train to the maximum first, or "
                "choose another guide"
            )
        return tril_of_precision(curvature)
