"""Each chain in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

import torch

from brancher.errors import InferenceError

if TYPE_CHECKING:
    from brancher.infer.mcmc.mcmc import MCMC
    from brancher.infer.mcmc.progress import Progress
    from brancher.infer.mcmc.sampler import Sampler


def run_parallel(mcmc: MCMC, samplers: list[Sampler], target: int, bar: Progress) -> None:
    """Run each sampler to ``target`` draws in a fresh process; the first exception ends all, and is raised.

    Raises:
        InferenceError: the model can not be sent to another process.
    """
    payloads = [_payload(mcmc, number, sampler, target) for number, sampler in enumerate(samplers)]
    workers = min(len(payloads), os.cpu_count() or 1)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = {pool.submit(_work, payload): number for number, payload in enumerate(payloads)}
        try:
            for future in as_completed(futures):
                sampler = samplers[futures[future]]
                before = sampler.num_done
                sampler.load_dict(pickle.loads(future.result()))
                bar.advance(sampler.num_done - before)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _payload(mcmc: MCMC, number: int, sampler: Sampler, target: int) -> bytes:
    density = mcmc._density
    inputs = (getattr(density, "args", ()), getattr(density, "kwargs", {}))
    # numpy, because tensors would be sent through shared memory that outlives neither process
    try:
        return pickle.dumps(
            (mcmc.kernel, mcmc.compile, mcmc.warmup_steps, mcmc.num_samples, mcmc.initial_params)
            + (number, inputs, _plain(sampler.to_dict()), target, torch.get_default_dtype())
        )
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InferenceError(
            f"MCMC: expected a model that can be sent to another process, got {error}; define it at the "
            "top of a module, or use chain_method='vectorized'"
        ) from error


def _work(payload: bytes) -> bytes:
    from brancher.infer.mcmc.mcmc import MCMC

    kernel, compile, warmup, samples, params, number, inputs, state, target, dtype = pickle.loads(payload)
    torch.set_num_threads(1)
    torch.set_default_dtype(dtype)
    mcmc = MCMC(kernel, samples, warmup, params, compile=compile, seed=number, progress=False)
    sampler = mcmc._open(inputs[0], inputs[1])
    sampler.load_dict(state)
    sampler.run(target)
    return pickle.dumps(_plain(sampler.to_dict()))


def _plain(saved: Any) -> Any:
    """Copies of all tensors, which pickle by value."""
    if isinstance(saved, torch.Tensor):
        return saved.clone()
    if isinstance(saved, dict):
        return {name: _plain(value) for name, value in saved.items()}
    if isinstance(saved, (list, tuple)):
        return [_plain(value) for value in saved]
    return saved
