"""The objectives that ask for a compiled step: what Pyro programs call ``JitTrace_ELBO`` and so on."""

from __future__ import annotations

from brancher.infer.elbo.enum import TraceEnum_ELBO
from brancher.infer.elbo.graph import TraceGraph_ELBO
from brancher.infer.elbo.mean_field import TraceMeanField_ELBO
from brancher.infer.elbo.trace_elbo import Trace_ELBO


class JitTrace_ELBO(Trace_ELBO):  # noqa: N801
    """:class:`Trace_ELBO` whose steps run as one compiled graph, as with ``SVI(..., compile=True)``.

    What the SVI itself says of ``compile`` wins over it.

    Example:
        >>> from brancher.infer import SVI, JitTrace_ELBO
        >>> SVI(lambda: sample("x", dist.Normal(0.0, 1.0)), loss=JitTrace_ELBO()).compile
        True
    """

    wants_compile = True


class JitTraceEnum_ELBO(TraceEnum_ELBO):  # noqa: N801
    """:class:`TraceEnum_ELBO` whose steps run as one compiled graph; see :class:`JitTrace_ELBO`."""

    wants_compile = True


class JitTraceGraph_ELBO(TraceGraph_ELBO):  # noqa: N801
    """:class:`TraceGraph_ELBO` whose steps run as one compiled graph; see :class:`JitTrace_ELBO`."""

    wants_compile = True


class JitTraceMeanField_ELBO(TraceMeanField_ELBO):  # noqa: N801
    """:class:`TraceMeanField_ELBO` whose steps run as one compiled graph; see :class:`JitTrace_ELBO`."""

    wants_compile = True
