"""The second device must refuse what a real one refuses, and compute what the CPU computes."""

from __future__ import annotations

import pytest
import torch


def test_device_keeps_values(device: torch.device) -> None:
    x = torch.arange(3.0, device=device)
    assert torch.equal((2 * x + torch.ones(3, device=device)).cpu(), torch.tensor([1.0, 3.0, 5.0]))


def test_device_differentiates(device: torch.device) -> None:
    x = torch.tensor([1.0, 2.0], device=device, requires_grad=True)
    (gradient,) = torch.autograd.grad((x**3).sum(), x)
    assert gradient.device == device
    assert torch.equal(gradient.cpu(), torch.tensor([3.0, 12.0]))


def test_device_optimizes(device: torch.device) -> None:
    x = torch.nn.Parameter(torch.full((2,), 3.0, device=device))
    optimizer = torch.optim.Adam([x], lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        x.square().sum().backward()
        optimizer.step()
    assert float(x.detach().cpu().max()) < 3.0


@pytest.mark.parametrize("device", ["accel"], indirect=True)
def test_mixed_devices_error(device: torch.device) -> None:
    with pytest.raises(RuntimeError, match="same device"):
        torch.zeros(3, device=device) + torch.ones(3)


@pytest.mark.parametrize("device", ["accel"], indirect=True)
def test_cpu_scalar_joins_in(device: torch.device) -> None:
    assert (torch.zeros(3, device=device) + torch.tensor(1.0)).device == device


@pytest.mark.parametrize("device", ["accel"], indirect=True)
def test_cpu_generator_error(device: torch.device) -> None:
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(3, device=device, generator=torch.Generator())
