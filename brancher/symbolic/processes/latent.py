"""Series that are seen through noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from brancher.errors import SiteError, SiteTypeError
from brancher.symbolic.processes.markov import timed
from brancher.symbolic.processes.series import DiscreteTimeSeries, TimeSeries, check_variables
from brancher.symbolic.variables import Variable


class LatentTimeSeriesModel(TimeSeries):
    """Measurements of a hidden series, one a time.

    Times without data are gaps: the hidden series goes on through them.

    Args:
        latent: the hidden series; or its variables, in the order of time.
        measure: makes the measurement of a time, ``lambda t, x: NormalVariable(x, 0.3, f"y{t}")``, from its
            hidden variable. A name without the time gets it. Or the measurements themselves, one a time.
        times: labels of the times of hidden variables that are given; 0, 1, ... for None.

    Attributes:
        latent: the hidden series; its posterior is drawn by
            ``latent.get_posterior_timeseries_sample(n, model=measurements)``.

    Raises:
        SiteTypeError: ``latent`` is no series, or ``measure`` no function or does not give variables.
        SiteError: there are more or fewer measurements than times.

    Example:
        >>> from brancher.symbolic import LatentTimeSeriesModel, MarkovProcess, NormalVariable, inference
        >>> x0 = NormalVariable(0.0, 1.0, "x0")
        >>> x = MarkovProcess(x0, lambda t, x: NormalVariable(x, 0.5, f"x{t}"))
        >>> y = LatentTimeSeriesModel(x, lambda t, x: NormalVariable(x, 0.3, f"y{t}"))
        >>> y.observe([0.1, float("nan"), 0.9])
        >>> fit = inference.perform_inference(y, 20, 5, progress=False, compile=False)
        >>> x.get_posterior_timeseries_sample(100, query_points=5, model=y).shape
        (5, 100)
    """

    keeps_data = False

    def __init__(
        self,
        latent: TimeSeries | Sequence[Variable],
        measure: Callable[[Any, Variable], Variable] | Sequence[Variable],
        times: Iterable[Any] | None = None,
    ) -> None:
        if isinstance(latent, (list, tuple)):
            latent = DiscreteTimeSeries(latent, times)
        given = check_variables(type(self).__name__, measure) if isinstance(measure, (list, tuple)) else None
        if not isinstance(latent, TimeSeries) or (given is None and not callable(measure)):
            raise SiteTypeError(
                "LatentTimeSeriesModel: expected a series and a function of time and hidden variable, got "
                f"{type(latent).__name__} and {type(measure).__name__}"
            )
        if given is not None and len(given) != len(latent.times):
            raise SiteError(
                f"LatentTimeSeriesModel: expected a measurement for each of {len(latent.times)} times, got "
                f"{len(given)}; leave out data where there are none"
            )
        self.latent = latent
        self.measure: Any = measure
        self._given: dict[Any, Variable] | None = None
        if given is not None:
            self._given = dict(zip(latent.times, given, strict=True))
        times = latent.times
        super().__init__([self._measured(time) for time in times], times)
        # Both keep the same time.
        self._ticked, self._all_times = latent._ticked, latent._all_times

    def _measured(self, time: Any) -> Variable:
        hidden = self.latent.at(time)
        if self._given is not None:
            return self._given[time] if time in self._given else super()._next(time)
        return timed(self.measure(time, hidden), time, type(self).__name__, [hidden])

    def _next(self, time: Any) -> Variable:
        return self._measured(time)

    def _tick(self, place: int) -> Any:
        return self.latent._tick(place)

    # The hidden series is prolonged as a whole first: one variable at a time would be slow.

    def _first(self, number: int) -> list[Any]:
        self.latent._first(number)
        return super()._first(number)

    def _reach(self, times: Sequence[Any]) -> list[Any]:
        self.latent._reach(times)
        return super()._reach(times)
