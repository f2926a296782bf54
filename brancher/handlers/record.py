"""``Trace``: the sites of one execution, by name and in order."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from brancher.errors import UnknownNameError, nearest
from brancher.handlers.density import SCORED, score, score_sum
from brancher.handlers.message import Frame, Message

if TYPE_CHECKING:
    import pandas as pd

SiteFilter = Callable[[str, Message], bool]


class Nodes(OrderedDict[str, Message]):
    """Sites by name; a name that is not there is told with the nearest one that is."""

    def __missing__(self, name: str) -> Message:
        known = [key for key in self if key not in ("_INPUT", "_RETURN")]
        raise UnknownNameError(
            f"trace: expected one of the sites {known}, got {name!r}{nearest(name, known)}"
        )


class Trace:
    """The record of one execution of a model or guide.

    ``trace.nodes[name]["value"]`` reads a site; arguments and return value of the function are
    the nodes ``_INPUT`` and ``_RETURN``.

    Example:
        >>> from brancher import handlers, sample
        >>> trace = handlers.trace(lambda: sample("x", dist.Normal(0.0, 1.0))).get_trace()
        >>> trace.stochastic_nodes
        ['x']
    """

    def __init__(self) -> None:
        self.nodes: OrderedDict[str, Message] = Nodes()

    def add_node(self, name: str, site: Message | None = None, /, **fields: Any) -> None:
        """Record a site under a name.

        Args:
            name: the name.
            site: the site; or give its fields by keyword, ``type=`` among them.
            **fields: fields of a :class:`Message`.
        """
        self.nodes[name] = Message(**{"name": name, "fn": None, **fields}) if site is None else site

    def remove_node(self, name: str) -> None:
        """Forget a site."""
        self.nodes.pop(self[name].name)

    def __getitem__(self, name: str) -> Message:
        return self.nodes[name]

    def __contains__(self, name: object) -> bool:
        return name in self.nodes

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def names(self) -> list[str]:
        """All names, without those of arguments and return value."""
        return [name for name in self.nodes if name not in ("_INPUT", "_RETURN")]

    def sites(self, *types: str) -> Iterator[Message]:
        """The sites of the given types, in order of execution; all of them for no type."""
        chosen = [
            site
            for name, site in self.nodes.items()
            if (not types or site.type in types) and name not in ("_INPUT", "_RETURN")
        ]
        return iter(chosen)

    def scored(self) -> Iterator[Message]:
        """The sites that carry a density."""
        return self.sites(*SCORED)

    @property
    def stochastic_nodes(self) -> list[str]:
        """Names of the latent sample sites."""
        return [s.name for s in self.sites("sample") if not s.is_observed]

    @property
    def observation_nodes(self) -> list[str]:
        """Names of the observed sample sites."""
        return [s.name for s in self.sites("sample") if s.is_observed]

    @property
    def param_nodes(self) -> list[str]:
        """Names of the parameters that were read."""
        return [s.name for s in self.sites("param")]

    @property
    def reparameterized_nodes(self) -> list[str]:
        """Names of the latent sites whose draw carries a pathwise gradient."""
        return [s.name for s in self.sites("sample") if not s.is_observed and s.fn.has_rsample]

    @property
    def nonreparam_stochastic_nodes(self) -> list[str]:
        """Names of the latent sites whose draw carries no gradient."""
        return [s.name for s in self.sites("sample") if not s.is_observed and not s.fn.has_rsample]

    def iter_stochastic_nodes(self) -> Iterator[tuple[str, Message]]:
        """Latent sample sites as ``(name, site)``."""
        return ((name, self.nodes[name]) for name in self.stochastic_nodes)

    def compute_log_prob(self, site_filter: SiteFilter | None = None) -> None:
        """Put ``log_prob`` (shape B) and ``log_prob_sum`` on every scored site.

        Raises:
            SiteError: a value does not fit its distribution.
        """
        for site in self.scored():
            if site_filter is None or site_filter(site.name, site):
                score(site)
                score_sum(site)

    def compute_score_parts(self) -> None:
        """Pyro's name for :meth:`compute_log_prob`; then ``score_parts`` of each site can be read."""
        self.compute_log_prob()

    def log_prob_sum(self, site_filter: SiteFilter | None = None) -> torch.Tensor:
        """Joint log-density of the trace in nats, masked and scaled, shape ``()``.

        Raises:
            SiteError: a value does not fit its distribution.
        """
        total: Any = 0.0
        for site in self.scored():
            if site_filter is None or site_filter(site.name, site):
                total = total + score_sum(site)
        return total if isinstance(total, torch.Tensor) else torch.tensor(total)

    def detach_(self) -> None:
        """Cut the values of the sample sites from the autograd graph, in place."""
        for site in self.sites("sample"):
            site.value = site.value.detach()

    def copy(self) -> Trace:
        """A trace whose sites can be changed without changing this one; tensors are shared."""
        twin = Trace()
        for name, site in self.nodes.items():
            twin.nodes[name] = site.copy()
        return twin

    def plates(self) -> dict[str, Frame]:
        """The plates that the sites stand under, by name, outermost first."""
        found: dict[str, Frame] = {}
        for site in self.sites():
            for frame in site.frames:
                found.setdefault(frame.name, frame)
        return found

    def to_frame(self) -> pd.DataFrame:
        """One row a site: its kind, distribution, shapes and plates.

        Returns:
            A DataFrame indexed by site name with the columns ``type``, ``distribution``,
            ``batch_shape``, ``event_shape``, ``value_shape``, ``observed`` and ``plates``.
        """
        import pandas as pd

        rows = [_row(site) for site in self.sites()]
        return pd.DataFrame(rows, columns=["site", *_COLUMNS]).set_index("site")

    def format_shapes(self, title: str = "Trace Shapes:", last_site: str | None = None) -> str:
        """The shapes of all sites as text, up to ``last_site``."""
        lines = [title]
        for site in self.sites():
            row = _row(site)
            lines.append(
                f"{row['site']:>16} {row['type']:<13} {row['distribution']:<22} batch "
                f"{row['batch_shape']!s:<14} event {row['event_shape']!s:<10} value {row['value_shape']}"
            )
            if site.name == last_site:
                break
        return "\n".join(lines)


_COLUMNS = ["type", "distribution", "batch_shape", "event_shape", "value_shape", "observed", "plates"]


def family(fn: Any) -> str:
    """The name of a distribution's family, looking through its wrappers."""
    while hasattr(fn, "base_dist") and type(fn).__name__ in (
        "Independent",
        "MaskedDistribution",
        "ExpandedDistribution",
    ):
        fn = fn.base_dist
    return type(fn).__name__


def _row(site: Message) -> dict[str, Any]:
    has_density = site.type in SCORED
    return {
        "site": site.name,
        "type": site.type,
        "distribution": family(site.fn) if has_density else "",
        "batch_shape": tuple(site.fn.batch_shape) if has_density else (),
        "event_shape": tuple(site.fn.event_shape) if has_density else (),
        "value_shape": tuple(site.value.shape) if isinstance(site.value, torch.Tensor) else (),
        "observed": site.is_observed,
        "plates": ", ".join(frame.name for frame in site.frames),
    }
