"""Sites in turned coordinates: ``UnitJacobianReparam``, ``DiscreteCosineReparam``, ``HaarReparam``."""

from __future__ import annotations

from torch.distributions.transforms import Transform

from brancher.distributions import TransformedDistribution
from brancher.distributions.transforms import DiscreteCosineTransform, HaarTransform
from brancher.errors import SiteError
from brancher.handlers import Message
from brancher.infer.reparam.strategy import Reparam, Rewritten, latent_only
from brancher.primitives import sample


class UnitJacobianReparam(Reparam):
    """Sample ``{name}_{suffix}``, the value sent through a transform that keeps volumes, and turn it back.

    The geometry changes, the model does not.

    Args:
        transform: a bijection whose Jacobian has the determinant one.
        suffix: of the new site's name.

    Example:
        >>> from brancher.infer.reparam import UnitJacobianReparam
        >>> swap = UnitJacobianReparam(dist.transforms.Permute(torch.tensor([1, 0])), suffix="swapped")
        >>> model = lambda: sample("x", dist.Normal(torch.tensor([0.0, 9.0]), 1.0).to_event(1))
        >>> with handlers.reparam(config={"x": swap}):
        ...     trace = handlers.trace(model).get_trace()
        >>> trace.stochastic_nodes, bool(trace["x_swapped"].value[0] == trace["x"].value[1])
        (['x_swapped'], True)
    """

    def __init__(self, transform: Transform, suffix: str = "transformed") -> None:
        self.transform, self.suffix = transform, suffix

    def apply(self, message: Message) -> Rewritten:
        """Sample the transformed value and transform it back.

        Raises:
            SiteError: the site is observed, or has fewer event dimensions than the transform needs.
        """
        latent_only(self, message)
        needed, fn = self.transform.domain.event_dim, message.fn
        if len(fn.event_shape) < needed:
            raise SiteError(
                f"site '{message.name}': expected a law with event dim >= {needed} for "
                f"{type(self).__name__}, got event shape {tuple(fn.event_shape)} and batch shape "
                f"{tuple(fn.batch_shape)}; write .to_event({needed - len(fn.event_shape)})"
            )
        law = TransformedDistribution(fn, [self.transform])
        drawn = sample(f"{message.name}_{self.suffix}", law, infer=message.infer)
        return {"fn": None, "value": self.transform.inv(drawn), "is_observed": False}


class DiscreteCosineReparam(UnitJacobianReparam):
    """Sample a series by its coefficients in cosines, as ``{name}_dct``.

    A diagonal mass matrix, or a diagonal guide, then sees slow and fast changes apart.

    Args:
        dim: the dimension of the series, < 0.
        smooth: 0.0 for series like white noise, 1.0 for those like a random walk.

    Example:
        >>> from brancher.infer.reparam import DiscreteCosineReparam
        >>> model = lambda: sample("x", dist.Normal(torch.zeros(8), 1.0).to_event(1))
        >>> with handlers.reparam(config={"x": DiscreteCosineReparam()}):
        ...     trace = handlers.trace(model).get_trace()
        >>> trace.stochastic_nodes, trace["x"].value.shape
        (['x_dct'], torch.Size([8]))
    """

    def __init__(self, dim: int = -1, smooth: float = 0.0) -> None:
        super().__init__(DiscreteCosineTransform(dim, smooth, cache_size=1), suffix="dct")


class HaarReparam(UnitJacobianReparam):
    """Sample a series by its coefficients in Haar's wavelets, as ``{name}_haar``.

    Args:
        dim: the dimension of the series, < 0.
        flip: whether the series is turned around first.

    Example:
        >>> from brancher.infer.reparam import HaarReparam
        >>> model = lambda: sample("x", dist.Normal(torch.zeros(8), 1.0).to_event(1))
        >>> with handlers.reparam(config={"x": HaarReparam()}):
        ...     trace = handlers.trace(model).get_trace()
        >>> trace.stochastic_nodes
        ['x_haar']
    """

    def __init__(self, dim: int = -1, flip: bool = False) -> None:
        super().__init__(HaarTransform(dim, flip, cache_size=1), suffix="haar")
