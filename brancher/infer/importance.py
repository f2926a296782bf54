"""``Importance``: weighted draws from a guide, and what the weights say about it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from brancher.absent import refuse
from brancher.distributions import Empirical
from brancher.distributions.validation import is_validating
from brancher.errors import BrancherWarning, InferenceError, InferenceTypeError
from brancher.frames import pick
from brancher.handlers import Message, Trace, block, stack, substitute, trace
from brancher.handlers.density import score
from brancher.infer.agreement import choose
from brancher.infer.checks import check_model_trace, check_pair, warn_forgotten_data
from brancher.infer.diagnostics import psis
from brancher.infer.draws import check_count
from brancher.infer.pairing import paired_traces
from brancher.infer.replicate import lay_out, replicate
from brancher.infer.samples import Samples, labels_of
from brancher.params import undone_on_error

if not TYPE_CHECKING:
    __getattr__ = refuse(__name__)

Fn = Callable[..., Any]


class _Outcome(NamedTuple):
    """What a run gave: draws, log-densities under model and guide, names of the latent sites."""

    samples: Samples
    log_p: torch.Tensor
    log_q: torch.Tensor
    latent: tuple[str, ...]


class Importance:
    """Importance sampling of a model's posterior with a guide as the proposal.

    Args:
        model: the model, with its data given at :meth:`run`.
        guide: the proposal; None for the prior.
        num_samples: how many draws, > 0.
        parallel: as for :class:`Predictive`.
        batch_size: how many draws to run in one batch; None for all.

    Attributes:
        samples: the draws, after :meth:`run`.
        log_weights: log p - log q in nats, shape (num_samples,), not normalised.

    Example:
        >>> from brancher.infer import Importance
        >>> def model(y):
        ...     x = sample("x", dist.Normal(0.0, 1.0))
        ...     sample("y", dist.Normal(x, 1.0), obs=y)
        >>> result = Importance(model, num_samples=2000).run(torch.tensor(0.5))
        >>> exact = dist.Normal(0.0, 2.0**0.5).log_prob(torch.tensor(0.5))
        >>> bool((result.log_evidence - exact).abs() < 0.1)
        True
    """

    def __init__(
        self,
        model: Fn,
        guide: Fn | None = None,
        num_samples: int = 1000,
        *,
        parallel: bool | None = None,
        batch_size: int | None = None,
    ) -> None:
        for name, fn in (("model", model), ("guide", guide)):
            if not callable(fn) and not (name == "guide" and fn is None):
                raise InferenceTypeError(
                    f"Importance: expected {name} as a function, got {type(fn).__name__}; "
                    "give the function itself, not its result"
                )
        if num_samples is None:
            raise InferenceError("Importance: expected num_samples as an int > 0, got None; 1000 is usual")
        check_count("Importance", "num_samples", num_samples)
        check_count("Importance", "batch_size", batch_size)
        self.model, self.num_samples = model, num_samples
        self._is_prior = guide is None
        self.guide = block(model, hide_fn=_is_no_draw) if guide is None else guide
        self.parallel, self.batch_size = parallel, batch_size
        self.vectorized: bool | None = None
        self._outcome: _Outcome | None = None
        self._returned: torch.Tensor | None = None
        self._arguments: tuple[tuple[Any, ...], dict[str, Any]] = (), {}

    @stack.restored()
    @undone_on_error()
    def run(self, *args: Any, **kwargs: Any) -> Importance:
        """Draw from the guide and weigh the draws; returns itself.

        Warns where the tail of the weights is so heavy (k-hat > 0.7) that estimates from them
        are not to be trusted.

        Raises:
            GuideError: guide and model differ in their latent sites.
            InferenceError: a weight is NaN or +inf, or all are zero.
        """

        def run() -> tuple[Trace, Trace]:
            return paired_traces(self.model, self.guide, args, kwargs)

        layout = lay_out(run, {})
        check_pair(*layout.traces)
        if is_validating():
            for one, role in zip(layout.traces, ("model", "guide"), strict=True):
                check_model_trace(one, role)
        if self._is_prior:
            warn_forgotten_data(layout.traces[0], "Importance")
        record = layout.traces[0]
        latent = [record.nodes[name] for name in record.stochastic_nodes]
        shown = [*latent, *record.sites("deterministic")]

        def read(traces: Sequence[Trace]) -> dict[str, torch.Tensor]:
            values = {f"value {site.name}": traces[0].nodes[site.name].value for site in shown}
            for sign, one in zip("+-", traces, strict=True):
                values |= {f"{sign} {site.name}": score(site) for site in one.scored()}
            return values | ({"returned": traces[0].nodes["_RETURN"].value} if returns else {})

        returned = record.nodes["_RETURN"].value
        returns = self.parallel is not True and isinstance(returned, torch.Tensor)

        choice = choose(run, layout, self.num_samples, self.parallel)
        self.vectorized = choice.vectorized
        found = replicate(choice.way, run, read, layout, self.num_samples, self.batch_size)
        dims, coords = labels_of(shown, record)
        samples = Samples({site.name: found[f"value {site.name}"] for site in shown}, dims, coords)
        log_p, log_q = (_added(found, sign, self.num_samples) for sign in "+-")
        _check_weights(log_p - log_q, found)
        names = tuple(site.name for site in latent)
        self._outcome, self._returned = _Outcome(samples, log_p, log_q, names), found.get("returned")
        self._arguments = args, kwargs
        _warn_point_mass(samples, latent)
        self._warn_tail()
        return self

    def __call__(self) -> Trace:
        """Draw one of the draws by its weight, as in Pyro.

        Returns:
            A trace of the model with the values of that draw, without its observed sites.
        """
        samples, (args, kwargs) = self._ran().samples, self._arguments
        row = int(torch.multinomial(self.weights, 1))
        values = {name: samples[name][row] for name in self.latent_names}
        with stack.emptied(), torch.no_grad():
            record = trace(substitute(self.model, data=values)).get_trace(*args, **kwargs)
        for name in record.observation_nodes:
            record.remove_node(name)
        return record

    @property
    def samples(self) -> Samples:
        """The draws of latent and deterministic sites, shape (num_samples, *site)."""
        return self._ran().samples

    @property
    def returned(self) -> torch.Tensor | None:
        """What the model returned in each draw, shape (num_samples, ...); None where that was no tensor.

        Nor is it kept with ``parallel=True``: a batch that nobody compared with single runs may mix draws.
        """
        self._ran()
        return self._returned

    @property
    def log_weights(self) -> torch.Tensor:
        """Log p(x, z) - log q(z) of each draw in nats, shape (num_samples,)."""
        return self.model_log_prob - self.guide_log_prob

    @property
    def model_log_prob(self) -> torch.Tensor:
        """Log p(x, z) of each draw in nats, shape (num_samples,)."""
        return self._ran().log_p

    @property
    def guide_log_prob(self) -> torch.Tensor:
        """Log q(z) of each draw in nats, shape (num_samples,)."""
        return self._ran().log_q

    @property
    def latent_names(self) -> tuple[str, ...]:
        """The latent sites, in the model's order."""
        return self._ran().latent

    @property
    def log_evidence(self) -> torch.Tensor:
        """Estimate of log p(x) in nats, shape (); unbiased on the scale of p(x)."""
        return self.log_weights.logsumexp(0) - math.log(self.num_samples)

    @property
    def weights(self) -> torch.Tensor:
        """The weights, normalised to sum 1, shape (num_samples,)."""
        return self.log_weights.softmax(0)

    @property
    def smoothed_weights(self) -> torch.Tensor:
        """Normalised weights whose tail is smoothed by a generalised Pareto law."""
        return psis(self.log_weights.cpu())[0].exp().to(self.log_weights)

    @property
    def pareto_k(self) -> float:
        """Shape of the tail of the weights; above 0.7 the estimates are not to be trusted."""
        spread = self.log_weights.max() - self.log_weights.min()
        # Weights that differ by rounding alone have no tail to fit.
        return float(psis(self.log_weights.cpu())[1]) if float(spread) > 1e-3 else 0.0

    @property
    def effective_sample_size(self) -> torch.Tensor:
        """(sum w)^2 / sum w^2, shape (); num_samples for equal weights (Kong 1992)."""
        return 1.0 / self.weights.square().sum()

    def get_normalized_weights(self, log_scale: bool = False) -> torch.Tensor:
        """Pyro's name for ``weights``, or for their logarithm."""
        return self.log_weights.log_softmax(0) if log_scale else self.weights

    def get_log_normalizer(self) -> torch.Tensor:
        """Pyro's name for ``log_evidence``."""
        return self.log_evidence

    def get_ESS(self) -> torch.Tensor:
        """Pyro's name for ``effective_sample_size``."""
        return self.effective_sample_size

    def expectation(self, name: str, *, smooth: bool = True) -> torch.Tensor:
        """Weighted mean of a site over the draws, shape of the site."""
        value = pick(self.samples, name)[name]
        weights = (self.smoothed_weights if smooth else self.weights).to(value.device)
        mean: torch.Tensor = torch.tensordot(weights, value.to(weights.dtype), dims=1)
        return mean

    def marginal(self, name: str) -> Empirical:
        """The weighted draws of one site as a distribution."""
        return Empirical(pick(self.samples, name)[name], self.log_weights)

    def resample(self, num_samples: int | None = None, *, smooth: bool = True) -> Samples:
        """Draw from the weighted draws, with replacement: equally weighted draws.

        Args:
            num_samples: how many; as many as there are for None.
            smooth: whether by the smoothed weights.
        """
        check_count("Importance.resample", "num_samples", num_samples)
        weights = self.smoothed_weights if smooth else self.weights
        rows = torch.multinomial(weights, num_samples or self.num_samples, replacement=True)
        values = {name: value[rows.to(value.device)] for name, value in self.samples.items()}
        return Samples(values, self.samples.dims, self.samples.coords)

    def _ran(self) -> _Outcome:
        if self._outcome is None:
            raise InferenceError(
                "Importance: expected run(...) first, got no draws yet; call run with the model's data"
            )
        return self._outcome

    def _warn_tail(self) -> None:
        k = self.pareto_k if self.num_samples >= 25 else 0.0
        if k > 0.7:
            warnings.warn(
                f"Importance: expected weights with a tail of k-hat <= 0.7, got {k:.2f}: few draws dominate "
                f"(effective sample size {float(self.effective_sample_size):.1f} of {self.num_samples}); "
                "use a guide nearer to the posterior",
                BrancherWarning,
                stacklevel=3,
            )


