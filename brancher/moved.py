"""Where Pyro's modules are here: ``brancher.poutine.messenger`` and the like are found under their paths.

Only paths that are no file of this package come here. Each stands for the modules that hold its names now.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from brancher.errors import AbsentNameError, nearest

_NAMES = "brancher.pyro_names"
_HANDLERS = ("brancher.handlers", f"{_NAMES}.effects", f"{_NAMES}.sites", f"{_NAMES}.switches")
_NUMBERS = (f"{_NAMES}.numbers", f"{_NAMES}.switches", f"{_NAMES}.sites", f"{_NAMES}.copies")
_ELBO = ("brancher.infer", f"{_NAMES}.pairs", f"{_NAMES}.posteriors", *_NUMBERS)
_DIST = ("brancher.distributions", f"{_NAMES}.numbers", f"{_NAMES}.switches", f"{_NAMES}.copies")
_LAWS = (
    *("asymmetriclaplace", "conjugate", "diag_normal_mixture", "diag_normal_mixture_shared_cov"),
    *("gaussian_scale_mixture", "multivariate_studentt", "nanmasked", "relaxed_straight_through"),
    "softlaplace",
)
_MCMC = (f"{_NAMES}.draws", "brancher.infer", "brancher.infer.mcmc", *_NUMBERS)
_OPTIM = ("brancher.optim",)

_OURS = (
    *("block", "broadcast", "condition", "do", "enum", "equalize", "escape", "infer_config", "lift", "mask"),
    *("reparam", "replay", "scale", "seed", "substitute", "trace", "uncondition"),
)
_EFFECT_MODULES = (
    *("handlers", "messenger", "runtime", "trace_struct", "util"),
    *(f"{name}_messenger" for name in (*_OURS, "indep", "markov", "plate", "reentrant", "subsample")),
)


def _class_name(handler: str) -> str:
    return "".join(word.capitalize() for word in handler.split("_")) + "Messenger"


#: By path, the modules that hold its names.
MODULES: dict[str, tuple[str, ...]] = {
    **{f"brancher.distributions.{path}": _DIST for path in _LAWS},
    "brancher.distributions.distribution": _DIST,
    "brancher.distributions.testing": (),
    "brancher.distributions.testing.fakes": (f"{_NAMES}.fakes",),
    "brancher.distributions.torch": _DIST,
    "brancher.distributions.torch_distribution": _DIST,
    "brancher.distributions.torch_transform": ("brancher.distributions.transforms",),
    "brancher.distributions.util": _DIST,
    "brancher.infer.abstract_infer": _ELBO,
    "brancher.infer.autoguide.effect": ("brancher.infer.autoguide",),
    "brancher.infer.autoguide.guides": ("brancher.infer.autoguide", f"{_NAMES}.guides"),
    "brancher.infer.autoguide.utils": (f"{_NAMES}.guides",),
    "brancher.infer.discrete": _ELBO,
    "brancher.infer.energy_distance": _ELBO,
    "brancher.infer.enum": _ELBO,
    "brancher.infer.inspect": ("brancher.infer.dependencies", "brancher.render"),
    "brancher.infer.mcmc.api": _MCMC,
    "brancher.infer.mcmc.mcmc_kernel": (f"{_NAMES}.kernels", *_MCMC),
    "brancher.infer.mcmc.rwkernel": _MCMC,
    "brancher.infer.mcmc.util": _MCMC,
    "brancher.infer.renyi_elbo": _ELBO,
    **{
        f"brancher.infer.reparam.{path}": ("brancher.infer.reparam",)
        for path in (
            *("discrete_cosine", "haar", "projected_normal", "reparam", "softmax", "strategies"),
            "studentt",
        )
    },
    "brancher.infer.rws": _ELBO,
    "brancher.infer.trace_elbo": _ELBO,
    "brancher.infer.trace_mean_field_elbo": _ELBO,
    "brancher.infer.trace_mmd": _ELBO,
    "brancher.infer.trace_tail_adaptive_elbo": _ELBO,
    "brancher.infer.traceenum_elbo": _ELBO,
    "brancher.infer.tracegraph_elbo": _ELBO,
    "brancher.infer.tracetmc_elbo": _ELBO,
    "brancher.infer.util": _ELBO,
    "brancher.nn.auto_reg_nn": ("brancher.nn",),
    "brancher.nn.dense_nn": ("brancher.nn",),
    "brancher.optim.adagrad_rmsprop": _OPTIM,
    "brancher.optim.clipped_adam": _OPTIM,
    "brancher.optim.lr_scheduler": _OPTIM,
    "brancher.optim.optim": _OPTIM,
    "brancher.optim.pytorch_optimizers": _OPTIM,
    "brancher.params.param_store": ("brancher.params",),
    **{f"brancher.poutine.{path}": _HANDLERS for path in _EFFECT_MODULES},
    "brancher.ops.special": (f"{_NAMES}.arrays",),
    "brancher.ops.tensor_utils": (f"{_NAMES}.arrays",),
    "brancher.settings": (f"{_NAMES}.settings",),
    "brancher.util": (*_NUMBERS, f"{_NAMES}.guides"),
}

#: New names of what Pyro calls otherwise.
RENAMED: dict[str, str] = {
    "CondIndepStackFrame": "brancher.handlers:Frame",
    "ParamStoreDict": "brancher.params:ParamStore",
    "PlateMessenger": "brancher.primitives:plate",
    "StructuredReparam": "brancher.infer.reparam:NeuTraReparam",
    "TorchDistributionMixin": "brancher.distributions:TorchDistribution",
    "TraceHandler": "brancher.handlers:trace",
    **{_class_name(handler): f"brancher.handlers:{handler}" for handler in _OURS},
}

#: Modules that make their names when they are asked for.
_MADE_ON_DEMAND = frozenset(_OPTIM)

#: Names that a module of ours lacks where Pyro's module of that name has them.
ELSEWHERE: dict[str, tuple[str, ...]] = {
    "brancher": (f"{_NAMES}.modules",),
    "brancher.distributions": ("brancher.distributions.transforms",),
    "brancher.distributions.transforms": ("brancher.distributions.constraint_registry",),
    "brancher.handlers": _HANDLERS,
    "brancher.infer": (
        f"{_NAMES}.draws",
        f"{_NAMES}.posteriors",
        "brancher.infer.mcmc",
        f"{_NAMES}.switches",
    ),
    "brancher.poutine": _HANDLERS,
    "brancher.infer.autoguide.initialization": (f"{_NAMES}.starts",),
    "brancher.infer.mcmc": (f"{_NAMES}.draws",),
    "brancher.infer.reparam": (),
    "brancher.infer.predictive": ("brancher.infer.weighed_predictive", "brancher.infer.resampling"),
    "brancher.infer.importance": (f"{_NAMES}.pairs", "brancher.infer.diagnostics"),
    "brancher.infer.mcmc.hmc": _MCMC,
    "brancher.infer.mcmc.nuts": _MCMC,
}


def find(module: str, name: str) -> Any:
    """Return what a name of Pyro's module is here.

    Raises:
        AttributeError: it is nothing.
    """
    path = f"{module}.{name}"
    if path in MODULES:
        return importlib.import_module(path)
    for place in (*MODULES.get(module, ()), *ELSEWHERE.get(module, ())):
        home = importlib.import_module(place)
        found = vars(home).get(name)
        if found is None and place in _MADE_ON_DEMAND and not name.startswith("_"):
            found = getattr(home, name, None)
        if found is not None:
            return found
    if name in RENAMED and (module in MODULES or module in ELSEWHERE):
        place, new = RENAMED[name].split(":")
        return getattr(importlib.import_module(place), new)
    raise AttributeError(f"module {module!r} has no attribute {name!r}{nearest(name, known(module))}")


def known(module: str) -> list[str]:
    """The names that a path offers."""
    places = (importlib.import_module(place) for place in MODULES.get(module, (module,)))
    return sorted({name for place in places for name in vars(place) if not name.startswith("_")})


class _Loader(Loader):
    """Fills a module whose names are looked up where they are now."""

    def __init__(self, instead: Mapping[str, Mapping[str, str]]) -> None:
        self.instead = instead

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        path = module.__name__

        def __getattr__(name: str) -> Any:
            try:
                return find(path, name)
            except AttributeError:
                if name.startswith("__"):
                    raise
                raise AbsentNameError(self._text(path, name)) from None

        module.__dict__.update(__getattr__=__getattr__, __doc__=f"Pyro's path of {MODULES[path]}.")

    def _text(self, path: str, name: str) -> str:
        hints = (self.instead.get(place, {}).get(name) for place in (path, *MODULES[path]))
        hint = next(filter(None, hints), f"docs/from_pyro.md says what is here{nearest(name, known(path))}")
        return f"{path}.{name}: expected a name of {path}, got one of Pyro; {hint}"


class PyroModules(MetaPathFinder):
    """Finds the paths of :data:`MODULES`, and tells what to use instead of those that are absent.

    Args:
        instead: by module, what stands in for a name.
    """

    def __init__(self, instead: Mapping[str, Mapping[str, str]]) -> None:
        self.instead = instead

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of one of Pyro's paths; None for a name that is none."""
        if fullname in MODULES:
            is_package = any(other.startswith(f"{fullname}.") for other in MODULES)
            return ModuleSpec(fullname, _Loader(self.instead), is_package=is_package)
        parent, _, name = fullname.rpartition(".")
        if name in self.instead.get(parent, ()):
            raise AbsentNameError(
                f"{fullname}: expected a module of {parent}, got one of Pyro; {self.instead[parent][name]}"
            )
        return None


def install(instead: Mapping[str, Mapping[str, str]]) -> None:
    """Let imports find Pyro's paths, once for a process."""
    if not any(isinstance(finder, PyroModules) for finder in sys.meta_path):
        sys.meta_path.append(PyroModules(instead))
