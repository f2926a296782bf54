"""Pyro's name for :mod:`brancher.handlers`, so that its programs need their imports changed alone."""

from typing import TYPE_CHECKING

from brancher.absent import refuse
from brancher.handlers import *  # noqa: F403
from brancher.handlers import __all__ as __all__

if not TYPE_CHECKING:
    __getattr__ = refuse(__name__)
