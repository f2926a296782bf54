"""Where each latent site of a model lies in one flat unconstrained vector."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from brancher.distributions import biject_to
from brancher.distributions.shapes import unconstrained_shape
from brancher.handlers import Message, Trace
from brancher.infer.enumeration.density import refuse_alone


class Slot(NamedTuple):
    """Where a latent site lies in the flat vector.

    Attributes:
        name: the site.
        start: first entry.
        shape: unconstrained shape, batch dimensions first.
        batch_dims: how many of those are batch dimensions.
    """

    name: str
    start: int
    shape: torch.Size
    batch_dims: int

    @property
    def stop(self) -> int:
        """One past the last entry."""
        return self.start + self.shape.numel()


def slots_of(record: Trace, summed: Sequence[str], algorithm: str) -> list[Slot]:
    """Places for the latent sites that are not summed out, in the order of the model."""
    slots: list[Slot] = []
    start = 0
    for name, site in record.iter_stochastic_nodes():
        if name in summed:
            continue
        shape = unconstrained_shape(biject_to(site.fn.support), site.value.shape)
        slots.append(Slot(name, start, shape, len(shape) - _free_event_dims(site, shape)))
        start = slots[-1].stop
    if not slots:
        refuse_alone(summed, algorithm)
    return slots


def _free_event_dims(site: Message, shape: torch.Size) -> int:
    constrained = len(site.fn.event_shape)
    transform = biject_to(site.fn.support)
    return constrained + int(transform.domain.event_dim) - int(transform.codomain.event_dim)


def like_of(record: Trace, slots: Sequence[Slot]) -> Tensor:
    """An empty tensor of the widest floating type among the latent sites, where the computation takes place.

    A site whose arguments are plain numbers is on the CPU, and follows the others to their device.
    """
    latent = [record.nodes[slot.name].value for slot in slots]
    dtype = functools.reduce(torch.promote_types, [value.dtype for value in latent])
    devices = [site.value.device for site in record.sites("sample")]
    away = [device for device in devices if device.type != "cpu"]
    return torch.empty(0, dtype=dtype, device=(away or devices)[0])
