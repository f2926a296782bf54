"""Variables along time, as a model that is observed and drawn by time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from brancher.errors import SiteError, SiteTypeError, UnknownNameError
from brancher.symbolic import edits
from brancher.symbolic.collection import require_random
from brancher.symbolic.draws import column
from brancher.symbolic.expressions import as_tensor
from brancher.symbolic.models import ProbabilisticModel, Values
from brancher.symbolic.processes.labels import at_times, by_label, names_variables
from brancher.symbolic.variables import RandomVariable, Variable

if TYPE_CHECKING:
    import pandas as pd

#: How many times, or which.
Points = int | Iterable[Any] | None


class TimeSeries(ProbabilisticModel):
    """A model with one variable a time: the base of :class:`MarkovProcess` and its like.

    Args:
        variables: those of the first times.
        times: labels of the times, in order, at least one a variable; 0, 1, ... for None. May be endless,
            such as ``itertools.count(1871)``.

    Attributes:
        keeps_data: whether draws of the posterior have the data where there are some, or new values.
    """

    keeps_data = True

    def __init__(self, variables: Sequence[Variable], times: Iterable[Any] | None = None) -> None:
        super().__init__(variables)
        self._clock = iter(count() if times is None else times)
        self._all_times = frozenset(times) if isinstance(times, Sized) else None
        self._ticked: list[Any] = []
        self._by_time: dict[Any, Variable] = {}
        self._labels: list[Any] = []
        self._followers: list[TimeSeries] = []
        for variable in variables:
            self._put(self._tick(len(self._by_time)), variable)

    @property
    def times(self) -> list[Any]:
        """The times that have a variable so far."""
        return list(self._by_time)

    @property
    def series(self) -> list[Variable]:
        """The variables of these times."""
        return list(self._by_time.values())

    def at(self, time: Any) -> Variable:
        """The variable of a time.

        Raises:
            UnknownNameError: the series has no such time.
        """
        self._reach([time])
        return self._by_time[time]

    @property
    def temporal_variables(self) -> list[Variable]:
        """The variables of these times; another name of :attr:`series`."""
        return self.series

    @property
    def active_submodel(self) -> TimeSeries:
        """The series itself, which has the data and the diagnostics."""
        return self

    def __call__(self, query_points: Points = None) -> Any:
        """The series at some times, as a model.

        Args:
            query_points: how many times from the first on, or which; None runs the model as a function.
        """
        if query_points is None:
            return super().__call__()
        times = self._asked(query_points)
        return DiscreteTimeSeries([self._by_time[time] for time in times], times)

    def measured_by(self, measure: Callable[[Any, Variable], Variable]) -> TimeSeries:
        """The series of measurements; see :class:`LatentTimeSeriesModel`."""
        from brancher.symbolic.processes.latent import LatentTimeSeriesModel

        return LatentTimeSeriesModel(self, measure)

    def observe(self, values: Any, query_points: Points = None) -> None:
        """Give the series data.

        Args:
            values: a Series, or a mapping, by time; a DataFrame by time, a column an entry of the
                variables, or for scalars an independent series; a list or array of values from the first
                time on. NaN is a gap. A mapping or table by variables or their names is taken as by
                :class:`ProbabilisticModel`.
            query_points: times of the values, one each in their order; None for those that the values tell.

        Raises:
            UnknownNameError: a time is none of the series'.
            SiteError: there are other numbers of values and times.
            SiteTypeError: a variable has no law.
        """
        self._labels = list(getattr(values, "columns", ()))
        given = by_label(values)
        if query_points is not None:
            given = at_times(self._asked(query_points), given)
        if given is None or any(names_variables(each, self.variables) for each in (values, given)):
            super().observe(values)
            return
        times = self._first(len(given)) if isinstance(given, list) else self._reach(list(given))
        items = given if isinstance(given, list) else list(given.values())
        for time, value in zip(times, items, strict=True):
            data = as_tensor(value, f"time series, data at {time!r}")
            if not bool(torch.isnan(data).any()):
                require_random(self._by_time[time]).observe(data)

    def set_posterior_model(self, model: Any = None, parameters: Any = (), process: Any = None) -> None:
        """Say what approximates the posterior.

        Args:
            model: as of :meth:`ProbabilisticModel.set_posterior_model`. Another series, alone or in a list,
                is prolonged to the times of this one, and has its data.
            parameters: variables of the posterior besides, a list or a model.
            process: another name of ``model``.
        """
        model = process if model is None else model
        parts = list(model) if isinstance(model, (list, tuple)) else [model]
        more = [parameters] if isinstance(parameters, ProbabilisticModel) else list(parameters)
        self._followers = [part for part in parts if isinstance(part, TimeSeries)]
        self._lead()
        super().set_posterior_model([*parts, *more] if more else model)

    def get_timeseries_sample(
        self,
        number_samples: int = 1,
        query_points: Points = None,
        input_values: Values | None = None,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Draw the series; observed variables are drawn too.

        Args:
            number_samples: how many series, > 0.
            query_points: how many times from the first on, or which; None for those that have a variable.
            input_values: fixed values by variable or name.
            seed: of the random numbers.

        Returns:
            One row a time, one column a sample; a cell holds a number, or an array for what is no scalar.

        Raises:
            UnknownNameError: a time is none of the series'.
        """
        times = self._asked(query_points)
        with self._seeded(seed):
            values = self._drawn(self._prior_program(), number_samples, input_values)[0]
        return self._frame(times, values, number_samples)

    def get_posterior_timeseries_sample(
        self,
        number_samples: int = 1,
        query_points: Points = None,
        input_values: Values | None = None,
        model: ProbabilisticModel | None = None,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Draw the series from the posterior; times after the data are forecast.

        Args:
            number_samples: how many series, > 0.
            query_points: how many times from the first on, or which; None for those that have a variable.
            input_values: fixed values by variable or name.
            model: the model that was fitted, where the series is a part of it; itself for None.
            seed: of the random numbers.

        Returns:
            A table as of :meth:`get_timeseries_sample`. Observed variables of a process keep their data;
            those of a :class:`LatentTimeSeriesModel` are new measurements. Where several series are
            observed at once, a column is a sample of one of them: (series, sample).

        Raises:
            InferenceError: there is no posterior.
            UnknownNameError: a time is none of the series'.
        """
        times = self._asked(query_points)
        fitted = self if model is None else model
        fitted._pair()  # tells where there is no posterior
        whole = ProbabilisticModel([fitted, *self.series])
        whole.posterior_model, whole._posterior = fitted.posterior_model, fitted._posterior
        with self._seeded(seed):
            values, program = whole._posterior_draws(number_samples, input_values, self.keeps_data)
        if any(self._by_time[time].name in program.rows for time in times):
            return self._frames(times, values, program.rows, number_samples)
        return self._frame(times, values, number_samples)

    # Inside

    def _next(self, time: Any) -> Variable:
        """Make the variable of the next time."""
        raise UnknownNameError(
            f"time series: expected one of its times {_shown(self.times)}, got {time!r}; it has no "
            "other variables"
        )

    def _tick(self, place: int) -> Any:
        """The time at a place of the order."""
        while len(self._ticked) <= place:
            try:
                self._ticked.append(next(self._clock))
            except StopIteration:
                raise UnknownNameError(
                    f"time series: expected one of its times {_shown(self._ticked)}; give it more times"
                ) from None
        return self._ticked[place]

    def _put(self, time: Any, variable: Variable) -> None:
        if time in self._by_time:
            raise SiteError(f"time series: expected different times, got {time!r} twice")
        self._by_time[time] = variable

    def _prolonged(self, is_enough: Callable[[], bool]) -> None:
        """Make variables until there are enough; they become part of the model together."""
        made: dict[Any, Variable] = {}
        try:
            while not is_enough():
                time = self._tick(len(self._by_time))
                variable = self._next(time)
                self._put(time, variable)
                made[time] = variable
            if made:
                self.add_variables(made.values())
        except BaseException:
            for time in made:
                del self._by_time[time]
            raise

    def _first(self, number: int) -> list[Any]:
        self._prolonged(lambda: len(self._by_time) >= number)
        return self._ticked[:number]

    def _reach(self, times: Sequence[Any]) -> list[Any]:
        waiting = deque(times)

        def is_enough() -> bool:
            while waiting and self._has(waiting[0]):
                waiting.popleft()
            return not waiting

        self._prolonged(is_enough)
        return list(times)

    def _has(self, time: Any) -> bool:
        """Whether a time has a variable; refuses one that was passed by."""
        if time in self._by_time:
            return True
        last = self._ticked[len(self._by_time) - 1]
        is_ahead = _is_before(last, time) if self._all_times is None else time in self._all_times
        if not is_ahead:
            raise UnknownNameError(
                f"time series: expected one of its times {_shown(self.times)}, got {time!r}"
            )
        return False

    def _latest(self, number: int) -> list[Variable]:
        """The last variables so far, in the order of time."""
        end = len(self._by_time)
        return [self._by_time[time] for time in self._ticked[end - number : end]]

    def _asked(self, points: Points) -> list[Any]:
        if points is None:
            return self.times
        if isinstance(points, (int, np.integer)) and not isinstance(points, bool):
            if points < 1:
                raise SiteError(f"time series: expected query_points >= 1, got {points}")
            return self._first(int(points))
        if isinstance(points, (str, bytes)) or not isinstance(points, Iterable):
            raise SiteTypeError(
                f"time series: expected query_points as a number or times, got {type(points).__name__}"
            )
        return self._reach(list(points))

    def _lead(self) -> None:
        """Let series of the posterior have the times and the data of this one."""
        for follower in self._followers:
            follower._reach(self.times)
            for time, mine in self._by_time.items():
                other = follower._by_time[time]
                if not (isinstance(mine, RandomVariable) and isinstance(other, RandomVariable)):
                    continue
                if mine.name == other.name and mine.data is not other.data:
                    other.data = mine.data
                    edits.note()

    def _pair(self) -> Any:
        self._lead()
        return super()._pair()

    def _frames(
        self, times: Sequence[Any], values: Mapping[str, torch.Tensor], rows: Mapping[str, Any], count: int
    ) -> pd.DataFrame:
        """Tables of several series, side by side."""
        import pandas as pd

        names = [self._by_time[time].name for time in times]
        number = next(rows[name].present for name in names if name in rows)
        labels = self._labels if len(self._labels) == number else range(number)
        tables = {
            label: self._frame(
                times, {name: values[name][:, i] if name in rows else values[name] for name in names}, count
            )
            for i, label in enumerate(labels)
        }
        whole: pd.DataFrame = pd.concat(tables, axis=1, names=["series", "sample"])
        return whole

    def _frame(self, times: Sequence[Any], values: Mapping[str, torch.Tensor], count: int) -> pd.DataFrame:
        import pandas as pd

        drawn = torch.stack(
            [values[self._by_time[time].name] for time in times], 1
        )  # (samples, times, *data)
        if drawn.dim() == 2:
            frame = pd.DataFrame(drawn.T.numpy())
        else:
            frame = pd.DataFrame({i: column(drawn[i]) for i in range(count)})
        frame.index, frame.columns = pd.Index(times, name="time"), pd.RangeIndex(count, name="sample")
        return frame


class DiscreteTimeSeries(TimeSeries):
    """Variables made by hand, one a time.

    Args:
        variables: in the order of time.
        times: labels of the times; 0, 1, ... for None.

    Raises:
        SiteTypeError: something else than variables is given.
        UnknownNameError: there are fewer times than variables.

    Example:
        >>> from brancher.symbolic import NormalVariable
        >>> from brancher.symbolic.processes import DiscreteTimeSeries
        >>> x = [NormalVariable(0.0, 1.0, "x0")]
        >>> for t in range(1, 4):
        ...     x.append(NormalVariable(0.9 * x[-1], 1.0, f"x{t}"))
        >>> DiscreteTimeSeries(x, times=[2020, 2021, 2022, 2023]).get_timeseries_sample(2).shape
        (4, 2)
    """

    def __init__(self, variables: Iterable[Variable], times: Iterable[Any] | None = None) -> None:
        super().__init__(check_variables(type(self).__name__, variables), times)


def check_variables(owner: str, variables: Any) -> list[Variable]:
    """Take one variable or several.

    Raises:
        SiteTypeError: something else is among them, or there is none.
    """
    items = [variables] if isinstance(variables, Variable) else list(variables)
    wrong = [type(item).__name__ for item in items if not isinstance(item, Variable)]
    if wrong or not items:
        raise SiteTypeError(f"{owner}: expected variables, got {wrong or 'none'}; name them, as in f'x{{t}}'")
    return items


def _is_before(a: Any, b: Any) -> bool:
    try:
        return bool(a < b)
    except TypeError:
        return False  # an endless series would be searched forever


def _shown(times: Sequence[Any]) -> str:
    return f"{times[0]!r} to {times[-1]!r}" if times else "[]"
