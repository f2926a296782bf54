"""``markov``: state that steps of a loop depend only on the last few."""

from __future__ import annotations

from brancher.handlers.message import Message
from brancher.handlers.messenger import Messenger


class MarkovScope(Messenger):
    """Mark every site with the number of steps that enclose it; ``primitives.markov`` enters it.

    Args:
        depth: nesting depth of markov loops here.
        step: index of the step.
        history: how many previous steps a site may depend on, >= 0.
        is_call: whether the step is a call of a function, which may call itself.
    """

    def __init__(self, depth: int, step: int, history: int, is_call: bool = False) -> None:
        super().__init__(None)
        self.depth, self.step, self.history, self.is_call = depth, step, history, is_call

    def process_message(self, message: Message) -> None:
        """Write depth, step and history to the site's options, the innermost scope's."""
        if message.type == "sample":
            message.infer.setdefault(
                "markov", {"depth": self.depth, "step": self.step, "history": self.history}
            )
