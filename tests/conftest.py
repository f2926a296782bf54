"""Fixtures of the test suite; conftest.py beside the package holds what doctests need as well."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

# Loaded by path: test folders are not packages.
_spec = importlib.util.spec_from_file_location(
    "fake_accelerator", Path(__file__).with_name("fake_accelerator.py")
)
assert _spec is not None and _spec.loader is not None
fake_accelerator = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake_accelerator)


@pytest.fixture(params=["cpu", "accel"])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """The CPU, then a second device on which every mix-up of devices raises.

    Make data with ``device=device`` or ``.to(device)``; read results back with ``.cpu()``.
    """
    is_cpu = request.param == "cpu"
    with nullcontext() if is_cpu else fake_accelerator.FakeDeviceMode():
        yield torch.device("cpu") if is_cpu else fake_accelerator.DEVICE
