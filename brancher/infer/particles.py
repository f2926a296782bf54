"""Particles and draws as a batch dimension left of every plate."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from brancher.distributions.validation import validation_enabled
from brancher.handlers import Frame, stack
from brancher.handlers.plate import PlateScope
from brancher.staging import random_state_kept

#: The plate's name; the leading underscore marks it as the library's own.
PARTICLES = "_particles"


@contextmanager
def particle_plate(num_particles: int, max_plate_nesting: int) -> Iterator[None]:
    """Draw every site inside ``num_particles`` times, in the dimension left of all plates."""
    dim = -1 - max_plate_nesting
    with PlateScope(Frame(PARTICLES, dim, num_particles, num_particles), None):
        yield


@contextmanager
def probing() -> Iterator[None]:
    """Run functions for what they show, leaving random state, stack and gradients alone."""
    with ExitStack() as inside:
        inside.enter_context(stack.emptied())
        inside.enter_context(random_state_kept())
        inside.enter_context(torch.no_grad())
        inside.enter_context(validation_enabled(False))
        inside.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield
