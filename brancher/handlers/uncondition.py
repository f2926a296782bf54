"""``uncondition``: draw observed sites afresh."""

from __future__ import annotations

from brancher.handlers.message import Message
from brancher.handlers.messenger import Messenger


class uncondition(Messenger):  # noqa: N801
    """Ignore observations: every observed sample site is drawn from its distribution.

    The data stay readable at ``site["infer"]["obs"]``.

    Example:
        >>> model = lambda: sample("x", dist.Normal(0.0, 1e-3), obs=torch.tensor(5.0))
        >>> bool(uncondition(model)() < 1.0)
        True
    """

    def process_message(self, message: Message) -> None:
        """Take the observation away."""
        if message.type == "sample" and message.is_observed:
            message.infer["was_observed"] = True
            message.infer["obs"] = message.value
            message.value = None
            message.is_observed = False
            message.done = False
