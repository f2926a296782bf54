"""``ModelGraph``: the sites of a model and who depends on whom."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brancher.errors import InferenceError, MissingExtraError, require
from brancher.render.text import to_dot, to_mermaid

TEXT = {".dot": "dot", ".gv": "dot", ".mmd": "mermaid", ".mermaid": "mermaid"}
IMAGE = ("svg", "png", "pdf", "jpg", "ps")


@dataclass(frozen=True)
class Node:
    """One site.

    Attributes:
        name: the site.
        kind: "latent", "observed", "deterministic", "factor" or "param".
        family: the distribution's family, "" without one.
        plates: the plates around it, outermost first.
    """

    name: str
    kind: str
    family: str = ""
    plates: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelGraph:
    """A plate diagram.

    Shown as a picture in a notebook where graphviz is installed, as text elsewhere.

    Attributes:
        nodes: by site name, in order of execution.
        edges: pairs (parent, child): the parent's value reaches the child's distribution.
        plates: the label of each plate, its name and size.
        show_families: whether the text names the distributions.
    """

    nodes: dict[str, Node]
    edges: tuple[tuple[str, str], ...]
    plates: dict[str, str]
    show_families: bool = False

    @property
    def dot(self) -> str:
        """The diagram in graphviz' language."""
        return to_dot(self)

    @property
    def mermaid(self) -> str:
        """The diagram as a mermaid flowchart, as Markdown viewers show it."""
        return to_mermaid(self)

    def parents(self, name: str) -> list[str]:
        """The sites that a site depends on."""
        return [parent for parent, child in self.edges if child == name]

    def save(self, path: str | Path) -> Path:
        """Write the diagram to a file; its suffix names the format.

        Args:
            path: ``.dot``, ``.gv``, ``.mmd`` or ``.mermaid`` for text, which needs nothing;
                ``.svg``, ``.png``, ``.pdf``, ``.jpg`` or ``.ps`` for an image by graphviz.

        Raises:
            InferenceError: the suffix names none of them.
            MissingExtraError: an image is asked for and graphviz is not there.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix in TEXT:
            path.write_text(getattr(self, TEXT[suffix]), "utf-8")
        elif suffix[1:] in IMAGE:
            path.write_bytes(self.image(suffix[1:]))
        else:
            known = [*TEXT, *(f".{kind}" for kind in IMAGE)]
            raise InferenceError(
                f"render '{path}': expected a suffix of {known}, got '{suffix}'; rename the file"
            )
        return path

    def image(self, kind: str = "svg") -> bytes:
        """The diagram as an image, made by graphviz.

        Raises:
            MissingExtraError: graphviz or its program ``dot`` is not installed.
        """
        graphviz = require("graphviz", "graph", "render")
        if shutil.which("dot") is None:
            raise MissingExtraError(
                "render: expected graphviz' program 'dot' on the path, got none; install graphviz "
                "(apt-get install graphviz, brew install graphviz), or save the diagram as .dot or .mmd"
            )
        made: bytes = graphviz.Source(self.dot).pipe(format=kind)
        return made

    def __str__(self) -> str:
        return self.mermaid

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        bundle = {"text/plain": self.mermaid}
        try:
            bundle["image/svg+xml"] = self.image("svg").decode()
        except MissingExtraError:
            bundle["text/markdown"] = f"```mermaid\n{self.mermaid}\n```"
        return bundle
