"""torch's families as ours: one line each, with several argument sets and scipy's counterpart.

``registry_own.py`` has the same form for the families that torch lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import scipy.stats as st

import brancher.distributions as dist


def cases(case: Callable[..., Any]) -> list[Any]:
    return [
        case(
            dist.Normal,
            {"loc": 0.3, "scale": 2.0},
            {"loc": [0.0, -1.0], "scale": [[1.0], [3.0], [0.5]]},
            scipy=lambda loc, scale: st.norm(loc, scale),
            bad={"scale": -1.0},
        ),
    ]
