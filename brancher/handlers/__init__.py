"""Composable effect handlers: what happens between ``sample(...)`` and its value."""

from typing import TYPE_CHECKING

from brancher.absent import refuse
from brancher.handlers.block import block
from brancher.handlers.broadcast import broadcast
from brancher.handlers.condition import condition
from brancher.handlers.do import do
from brancher.handlers.enum import enum
from brancher.handlers.equalize import equalize
from brancher.handlers.escape import NonlocalExit, escape
from brancher.handlers.infer_config import infer_config
from brancher.handlers.lift import lift
from brancher.handlers.mask import get_mask, mask
from brancher.handlers.message import Frame, Message
from brancher.handlers.messenger import Messenger
from brancher.handlers.queue import queue
from brancher.handlers.record import Trace
from brancher.handlers.reparam import reparam
from brancher.handlers.replay import replay
from brancher.handlers.scale import scale
from brancher.handlers.seed import seed
from brancher.handlers.substitute import substitute
from brancher.handlers.trace import trace
from brancher.handlers.uncondition import uncondition

if not TYPE_CHECKING:
    __getattr__ = refuse(__name__)

__all__ = [
    "Frame",
    "Message",
    "Messenger",
    "NonlocalExit",
    "Trace",
    "block",
    "broadcast",
    "condition",
    "do",
    "enum",
    "equalize",
    "escape",
    "get_mask",
    "infer_config",
    "lift",
    "mask",
    "queue",
    "reparam",
    "replay",
    "scale",
    "seed",
    "substitute",
    "trace",
    "uncondition",
]
