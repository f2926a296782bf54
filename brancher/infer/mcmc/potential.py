"""From a model to a log density of one flat unconstrained vector a chain; the only file that knows both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from brancher.distributions import biject_to
from brancher.distributions.validation import validation_enabled
from brancher.errors import (
    DistributionError,
    InferenceError,
    SiteError,
    UnknownNameError,
    UnsupportedError,
    nearest,
)
from brancher.handlers import Message, Trace, substitute, trace
from brancher.handlers.density import score
from brancher.handlers.messenger import Messenger
from brancher.infer.checks import check_model_trace, require_latents, warn_forgotten_data
from brancher.infer.enumeration.density import (
    discrete_sites,
    refuse_dependent,
    summed_log_probs,
    summing,
)
from brancher.infer.initialization import init_to_feasible, init_to_uniform
from brancher.infer.mcmc.slots import like_of, slots_of
from brancher.infer.mcmc.soft_cholesky import SoftCholesky
from brancher.infer.particles import particle_plate, probing
from brancher.infer.samples import labels_of
from brancher.staging import random_state_kept

Fn = Callable[..., Any]

_TRIES = 100


class Potential:
    """The log density of a model's latent sites, given its arguments.

    Args:
        model: any model; discrete latent sites need a finite support and ``sums_discrete``.
        args: its positional arguments.
        kwargs: its keyword arguments.
        algorithm: name of the caller, for messages.
        sums_discrete: sum discrete latent sites out instead of refusing them.

    Attributes:
        slots: the latent sites' places in the vector.
        dim: length of the vector.
        dims: names of the sites' dimensions, ``coords`` the labels along them; see `Samples`.

    Raises:
        UnsupportedError: a latent site is discrete, or a plate is subsampled.
        InferenceError: there is no latent site.
    """

    def __init__(
        self,
        model: Fn,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        algorithm: str = "MCMC",
        sums_discrete: bool = False,
    ) -> None:
        self.model, self.args, self.kwargs = model, args, kwargs
        self.algorithm = algorithm
        with random_state_kept(), torch.no_grad():
            record = trace(substitute(model, substitute_fn=_some_value)).get_trace(*args, **kwargs)
            require_latents(record, algorithm)
            warn_forgotten_data(record, algorithm)
            self.summed = discrete_sites(record, algorithm) if sums_discrete else []
            _refuse_unsupported(record, algorithm, self.summed)
            record = _checked(record, model, args, kwargs)
        self.slots = slots_of(record, self.summed, algorithm)
        self.dim = self.slots[-1].stop
        kept = [site for site in record.sites("sample", "deterministic") if site.name not in self.summed]
        self.dims, self.coords = labels_of(kept, record)
        self.deterministic = [site.name for site in record.sites("deterministic")]
        self.observed = record.observation_nodes
        self.like = like_of(record, self.slots)
        self._nesting = _nesting(record)
        self._together: Callable[[Tensor], Tensor] | None = None
        if self.summed:
            self._leave_out_dependent(record)

    def log_prob(self, position: Tensor) -> Tensor:
        """Log density in nats, Jacobian included; ``(C, D) -> (C,)``."""
        if position.shape[0] == 1:
            return self._single(position[0])[None]
        if self._together is None:
            self.prepare(position)
        return self._together(position)  # type: ignore[misc]

    def prepare(self, position: Tensor) -> None:
        """Find out how several chains run together; it compares numbers, so it has to come before tracing."""
        if position.shape[0] > 1 and self._together is None:
            self._together = self._choose(position)

    def constrain(self, position: Tensor, batch: int = 4096) -> dict[str, Tensor]:
        """Values of latent and deterministic sites for a table of vectors.

        Args:
            position: shape ``(N, D)``.
            batch: vectors that run together, a bound on memory.
        """
        parts = [self._values(rows) for rows in position.detach().split(batch)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def split(self, position: Tensor) -> dict[str, Tensor]:
        """Unconstrained values by site, ``(N, *shape)``, of vectors ``(N, D)``."""
        parts = {slot.name: position[:, slot.start : slot.stop] for slot in self.slots}
        return {slot.name: parts[slot.name].reshape(-1, *slot.shape) for slot in self.slots}

    def unconstrain(self, values: Mapping[str, Tensor]) -> Tensor:
        """The vector of one value for each latent site, shape ``(D,)``."""
        self.check_names(values)
        with torch.no_grad(), random_state_kept(), validation_enabled(False):
            record = trace(substitute(self.model, data=values)).get_trace(*self.args, **self.kwargs)
            pieces = []
            for slot in self.slots:
                site = record.nodes[slot.name]
                pieces.append(biject_to(site.fn.support).inv(site.value).reshape(-1))
        return torch.cat(pieces)

    def pack(self, unconstrained: Mapping[str, Tensor], chains: int) -> Tensor:
        """Flat vectors ``(C, D)`` from unconstrained values by site; a dimension of chains is optional."""
        self.check_names(unconstrained)
        pieces = []
        for slot in self.slots:
            value = torch.as_tensor(unconstrained[slot.name], dtype=self.like.dtype, device=self.like.device)
            if value.numel() == chains * slot.shape.numel() and (chains == 1 or value.shape[:1] == (chains,)):
                pieces.append(value.reshape(chains, -1))
            elif value.numel() == slot.shape.numel():
                pieces.append(value.reshape(1, -1).expand(chains, -1))
            else:
                raise InferenceError(
                    f"initial_params '{slot.name}': expected shape {tuple(slot.shape)} or "
                    f"{(chains, *slot.shape)}, got {tuple(value.shape)}; values are unconstrained"
                )
        return torch.cat(pieces, dim=-1).contiguous()

    def check_names(self, given: Mapping[str, Any]) -> None:
        """Refuse names that are no latent sites, and missing ones."""
        known = [slot.name for slot in self.slots]
        for name in given:
            if name not in known:
                raise UnknownNameError(
                    f"initial_params '{name}': expected one of the latent sites {known}, got '{name}'"
                    f"{nearest(name, known)}"
                )
        missing = [name for name in known if name not in given]
        if missing:
            raise UnknownNameError(
                f"initial_params: expected values for {known}, got none for {missing}; add them"
            )

    def why_bad(self, position: Tensor) -> str:
        """Name the site that makes the density at one vector ``(D,)`` minus infinity or NaN."""
        with torch.no_grad(), validation_enabled(False), SoftCholesky():
            reader, record = self._run(position[None], 1, 0)
            for site in record.scored():
                value = score(site)
                # Some values of a summed-out site may be impossible.
                is_good = torch.isfinite(value).any() if self.summed else torch.isfinite(value).all()
                if not bool(is_good):
                    bad = "NaN" if bool(torch.isnan(value).any()) else "-inf"
                    return f"site '{site.name}' has log_prob {bad} ({type(site.fn).__name__})"
            for name, value in reader.jacobians.items():
                if not bool(torch.isfinite(value).all()):
                    return f"site '{name}': the Jacobian of its transform is not finite"
        return "the gradient is not finite"

    def _single(self, position: Tensor) -> Tensor:
        total = position.new_zeros(())
        for term in self._terms(position[None], 1, 0):
            total = total + term.sum()
        return total

    def _batched(self, position: Tensor) -> Tensor:
        chains = position.shape[0]
        total = position.new_zeros(chains)
        for term in self._terms(position, chains, self._nesting):
            if term.dim() > self._nesting and term.shape[-1 - self._nesting] == chains:
                total = total + term.reshape(chains, -1).sum(-1)
            else:
                total = total + term.sum()
        return total

    def _terms(self, position: Tensor, chains: int, nesting: int) -> list[Tensor]:
        with validation_enabled(False), SoftCholesky():
            reader, record = self._run(position, chains, nesting)
            if self.summed:
                width = self._nesting + (chains > 1)
                return summed_log_probs(record, width) + list(reader.jacobians.values())
            return [score(site) for site in record.scored()] + list(reader.jacobians.values())

    def _mapped(self, position: Tensor) -> Tensor:
        return torch.vmap(self._single)(position)

    def _looped(self, position: Tensor) -> Tensor:
        return torch.stack([self._single(row) for row in position])

    def _choose(self, position: Tensor) -> Callable[[Tensor], Tensor]:
        """The fastest way to run several chains at once that gives what single ones give."""
        noise = torch.Generator().manual_seed(0)
        shift = torch.randn(2, self.dim, generator=noise, dtype=torch.float64, device="cpu") * 0.1
        pair = position.new_zeros(2, self.dim) + shift.to(position)
        with probing():
            alone = self._looped(pair)
            for way in (self._batched, self._mapped):
                try:
                    if torch.allclose(way(pair), alone, rtol=1e-4, atol=1e-4, equal_nan=True):
                        return way
                except Exception:  # whatever a model raises on shapes it was not written for
                    continue
        return self._looped

    def _values(self, rows: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            together = self._values_together(rows) if len(rows) > 1 else None
            return self._values_apart(rows) if together is None else together

    def _values_apart(self, rows: Tensor) -> dict[str, Tensor]:
        wanted = [slot.name for slot in self.slots] + self.deterministic
        records = [self._run(row[None], 1, 0)[1] for row in rows]
        return {name: torch.stack([record.nodes[name].value for record in records]) for name in wanted}

    def _values_together(self, rows: Tensor) -> dict[str, Tensor] | None:
        """Values from one run of a batch; None where it fails, or its first rows differ from single runs."""
        alone = self._values_apart(rows[:2])
        shapes = {name: value.shape[1:] for name, value in alone.items()}
        try:
            found = _folded(self._run(rows, len(rows), self._nesting)[1], len(rows), shapes)
        except Exception:  # as in _choose
            return None
        same = all(
            torch.allclose(found[name][:2], value, rtol=1e-4, atol=1e-6, equal_nan=True)
            for name, value in alone.items()
        )
        return found if same else None

    def _leave_out_dependent(self, plain: Trace) -> None:
        """Drop deterministic sites that vary with summed-out ones: they have no single value."""
        with torch.no_grad():
            _, record = self._run(self.like.new_zeros(1, self.dim), 1, 0)
        shapes = {name: record.nodes[name].value.shape for name in self.deterministic}
        self.deterministic = [name for name in shapes if shapes[name] == plain.nodes[name].value.shape]

    def _run(self, position: Tensor, chains: int, nesting: int) -> tuple[_Reader, Trace]:
        reader = _Reader(self, position, chains, nesting)
        # The latent sites all have values, so nothing is drawn and no random state moves.
        model = summing(self.model, self._nesting + (chains > 1)) if self.summed else self.model
        with validation_enabled(False), SoftCholesky(), reader:
            if chains == 1:
                record = trace(model).get_trace(*self.args, **self.kwargs)
            else:
                with particle_plate(chains, nesting):
                    record = trace(model).get_trace(*self.args, **self.kwargs)
        reader.check_complete()
        return reader, record


class _Reader(Messenger):
    """Answers every latent site from the flat vector, and keeps the Jacobians.

    It stands outside the model's plates, so that it sees distributions as the density will:
    the support of one site may depend on another's value.
    """

    def __init__(self, potential: Potential, position: Tensor, chains: int, nesting: int) -> None:
        super().__init__(None)
        self.algorithm = potential.algorithm
        self.slots = {slot.name: slot for slot in potential.slots}
        self.position, self.chains, self.nesting = position, chains, nesting
        self.width = potential._nesting + (chains > 1) if potential.summed else None
        self.jacobians: dict[str, Tensor] = {}

    def process_message(self, message: Message) -> None:
        """Set the value of a latent site."""
        if message.type != "sample" or message.is_observed or message.value is not None:
            return
        slot = self.slots.get(message.name)
        if slot is None:
            raise InferenceError(
                f"{self.algorithm}: expected the latent sites {list(self.slots)} at every call, got "
                f"'{message.name}' as well; a model's sites must not depend on their values"
            )
        flat = self.position[:, slot.start : slot.stop]
        if self.chains == 1:
            free = flat.reshape(slot.shape)
        else:
            free = flat.reshape(self.chains, *(1,) * (self.nesting - slot.batch_dims), *slot.shape)
        transform = biject_to(message.fn.support)
        value = transform(free)
        if self.width is not None:
            refuse_dependent(message, value, self.width, self.algorithm)
        self.jacobians[message.name] = transform.log_abs_det_jacobian(free, value)
        message.value = value

    def postprocess_message(self, message: Message) -> None:
        """Take parameters for constants: the gradient is that of the latent sites."""
        if message.type == "param":
            message.value = message.value.detach()

    def check_complete(self) -> None:
        """Refuse a run that did not ask for every site."""
        missing = [name for name in self.slots if name not in self.jacobians]
        if missing:
            raise InferenceError(
                f"{self.algorithm}: expected the latent sites {list(self.slots)} at every call, got none of "
                f"{missing}; a model's sites must not depend on their values"
            )


def _some_value(message: Message) -> Tensor | None:
    """A value inside the support; not a draw, because improper laws have none."""
    if message.type != "sample" or message.is_observed or message.fn.support.is_discrete:
        return None
    return init_to_feasible(message)  # type: ignore[no-any-return]


def _another_value(message: Message) -> Tensor | None:
    return None if _some_value(message) is None else init_to_uniform(message)


def _checked(record: Trace, model: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trace:
    """Check a model's trace, or one at other latent values where these exclude what was observed.

    Raises:
        SiteError: no values that were tried will do.
    """
    refused: list[SiteError] = []
    while True:
        try:
            # A density needs no plates to be right: independent entries are added up.
            check_model_trace(record, "model", allow_outside=True)
            return record
        except SiteError as error:
            refused.append(error)
            is_of_values = isinstance(error.__cause__, DistributionError)
            if not is_of_values or len(refused) == _TRIES:
                raise refused[0] from refused[0].__cause__
        record = trace(substitute(model, substitute_fn=_another_value)).get_trace(*args, **kwargs)


def _refuse_unsupported(record: Trace, algorithm: str, summed: Sequence[str]) -> None:
    for site in record.sites("sample"):
        if not site.is_observed and site.fn.support.is_discrete and site.name not in summed:
            raise UnsupportedError(
                f"{algorithm} site '{site.name}': expected continuous latent sites, got "
                f"{type(site.fn).__name__}; sum the site out of the model, or observe it"
            )
        for frame in site.frames:
            if frame.size != frame.full_size:
                raise UnsupportedError(
                    f"{algorithm} plate '{frame.name}': expected all {frame.full_size} rows, got a "
                    f"subsample of {frame.size}; drop subsample_size, or use SVI"
                )


def _nesting(record: Trace) -> int:
    plates = [-frame.dim for site in record.sites() for frame in site.frames if frame.dim is not None]
    batches = [len(site.fn.batch_shape) for site in record.scored()]
    return max([0, *plates, *batches])


def _folded(record: Trace, count: int, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Bring the values of a batch of runs to ``(count, *shape)``."""
    found = {}
    for name, shape in shapes.items():
        value = record.nodes[name].value
        if value.numel() == shape.numel() and count > 1:  # the same in all runs
            value = value.reshape(shape).expand(count, *shape)
        found[name] = value.reshape(count, *shape)
    return found
