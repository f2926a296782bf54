from __future__ import annotations

import torch

from brancher.staging import RandomState
from brancher.staging.graph import record


def test_restored_state_gives_the_same_numbers() -> None:
    before = RandomState()
    first = torch.rand(3)
    before.restore()
    assert torch.equal(torch.rand(3), first)


def test_recording_leaves_the_generator_alone() -> None:
    state = torch.get_rng_state()
    record(lambda x: x + torch.rand(2), (torch.zeros(2),), "f")
    assert torch.equal(torch.get_rng_state(), state)