def _warn_point_mass(samples: Samples, latent: Sequence[Message]) -> None:
    for site in latent:
        value = samples[site.name]
        if value.is_floating_point() and len(value) > 1 and bool((value == value[0]).all()):
            warnings.warn(
                f"Importance: expected a guide that spreads over site '{site.name}', got all draws at one "
                "point: "
                "the weights are equal and say nothing; use a guide with a density, not AutoDelta",
                BrancherWarning,
                stacklevel=3,
            )
            return


def _is_no_draw(site: Message) -> bool:
    return site.is_observed or site.type in ("factor", "deterministic")


def _added(found: dict[str, torch.Tensor], sign: str, count: int) -> torch.Tensor:
    terms = [value.reshape(count, -1).sum(1) for name, value in found.items() if name.startswith(f"{sign} ")]
    return torch.stack(terms).sum(0)


def _check_weights(log_weights: torch.Tensor, found: dict[str, torch.Tensor]) -> None:
    bad = torch.isnan(log_weights) | (log_weights == math.inf)
    if bool(bad.any()):
        raise InferenceError(
            f"Importance: expected finite log weights, got {int(bad.sum())} of {len(log_weights)} NaN or "
            f"+inf{_culprit(found, bad)}; look for values outside a site's support"
        )
    impossible = log_weights == -math.inf
    if bool(impossible.all()):
        raise InferenceError(
            "Importance: expected draws that the model allows, got log weight -inf for all of them"
            f"{_culprit(found, impossible)}; the guide's draws contradict the data or lie outside the "
            "model's support"
        )


def _culprit(found: dict[str, torch.Tensor], bad: torch.Tensor) -> str:
    """Name the first site whose log-density is not finite in the first bad draw."""
    first = int(bad.nonzero()[0])
    for name, value in found.items():
        sign, _, site = name.partition(" ")
        if sign in ("+", "-") and not bool(torch.isfinite(value[first]).all()):
            role, log_prob = "model" if sign == "+" else "guide", float(value[first].sum())
            return f", first in draw {first} at {role} site '{site}' with log_prob {log_prob}"
    return ""
