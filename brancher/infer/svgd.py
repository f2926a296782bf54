"""``SVGD``: a posterior of particles that push each other apart."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from brancher.errors import InferenceError, InferenceTypeError, NonFiniteError
from brancher.handlers import trace
from brancher.infer.draws import check_count
from brancher.infer.mcmc.arguments import remember, same
from brancher.infer.mcmc.potential import Potential
from brancher.infer.samples import Samples
from brancher.optim import as_optimizer
from brancher.params import current_store

#: The particles' name in the parameter store.
PARTICLES = "svgd_particles"


class SteinKernel(ABC):
    """How near particles are to each other, dimension by dimension."""

    @abstractmethod
    def log_kernel_and_grad(self, particles: Tensor) -> tuple[Tensor, Tensor]:
        """The logarithm of the kernel and its slope.

        Args:
            particles: shape (N, D).

        Returns:
            Two tensors of shape (N, N, D): at ``[n, m]`` the logarithm of the kernel of particles n and m in
            each dimension, and its derivative by particle n.
        """


class _Stationary(SteinKernel):
    """A kernel of distances over a bandwidth, by the median of the squared distances in each dimension.

    Args:
        bandwidth_factor: scales the bandwidth, > 0; 1 for None.

    Raises:
        InferenceError: the factor is not positive.
    """

    def __init__(self, bandwidth_factor: float | None = None) -> None:
        if bandwidth_factor is not None and not bandwidth_factor > 0:
            raise InferenceError(
                f"{type(self).__name__}: expected bandwidth_factor > 0, got {bandwidth_factor}; 1 is usual"
            )
        self.bandwidth_factor = 1.0 if bandwidth_factor is None else bandwidth_factor

    def log_kernel_and_grad(self, particles: Tensor) -> tuple[Tensor, Tensor]:
        """The logarithm of the kernel and its derivative by the first of the two particles."""
        difference = particles.unsqueeze(1) - particles.unsqueeze(0)
        squared = difference.square()
        count = len(particles)
        rows, columns = torch.triu_indices(count, count, 1)
        # Section 5 of Liu & Wang: each particle's kernel balances the pull of the others.
        width = self.bandwidth_factor * squared[rows, columns].median(0).values / math.log(count + 1.0)
        width = width.clamp(min=1e-10)
        log_kernel, slope = self._by_ratio(squared / width)
        return log_kernel, slope * 2.0 * difference / width

    @abstractmethod
    def _by_ratio(self, ratio: Tensor) -> tuple[Tensor, Tensor]:
        """The logarithm of the kernel at a squared distance over the bandwidth, and its derivative by it."""


class RBFSteinKernel(_Stationary):
    """``exp(-r)``, r the squared distance over the bandwidth; Liu & Wang 2016, arXiv:1608.04471, section 5.

    Args:
        bandwidth_factor: scales the bandwidth, > 0; 1 for None.
    """

    def _by_ratio(self, ratio: Tensor) -> tuple[Tensor, Tensor]:
        return -ratio, torch.full_like(ratio, -1.0)


class IMQSteinKernel(_Stationary):
    """``(alpha + r)^beta``, r the squared distance over the bandwidth.

    Gorham & Mackey 2017, arXiv:1703.01717, section 3.2.

    Args:
        alpha: > 0.
        beta: < 0.
        bandwidth_factor: scales the bandwidth, > 0; 1 for None.

    Raises:
        InferenceError: a number is out of range.
    """

    def __init__(self, alpha: float = 0.5, beta: float = -0.5, bandwidth_factor: float | None = None) -> None:
        super().__init__(bandwidth_factor)
        if not (alpha > 0 and beta < 0):
            raise InferenceError(
                f"IMQSteinKernel: expected alpha > 0 and beta < 0, got {alpha} and {beta}; 0.5 and -0.5 are "
                "usual"
            )
        self.alpha, self.beta = alpha, beta

    def _by_ratio(self, ratio: Tensor) -> tuple[Tensor, Tensor]:
        return self.beta * (self.alpha + ratio).log(), self.beta / (self.alpha + ratio)


class SVGD:
    """Stein variational gradient descent: particles that climb the density and repel each other.

    Liu & Wang 2016, arXiv:1608.04471, algorithm 1, on the unconstrained values of all latent sites; kernels
    of each dimension by itself after Zhuo et al. 2018, arXiv:1711.04425. The particles are the parameter
    ``svgd_particles`` of the current store, and begin at draws of the prior.

    Args:
        model: a model of continuous latent sites; discrete ones with a finite support are summed out.
        kernel: an :class:`RBFSteinKernel`, :class:`IMQSteinKernel` or a :class:`SteinKernel` of one's own.
        optim: any optimizer of ``brancher.optim`` or torch.
        num_particles: how many, > 1.
        max_plate_nesting: taken from programs written for Pyro; it is found out.
        mode: "univariate" for a kernel of each dimension by itself, "multivariate" for their product.

    Raises:
        InferenceError: there are too few particles, or the mode is unknown.
        InferenceTypeError: the kernel is none.

    Example:
        >>> from brancher.infer import SVGD, RBFSteinKernel
        >>> model = lambda: sample("x", dist.Normal(3.0, 1.0))
        >>> svgd = SVGD(model, RBFSteinKernel(), optim.Adam({"lr": 0.1}), num_particles=20)
        >>> slopes = [svgd.step() for _ in range(200)]
        >>> bool((svgd.get_named_particles()["x"].mean() - 3.0).abs() < 0.2)
        True
    """

    def __init__(
        self,
        model: Callable[..., Any],
        kernel: SteinKernel,
        optim: Any,
        num_particles: int,
        max_plate_nesting: int | float | None = None,
        mode: Literal["univariate", "multivariate"] = "univariate",
    ) -> None:
        check_count("SVGD", "num_particles", num_particles)
        if not callable(model) or not isinstance(kernel, SteinKernel):
            raise InferenceTypeError(
                "SVGD: expected a model as a function and a kernel such as RBFSteinKernel(), got "
                f"{type(model).__name__} and {type(kernel).__name__}; write "
                "SVGD(model, RBFSteinKernel(), optim, 50)"
            )
        if num_particles == 1:
            raise InferenceError("SVGD: expected num_particles > 1, got 1; they repel each other: give 50")
        if mode not in ("univariate", "multivariate"):
            raise InferenceError(f"SVGD: expected mode as 'univariate' or 'multivariate', got {mode!r}")
        self.model, self.kernel, self.optim = model, kernel, as_optimizer(optim)
        self.num_particles, self.mode = num_particles, mode
        self._density: Potential | None = None
        self._inputs: list[Any] = []

    def step(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Move the particles once, for a model called with these arguments.

        Returns:
            By site, the mean of the squared direction of steepest descent; it goes to zero.

        Raises:
            NonFiniteError: a density or gradient is NaN or infinite; particles are as before.
        """
        density = self._prepare(args, kwargs)
        store = current_store()
        if PARTICLES not in store:
            store.declare(PARTICLES, self._first_places(density, args, kwargs))
        places = store.get_param(PARTICLES)
        density.prepare(places.detach())
        (slope,) = torch.autograd.grad(density.log_prob(places).sum(), places)
        direction = self.direction(places.detach(), slope)
        if not bool(direction.isfinite().all()):
            raise NonFiniteError(
                "SVGD.step: expected finite gradients of the log-density, got NaN or infinite ones; "
                "particles are as before: check the data, or lower the learning rate"
            )
        places.grad = -direction
        self.optim.bind({PARTICLES: places})
        self.optim.step()
        squares = density.split(direction.square())
        return {name: float(value.mean()) for name, value in squares.items()}

    def direction(self, places: Tensor, slope: Tensor) -> Tensor:
        """Where each particle is to move.

        Args:
            places: particles, shape (N, D).
            slope: gradient of the log-density at each, shape (N, D).
        """
        log_kernel, repulsion = self.kernel.log_kernel_and_grad(places)
        if self.mode == "multivariate":
            log_kernel = log_kernel.sum(-1, keepdim=True)
        kernel = log_kernel.exp()
        # Moving n along -d log k / d n takes it away from m.
        return (kernel * (slope.unsqueeze(0) - repulsion)).sum(1) / len(places)

    def get_named_particles(self) -> Samples:
        """The particles by latent site, in the model's own space, shape (num_particles, *site).

        Raises:
            InferenceError: no step has been taken.
        """
        if self._density is None or PARTICLES not in current_store():
            raise InferenceError("SVGD: expected a step, got none yet; call step with the model's arguments")
        density = self._density
        values = density.constrain(current_store().get_param(PARTICLES).detach())
        latent = {slot.name: values[slot.name] for slot in density.slots}
        dims = {name: density.dims.get(name, ()) for name in latent}
        return Samples(latent, {name: names for name, names in dims.items() if names}, density.coords)

    def _prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Potential:
        inputs = remember(args, kwargs)
        if self._density is None or not same(self._inputs, inputs):
            self._density = Potential(self.model, args, kwargs, "SVGD", sums_discrete=True)
            self._inputs = inputs
        return self._density

    def _first_places(self, density: Potential, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        rows = []
        with torch.no_grad():
            for _ in range(self.num_particles):
                record = trace(self.model).get_trace(*args, **kwargs)
                values = {slot.name: record.nodes[slot.name].value for slot in density.slots}
                rows.append(density.unconstrain(values))
        return torch.stack(rows)
