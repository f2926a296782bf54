"""``AutoGuideList`` and ``AutoCallable``: a guide put together from parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from brancher.errors import GuideError
from brancher.handlers import Message, Messenger
from brancher.infer.autoguide.guide import AutoGuide
from brancher.infer.autoguide.module import GuideModule, can_be_pickled
from brancher.primitives import plate

if TYPE_CHECKING:
    from typing_extensions import Self

Fn = Callable[..., Any]
Tensors = dict[str, torch.Tensor]


class AutoCallable(GuideModule):
    """A guide written by hand, as a part of an :class:`AutoGuideList`.

    Args:
        model: the model, or the part of it that the guide is for.
        guide: a function with the model's arguments; may return its draws by name.
        median: a function with the model's arguments that returns medians by name.
        prefix: see :class:`AutoGuide`.

    Example:
        >>> from brancher.infer.autoguide import AutoCallable
        >>> model = lambda: sample("x", dist.Normal(0.0, 1.0))
        >>> AutoCallable(model, lambda: {"x": sample("x", dist.Delta(torch.tensor(1.0)))})()
        {'x': tensor(1.)}
    """

    def __init__(self, model: Fn, guide: Fn, median: Fn | None = None, *, prefix: str | None = None) -> None:
        super().__init__(model, prefix)
        if not callable(guide):
            raise GuideError(
                f"AutoCallable: expected guide as a function, got {type(guide).__name__}; "
                "give the function itself, not its result"
            )
        # In tuples: what is a module stays its owner's.
        self._guide: tuple[Fn] = (guide,)
        self._median: tuple[Fn | None] = (median,)

    def setup(self, *args: Any, **kwargs: Any) -> Self:
        """Nothing is to be set up."""
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Tensors:
        """Run the guide."""
        values = self._guide[0](*args, **kwargs)
        return dict(values) if isinstance(values, Mapping) else {}

    def median(self, *args: Any, **kwargs: Any) -> Tensors:
        """What the function given for it says."""
        (median,) = self._median
        return {} if median is None else dict(median(*args, **kwargs))


class AutoGuideList(GuideModule):
    """Several guides, each for some of a model's latent sites.

    Parts are made for the model with the other parts' sites hidden, and run in the order in which
    they were appended, or set as attributes: ``guide.scales = AutoDelta(...)``. Rows of a subsampled
    plate are drawn by the first part that opens it. A support that depends on a site of an earlier part
    is seen by the later one.

    Args:
        model: the whole model.
        create_plates: called with the model's arguments, returns the plates whose rows all parts use, one
            or several; None for the parts' own.
        prefix: first part of the parameters' names, which are ``AutoGuideList.<number>.<...>``; an
            attribute's name stands for its part's number.

    Example:
        >>> from brancher.infer.autoguide import AutoDelta, AutoGuideList, AutoNormal
        >>> def model():
        ...     a = sample("a", dist.Normal(0.0, 1.0))
        ...     return sample("b", dist.Normal(a, 1.0))
        >>> guide = AutoGuideList(model)
        >>> guide.append(AutoDelta(handlers.block(model, expose=["a"])))
        >>> guide.append(AutoNormal(handlers.block(model, expose=["b"])))
        >>> sorted(guide())
        ['a', 'b']
    """

    def __init__(self, model: Fn, *, create_plates: Fn | None = None, prefix: str | None = None) -> None:
        super().__init__(model, prefix)
        self.create_plates = create_plates

    def append(self, part: Fn) -> None:
        """Add a guide for some of the sites: an automatic guide, or a function.

        Raises:
            GuideError: the part is no function, or already part of a guide.
        """
        if not isinstance(part, GuideModule):
            part = AutoCallable(self.model, part)
        self._own(str(len(self)), part)

    add = append

    def _own(self, name: str, part: GuideModule) -> None:
        if part._is_part:
            raise GuideError(
                "AutoGuideList: expected a guide of its own, got a part of another one; make a new one"
            )
        self.add_module(name, part)
        part.become_part(f"{self._name}.{name}")

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, GuideModule):
            self._own(name, value)
        else:
            super().__setattr__(name, value)

    @property
    def parts(self) -> list[Any]:
        """The guides, in order."""
        return list(self._modules.values())

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, number: int) -> Any:
        return self.parts[number]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.parts)

    def setup(self, *args: Any, **kwargs: Any) -> Self:
        """Look at the model with example arguments and make the parts' parameters."""
        if not len(self):
            raise GuideError("AutoGuideList: expected at least one part, got none; append guides first")
        for part in self.parts:
            part.setup(*args, **kwargs)
        self.register()
        for name, part in self._modules.items():
            part.become_part(f"{self._name}.{name}")  # type: ignore[union-attr, operator]
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Tensors:
        """Draw every part's sites.

        Returns:
            Values by site name.
        """
        self.setup(*args, **kwargs)
        values: Tensors = {}
        with _SharedRows(self._chosen_rows(args, kwargs)):
            for part in self.parts:
                if isinstance(part, AutoGuide) and not part.is_written:
                    values.update(part.run(args, kwargs, self.model, values))
                else:
                    values.update(part(*args, **kwargs) or {})
        return values

    def _chosen_rows(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, torch.Tensor]:
        if self.create_plates is None:
            return {}
        made = self.create_plates(*args, **kwargs)
        plates = [made] if isinstance(made, plate) else list(made)
        return {each.name: each.indices for each in plates if each.subsample_size != each.size}

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if not can_be_pickled(state["create_plates"]):
            state["create_plates"] = None
        return state

    def median(self, *args: Any, **kwargs: Any) -> Tensors:
        """Medians of all parts, by site name."""
        self.setup(*args, **kwargs)
        return {name: value for part in self.parts for name, value in part.median(*args, **kwargs).items()}

    def quantiles(
        self, quantiles: float | Sequence[float] | torch.Tensor, *args: Any, **kwargs: Any
    ) -> Tensors:
        """Quantiles of the parts that have them, by site name."""
        self.setup(*args, **kwargs)
        able = [part for part in self.parts if hasattr(part, "quantiles")]
        return {name: v for part in able for name, v in part.quantiles(quantiles, *args, **kwargs).items()}

    def sample_posterior(self, num_samples: int, *args: Any, **kwargs: Any) -> Tensors:
        """Draw from the fitted guide, one call a draw: later parts may depend on earlier ones.

        Args:
            num_samples: how many draws, > 0.
            *args: the model's arguments.
            **kwargs: its keyword arguments.

        Returns:
            Values by site name, shape (num_samples, *B, *E); of subsampled plates the rows of each call.
        """
        with torch.no_grad():
            each = [self(*args, **kwargs) for _ in range(num_samples)]
        return {name: torch.stack([one[name] for one in each]) for name in each[0]}


class _SharedRows(Messenger):
    """Give every part the rows that were chosen for a plate, or that the first part drew."""

    def __init__(self, rows: dict[str, torch.Tensor]) -> None:
        super().__init__(None)
        self.rows = rows

    def process_message(self, message: Message) -> None:
        if message.type == "plate" and message.value is None:
            message.value = self.rows.get(message.name)

    def postprocess_message(self, message: Message) -> None:
        if message.type == "plate":
            self.rows.setdefault(message.name, message.value)
