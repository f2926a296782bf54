from __future__ import annotations

import pytest
import torch

from brancher.staging import stage
from brancher.staging.emitting.small_algebra import inline_small_algebra

Tensor = torch.Tensor
# 32 is the largest matrix that is treated here; 40 goes to LAPACK.
CASES = [(1, ()), (11, ()), (32, (3,)), (3, (2, 2)), (40, ())]


def positive(size: int, batch: tuple[int, ...] = (), dtype: torch.dtype = torch.float64) -> Tensor:
    noise = torch.Generator().manual_seed(size)
    root = torch.randn(*batch, size, size, generator=noise, dtype=dtype)
    return root @ root.mT + size * torch.eye(size, dtype=dtype)


def log_density(cov: Tensor, value: Tensor) -> Tensor:
    factor = torch.linalg.cholesky_ex(cov).L
    whitened = torch.linalg.solve_triangular(factor, value[..., None], upper=False)[..., 0]
    return -0.5 * whitened.square().sum(-1) - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def with_gradient(cov: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    cov = cov.detach().requires_grad_()
    with torch.enable_grad():
        result = log_density(cov, value)
        (grad,) = torch.autograd.grad(result.sum(), cov)
    return result.detach(), grad


@pytest.mark.parametrize(("size", "batch"), CASES)
def test_normal_density_and_gradient_equal_eager(size: int, batch: tuple[int, ...]) -> None:
    cov = positive(size, batch)
    value = torch.linspace(-1.0, 1.0, size, dtype=torch.float64).expand(*batch, size)
    for found, expected in zip(stage(with_gradient)(cov, value), with_gradient(cov, value), strict=True):
        assert torch.allclose(found, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_triangular_systems_equal_eager(dtype: torch.dtype) -> None:
    matrix = positive(6, (4,), dtype)
    right = torch.linspace(0.0, 1.0, 4 * 6 * 3, dtype=dtype).reshape(4, 6, 3)

    def solve(matrix: Tensor, right: Tensor) -> list[Tensor]:
        found = []
        for upper in (False, True):
            for unit in (False, True):
                found.append(torch.linalg.solve_triangular(matrix, right, upper=upper, unitriangular=unit))
            found.append(torch.linalg.solve_triangular(matrix.mT, right.mT.contiguous().mT, upper=upper))
        return found

    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    for found, expected in zip(stage(solve)(matrix, right), solve(matrix, right), strict=True):
        assert torch.allclose(found, expected, rtol=tolerance)


def test_systems_from_the_right_and_broadcast_ones_equal_eager() -> None:
    matrix, rows = positive(5), torch.linspace(0.0, 1.0, 15, dtype=torch.float64).reshape(3, 5)

    def solve(matrix: Tensor, rows: Tensor) -> Tensor:
        one = torch.linalg.solve_triangular(matrix, rows, upper=True, left=False)
        many = torch.linalg.solve_triangular(matrix, rows.mT.expand(2, 5, 3), upper=True)
        return one.sum() + many.sum()

    assert torch.allclose(stage(solve)(matrix, rows), solve(matrix, rows), rtol=1e-11)


def test_matrix_that_is_not_positive_definite_is_told() -> None:
    cov = torch.stack(
        [torch.eye(3), torch.diag(torch.tensor([1.0, -1.0, 1.0])), torch.full((3, 3), torch.nan)]
    )
    factor, info = stage(lambda x: tuple(torch.linalg.cholesky_ex(x)))(cov)
    assert info.tolist() == torch.linalg.cholesky_ex(cov).info.tolist() == [0, 2, 1]
    assert torch.equal(factor[0], torch.eye(3))


def test_calls_of_the_dispatcher_are_replaced() -> None:
    call = 'aoti_torch_call_dispatcher("aten::{}", "", dispatch_vars.data())'
    body = "\n".join(call.format(name) for name in ("linalg_cholesky_ex", "linalg_solve_triangular", "sort"))
    changed = inline_small_algebra(f"void inductor_entry_impl() {{\n{body}\n}}")
    own = changed[changed.index("void inductor_entry_impl(") :]
    assert "brancher::cholesky_ex(dispatch_vars.data())" in own
    assert "brancher::solve_triangular(dispatch_vars.data())" in own
    assert own.count("aoti_torch_call_dispatcher") == 1


def test_text_without_such_calls_stays() -> None:
    assert inline_small_algebra("void inductor_entry_impl() {}") == "void inductor_entry_impl() {}"
