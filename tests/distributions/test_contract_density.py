"""Every registered family: the log-density is the right function."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch


@pytest.mark.contract("scipy")
def test_log_prob_equals_scipy(member: Any) -> None:
    if member.case.scipy is None:
        pytest.skip("scipy has no counterpart")
    d = member.make()
    x = d.sample(torch.Size([50]))
    reference = member.scipy()
    log_density = getattr(reference, "logpmf", None) or reference.logpdf
    expected = np.asarray(log_density(x.numpy()))
    # float64 on both sides, and scipy's own formulas lose a few digits
    np.testing.assert_allclose(d.log_prob(x).numpy(), expected, rtol=1e-9, atol=1e-9)
