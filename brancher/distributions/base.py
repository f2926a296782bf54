"""The interface every family shares: torch's, plus the algebra of batch and event dimensions.

A family of torch becomes one of ours by inheriting from both, torch's class first::

    class Normal(torch.distributions.Normal, Distribution): ...

so that torch's ``super().__init__`` arrives here and one validator serves all families.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.distributions import Distribution as TorchDistribution
from torch.distributions import constraints as torch_constraints
from torch.distributions.utils import lazy_property

from brancher.distributions.shapes import Size, broadcast_shapes, check_event, offenders, remedy, words
from brancher.distributions.validation import is_validating
from brancher.errors import DistributionError

if TYPE_CHECKING:
    from typing_extensions import Self

    from brancher.distributions.algebra import MaskedDistribution


class Distribution(TorchDistribution):
    """A probability distribution over tensors.

    A draw has shape ``sample_shape + batch_shape + event_shape``; ``log_prob`` sums over the
    event dimensions and keeps the batch dimensions, whose entries are independent.

    Args:
        batch_shape: shape of independent, differently parametrised copies.
        event_shape: shape of one draw of one copy.
        validate_args: False leaves this object's arguments and values unchecked.

    Raises:
        DistributionError: an argument lies outside its constraint.
    """

    def __init__(
        self,
        batch_shape: torch.Size = torch.Size(),  # noqa: B008
        event_shape: torch.Size = torch.Size(),  # noqa: B008
        validate_args: bool | None = None,
    ) -> None:
        self._batch_shape = batch_shape
        self._event_shape = event_shape
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            self._check_arguments()

    # torch reads and writes this name; reading through the switch lets a validated object be
    # used unchecked (and staged) once a model's first run has passed.
    @property
    def _validate_args(self) -> bool:
        return is_validating() and self.__dict__.get("_is_checked", True)

    @_validate_args.setter
    def _validate_args(self, value: bool) -> None:
        self.__dict__["_is_checked"] = value

    def __call__(self, sample_shape: torch.Size = torch.Size()) -> torch.Tensor:  # noqa: B008
        """Draw, differentiably where the family allows it; shape sample_shape + B + E."""
        return self.rsample(sample_shape) if self.has_rsample else self.sample(sample_shape)

    @property
    def event_dim(self) -> int:
        """Number of event dimensions."""
        return len(self.event_shape)

    def shape(self, sample_shape: torch.Size = torch.Size()) -> torch.Size:  # noqa: B008
        """Shape of ``sample(sample_shape)``."""
        return torch.Size(sample_shape) + self.batch_shape + self.event_shape

    def expand(self, batch_shape: Size, _instance: Any = None) -> Distribution:
        """Return independent copies for a larger batch shape, which B must broadcast to."""
        from brancher.distributions.algebra import ExpandedDistribution  # built on this class

        return ExpandedDistribution(self, batch_shape)

    def expand_by(self, sample_shape: Size) -> Distribution:
        """Add batch dimensions of the given sizes on the left."""
        return self.expand(torch.Size(sample_shape) + self.batch_shape)

    def to_event(self, reinterpreted_batch_ndims: int | None = None) -> Distribution:
        """Turn the rightmost batch dimensions into event dimensions.

        Args:
            reinterpreted_batch_ndims: how many; None for all of them.

        Raises:
            DistributionError: fewer batch dimensions are there than asked for.

        Example:
            >>> from brancher.distributions import Normal
            >>> Normal(torch.zeros(3, 2), 1.0).to_event(1).event_shape
            torch.Size([2])
        """
        from brancher.distributions.algebra import Independent  # built on this class

        n = self._count_to_event(reinterpreted_batch_ndims)
        return Independent(self, n) if n else self

    def _count_to_event(self, reinterpreted_batch_ndims: int | None) -> int:
        available = len(self.batch_shape)
        n = available if reinterpreted_batch_ndims is None else reinterpreted_batch_ndims
        if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n <= available:
            raise DistributionError(
                f"{type(self).__name__}: expected to_event(n) with 0 <= n <= {available} batch "
                f"dimensions {tuple(self.batch_shape)}, got {n!r}; expand the distribution or lower n"
            )
        return n

    def mask(self, mask: torch.Tensor | bool) -> MaskedDistribution:
        """Keep log-probability only where ``mask`` (broadcast over B) is true."""
        from brancher.distributions.algebra import MaskedDistribution  # built on this class

        return MaskedDistribution(self, mask)

    @classmethod
    def infer_shapes(cls, **arg_shapes: Size) -> tuple[torch.Size, torch.Size]:
        """Return ``(batch_shape, event_shape)`` that arguments of the given shapes lead to.

        Args:
            arg_shapes: the shape of each argument by name; of a number, ``()``.

        Example:
            >>> from brancher.distributions import MultivariateNormal
            >>> MultivariateNormal.infer_shapes(loc=(5, 1, 3), scale_tril=(4, 3, 3))
            (torch.Size([5, 4]), torch.Size([3]))
        """
        family: Any = cls  # support and arg_constraints are class attributes, whatever torch declares
        event_dim: int = family.support.event_dim
        batch, event = [], []
        for name, shape in arg_shapes.items():
            own_dim = family.arg_constraints[name].event_dim if name in family.arg_constraints else 0
            cut = len(shape) - own_dim
            batch.append(torch.Size(shape[:cut]))
            if own_dim == event_dim:
                event.append(torch.Size(shape[cut:]))
        return broadcast_shapes(*batch), broadcast_shapes(*event)

    def has_rsample_(self, value: bool) -> Self:
        """Say whether draws of this very law carry gradients, and return it: False for score functions.

        Raises:
            DistributionError: gradients are asked for that the family does not have.

        Example:
            >>> from brancher.distributions import Normal
            >>> Normal(0.0, 1.0).has_rsample_(False).has_rsample
            False
        """
        if isinstance(getattr(type(self), "has_rsample", None), property):
            for part in ("base_dist", "component0", "component1"):
                if hasattr(self, part):
                    getattr(self, part).has_rsample_(value)
        elif value not in (True, False) or (value and not type(self).has_rsample):
            raise DistributionError(
                f"{type(self).__name__}: expected has_rsample_(False), or True for a family with gradients, "
                f"got {value!r}"
            )
        else:
            self.has_rsample = bool(value)
        return self

    def _copy_switch(self, new: Distribution) -> None:
        """Pass on a ``validate_args`` that was given at construction, and what ``has_rsample_`` said."""
        if "_is_checked" in self.__dict__:
            new._validate_args = self.__dict__["_is_checked"]
        if "has_rsample" in self.__dict__:
            new.has_rsample = self.has_rsample

    def _check_arguments(self) -> None:
        try:
            named = self.arg_constraints
        except NotImplementedError:  # a law of a program's own that says nothing of its arguments
            return
        for name, constraint in named.items():
            if torch_constraints.is_dependent(constraint):
                continue
            if name not in self.__dict__ and isinstance(getattr(type(self), name), lazy_property):
                continue  # derived lazily from the argument that was given
            value = getattr(self, name)
            if value is None or not isinstance(value, torch.Tensor):
                continue
            valid = constraint.check(value)
            if not bool(valid.all()):
                raise DistributionError(
                    f"{type(self).__name__}: expected parameter '{name}' of shape "
                    f"{tuple(value.shape)} to be {words(constraint)}, got "
                    f"{offenders(value, valid, constraint.event_dim)}; {remedy(constraint)}"
                )

    def _validate_sample(self, value: torch.Tensor) -> None:
        check_event(self, value)
        try:
            support = self.support
        except NotImplementedError:
            return
        if support is None or torch_constraints.is_dependent(support):
            return
        valid = support.check(value)
        if not bool(valid.all()) and not _is_held_somewhere(value, valid, support):
            raise DistributionError(
                f"{type(self).__name__}: expected a value of shape {tuple(value.shape)} to be in the "
                f"support {words(support)}, got {offenders(value, valid, support.event_dim)}; correct the "
                "value, or choose a family whose support holds it"
            )


def _is_held_somewhere(value: torch.Tensor, valid: torch.Tensor, support: Any) -> bool:
    """Whether each value that meets several intervals, as of many draws of their ends, lies in one of them.

    Its density is zero in the others.
    """
    rank = value.dim() - support.event_dim
    shape = (1,) * (valid.dim() - rank) + value.shape[:rank]
    met = [dim for dim in range(valid.dim()) if valid.shape[dim] > shape[dim]]
    return not support.is_discrete and bool(met) and bool(valid.any(dim=met).all())
