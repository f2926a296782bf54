"""Cosines and wavelets of series: inverses, lengths, known coefficients; under ``peers`` Pyro's numbers."""

from __future__ import annotations

import pytest
import torch
from scipy import fft

from brancher.distributions import series_transforms
from brancher.distributions import transforms as T
from brancher.errors import DistributionError

TRANSFORMS = {
    "cosines": T.DiscreteCosineTransform(),
    "smooth cosines": T.DiscreteCosineTransform(smooth=1.0),
    "cosines of columns": T.DiscreteCosineTransform(dim=-2, smooth=0.5),
    "wavelets": T.HaarTransform(),
    "wavelets backwards": T.HaarTransform(flip=True),
    "wavelets of columns": T.HaarTransform(dim=-2),
}
SIZES = [1, 2, 3, 4, 7, 8, 13]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_inverse_and_volume(name, size):
    f = TRANSFORMS[name]
    columns = f.dim == -2
    x = torch.randn(2, size, 2, dtype=torch.float64) if columns else torch.randn(2, size, dtype=torch.float64)
    y = f(x)
    torch.testing.assert_close(f.inv(y), x)
    assert f.log_abs_det_jacobian(x, y).shape == (2,) and f.domain.event_dim == -f.dim
    whole = torch.autograd.functional.jacobian(f, x[0]).reshape(x[0].numel(), x[0].numel())
    torch.testing.assert_close(whole.det().abs(), torch.ones((), dtype=torch.float64))
    assert f.with_cache() == f and hash(f.with_cache()) == hash(f)


@pytest.mark.parametrize("size", SIZES)
def test_cosines_are_those_of_scipy(size):
    x = torch.randn(3, size, dtype=torch.float64)
    expected = torch.from_numpy(fft.dct(x.numpy(), norm="ortho"))
    torch.testing.assert_close(T.DiscreteCosineTransform()(x), expected)


def test_wavelets_of_five_numbers():
    a, b = 0.5, 0.5**0.5
    expected = torch.tensor(
        [[a, a, a, a, 0], [a, a, -a, -a, 0], [b, -b, 0, 0, 0], [0, 0, b, -b, 0], [0, 0, 0, 0, 1]]
    )
    torch.testing.assert_close(series_transforms.haar_transform(torch.eye(5)).T, expected)


def test_a_random_walk_becomes_white_noise():
    torch.manual_seed(0)
    walks = torch.randn(4000, 16, dtype=torch.float64).cumsum(-1)
    variances = T.DiscreteCosineTransform(smooth=1.0)(walks).var(0)
    # Those of the lowest and the highest frequency differ by a factor of about 300 without the weights.
    assert float(variances[1:].max() / variances[1:].min()) < 4
    assert float(T.DiscreteCosineTransform()(walks).var(0)[1:].max() / variances[1:].min()) > 20


@pytest.mark.parametrize("dim", [0, 1.5, True])
def test_dim_is_no_negative_int_error(dim):
    with pytest.raises(DistributionError, match="expected dim as an int < 0"):
        T.HaarTransform(dim)


@pytest.mark.peers
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_coefficients_are_those_of_pyro(name, size):
    pyro_transforms = pytest.importorskip("pyro.distributions.transforms")
    ours = TRANSFORMS[name]
    settings = {"dim": ours.dim}
    settings |= {"flip": ours.flip} if isinstance(ours, T.HaarTransform) else {"smooth": ours.smooth}
    theirs = getattr(pyro_transforms, type(ours).__name__)(**settings)
    x = torch.randn(2, size, 3)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)
