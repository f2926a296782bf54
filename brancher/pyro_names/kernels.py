"""``MCMCKernel``: what a kernel of a program's own derives from, under Pyro's name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

__all__ = ["MCMCKernel"]


class MCMCKernel(ABC):
    """A sampler that draws one step after the other; ``MCMC`` runs it.

    Attributes:
        initial_params: where a chain begins, tensors by site; set by ``MCMC``, or by ``setup``.

    Example:
        >>> from brancher.infer.mcmc import MCMC
        >>> from brancher.infer.mcmc.mcmc_kernel import MCMCKernel
        >>> class Independent(MCMCKernel):
        ...     def sample(self, params):
        ...         return {"x": torch.randn(3)}
        >>> mcmc = MCMC(Independent(), 40, initial_params={"x": torch.zeros(3)}, progress=False)
        >>> mcmc.run()
        >>> mcmc.get_samples()["x"].shape
        torch.Size([40, 3])
    """

    initial_params: Any = None

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:  # noqa: B027 - may be left out
        """Called before each chain, with the arguments of ``MCMC.run``."""

    @abstractmethod
    def sample(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        """The draw after ``params``."""

    def end_warmup(self) -> None:  # noqa: B027 - may be left out
        """Called between warmup and the draws that are kept."""

    def logging(self) -> Any:
        """What a bar may show; there for programs that write it."""
        return None

    def diagnostics(self) -> dict[str, Any]:
        """What ``MCMC.diagnostics`` shows for each chain."""
        return {}

    def cleanup(self) -> None:  # noqa: B027 - may be left out
        """Called after each chain."""
