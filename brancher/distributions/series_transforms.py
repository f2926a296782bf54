"""Orthogonal transforms of series: cosines, and Haar's wavelets."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch.distributions import constraints
from torch.distributions.transforms import Transform

from brancher.errors import DistributionError


def dct(x: torch.Tensor) -> torch.Tensor:
    """Coefficients of a series over its last dimension in cosines, the orthonormal DCT-II.

    Makhoul 1980, "A fast cosine transform in one and two dimensions", eq. 7, by one Fourier transform.

    Args:
        x: series, shape (..., n).
    """
    size = x.shape[-1]
    folded = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1)
    turned: torch.Tensor = torch.fft.fft(folded) * _turns(size, x, -1)
    return turned.real * _lengths(size, x)


def idct(x: torch.Tensor) -> torch.Tensor:
    """The series that has these coefficients, the inverse of :func:`dct`.

    Args:
        x: coefficients, shape (..., n).
    """
    size = x.shape[-1]
    scaled = x / _lengths(size, x)
    # The imaginary part that the real transform left out is the series of coefficients backwards.
    behind = torch.cat([torch.zeros_like(scaled[..., :1]), scaled[..., 1:].flip(-1)], -1)
    folded = torch.fft.ifft(torch.complex(scaled, -behind) * _turns(size, x, 1)).real
    half = (size + 1) // 2
    out = torch.empty_like(x)
    out[..., ::2], out[..., 1::2] = folded[..., :half], folded[..., half:].flip(-1)
    return out


def _turns(size: int, like: torch.Tensor, sign: int) -> torch.Tensor:
    angles = torch.arange(size, dtype=like.dtype, device=like.device) * (sign * math.pi / (2 * size))
    return torch.polar(torch.ones_like(angles), angles)


def _lengths(size: int, like: torch.Tensor) -> torch.Tensor:
    scale = torch.full((size,), math.sqrt(2 / size), dtype=like.dtype, device=like.device)
    scale[0] = math.sqrt(1 / size)
    return scale


def haar_transform(x: torch.Tensor) -> torch.Tensor:
    """Coefficients of a series over its last dimension in Haar's wavelets, coarse ones first.

    Sums and differences of neighbours, divided by the square root of two, then again of the sums. A last
    number without a neighbour is its own coefficient.

    Args:
        x: series, shape (..., n).
    """
    fine: list[torch.Tensor] = []
    while (pairs := x.shape[-1] // 2) > 0:
        left, right, rest = x[..., 0 : 2 * pairs : 2], x[..., 1 : 2 * pairs : 2], x[..., 2 * pairs :]
        fine += [rest, (left - right) * 0.5**0.5]
        x = (left + right) * 0.5**0.5
    return torch.cat([x, *reversed(fine)], -1)


def inverse_haar_transform(x: torch.Tensor) -> torch.Tensor:
    """The series that has these coefficients, the inverse of :func:`haar_transform`.

    Args:
        x: coefficients, shape (..., n).
    """
    sizes = [x.shape[-1]]
    while sizes[-1] > 1:
        sizes.append(sizes[-1] // 2)
    series = x[..., : sizes[-1]]
    for size in reversed(sizes[:-1]):
        pairs = size // 2
        detail, rest = x[..., pairs : 2 * pairs], x[..., 2 * pairs : size]
        both = torch.stack([series + detail, series - detail], -1).flatten(-2) * 0.5**0.5
        series = torch.cat([both, rest], -1)
    return series


class _SeriesTransform(Transform):
    """An orthogonal map of one dimension.

    Args:
        dim: the dimension, < 0; it and those right of it are the event.
        cache_size: as for every transform.
    """

    bijective = True

    def __init__(self, dim: int = -1, cache_size: int = 0) -> None:
        if isinstance(dim, bool) or not isinstance(dim, int) or dim >= 0:
            raise DistributionError(
                f"{type(self).__name__}: expected dim as an int < 0, got {dim!r}; -1 is the last dimension"
            )
        self.dim = dim
        super().__init__(cache_size)

    @property
    def domain(self) -> Any:  # type: ignore[override]
        """Real vectors, or arrays of more dimensions."""
        return constraints.independent(constraints.real, -self.dim)

    codomain = domain

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _SeriesTransform) or type(self) is not type(other):
            return False
        return self._settings() == other._settings()

    def __hash__(self) -> int:
        return hash((type(self), self._settings()))

    def _settings(self) -> tuple[Any, ...]:
        return (self.dim,)

    def with_cache(self, cache_size: int = 1) -> Any:
        """A copy that keeps its last argument and result."""
        twin = copy.copy(self)
        Transform.__init__(twin, cache_size)
        return twin

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Zero: the map turns and mirrors."""
        return x.new_zeros(x.shape[: x.dim() + self.dim])


class DiscreteCosineTransform(_SeriesTransform):
    """From a series to its coefficients in cosines, the low frequencies first.

    Args:
        dim: the dimension of the series, < 0.
        smooth: coefficients are weighed by the power of their frequency: 0.0 takes white noise to white
            noise, 1.0 a random walk. The weights multiply to one.
        cache_size: as for every transform.

    Raises:
        DistributionError: ``dim`` is no int < 0.

    Example:
        >>> t = dist.transforms.DiscreteCosineTransform()
        >>> t(torch.ones(4)).round(decimals=4).abs()
        tensor([2., 0., 0., 0.])
    """

    def __init__(self, dim: int = -1, smooth: float = 0.0, cache_size: int = 0) -> None:
        self.smooth = float(smooth)
        super().__init__(dim, cache_size)

    def _settings(self) -> tuple[Any, ...]:
        return self.dim, self.smooth

    def _weights(self, y: torch.Tensor) -> torch.Tensor:
        size = y.shape[self.dim]
        frequency = torch.linspace(0.5, size - 0.5, size, dtype=y.dtype, device=y.device).log() * self.smooth
        return (frequency - frequency.mean()).exp().reshape(size, *[1] * (-1 - self.dim))

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        y = dct(x.movedim(self.dim, -1)).movedim(-1, self.dim)
        return y * self._weights(y) if self.smooth else y

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        y = y / self._weights(y) if self.smooth else y
        return idct(y.movedim(self.dim, -1)).movedim(-1, self.dim)


class HaarTransform(_SeriesTransform):
    """From a series to its coefficients in Haar's wavelets, as by :func:`haar_transform`.

    Args:
        dim: the dimension of the series, < 0.
        flip: whether the series is turned around first.
        cache_size: as for every transform.

    Raises:
        DistributionError: ``dim`` is no int < 0.

    Example:
        >>> dist.transforms.HaarTransform()(torch.ones(4))
        tensor([2., 0., 0., 0.])
    """

    def __init__(self, dim: int = -1, flip: bool = False, cache_size: int = 0) -> None:
        self.flip = bool(flip)
        super().__init__(dim, cache_size)

    def _settings(self) -> tuple[Any, ...]:
        return self.dim, self.flip

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        x = x.movedim(self.dim, -1)
        return haar_transform(x.flip(-1) if self.flip else x).movedim(-1, self.dim)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        x = inverse_haar_transform(y.movedim(self.dim, -1))
        return (x.flip(-1) if self.flip else x).movedim(-1, self.dim)
