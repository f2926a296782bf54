"""The README's diagram; its examples are run as doctests."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

README = Path(__file__).parents[1] / "README.md"


def test_diagram_is_what_the_model_renders() -> None:
    text = README.read_text("utf-8")
    names: dict[str, Any] = {}
    for example in doctest.DocTestParser().get_examples(text):
        exec(example.source, names)
        if "schools" in names:
            break
    diagram = names["schools"].render(names["standard_error"], names["effect"]).mermaid
    assert f"```mermaid\n{diagram.strip()}\n```" in text
