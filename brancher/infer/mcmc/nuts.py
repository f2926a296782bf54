"""The No-U-Turn Sampler as a state machine: one leapfrog of every chain an iteration.

The tree is built without recursion: a subtree's turning points are found from O(log) checkpoints of its
momenta, and a chain whose tree is finished begins its next draw in the next iteration, so no chain waits.

Sources: Hoffman & Gelman 2014 (the tree); Betancourt 2017, arXiv:1701.02434, appendix A (multinomial and
biased progressive sampling, the criterion on summed momenta); Phan, Pradhan, Jankowiak 2019,
arXiv:1912.11554 (iterative checkpoints); Dance et al. 2025, "Efficiently vectorized MCMC on modern
accelerators" (the state machine); the Stan 2.21 release (checks across the two halves of a tree).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from brancher.absent import refuse
from brancher.infer.mcmc import rng, stepsize
from brancher.infer.mcmc.integrator import Gradient, Metric, Phase, leapfrog
from brancher.infer.mcmc.state import Chain, Control, Info, pick, pick_all

if not TYPE_CHECKING:
    __getattr__ = refuse(__name__)

_MAX_ENERGY_ERROR = 1000.0
_TAKE, _MERGE, _TURN = range(3)  # columns of the uniforms


class Tree(NamedTuple):
    """A tree or subtree: its multinomial proposal, summed momenta and log weight.

    ``(C, D)`` for positions, gradients and ``rho``; ``(C,)`` otherwise.
    """

    position: Tensor
    grad: Tensor
    log_prob: Tensor
    energy: Tensor
    rho: Tensor
    log_weight: Tensor


class State(NamedTuple):
    """Chains in the middle of their trees.

    Attributes:
        chain: the last finished draws.
        fresh: 1 where a draw is about to begin, int64 ``(C,)``.
        forward: 1 where the tree grows forward in time.
        depth: doublings done.
        leaf: leaves of the growing subtree so far.
        near: the end that grows.
        far: the end that rests; its ``log_prob`` is not kept up.
        tree: the finished part.
        subtree: the growing part.
        energy: Hamiltonian at the start of the draw.
        accept_sum: acceptance probabilities summed over leaves.
        steps: leaves so far, all subtrees.
        checkpoints: momentum, momentum sum and preceding momentum at the starts of open subtrees,
            ``(C, max_tree_depth + 1, 3, D)``. Scratch: `NUTS.step` writes it in place.
    """

    chain: Chain
    fresh: Tensor
    forward: Tensor
    depth: Tensor
    leaf: Tensor
    near: Phase
    far: Phase
    tree: Tree
    subtree: Tree
    energy: Tensor
    accept_sum: Tensor
    steps: Tensor
    checkpoints: Tensor


@dataclass(frozen=True)
class NUTSKernel:
    """Transition of the No-U-Turn Sampler.

    Args:
        target_accept: acceptance probability that the step size is adapted to.
        max_tree_depth: most doublings; a draw has at most ``2**max_tree_depth - 1`` leapfrogs.
    """

    target_accept: float = 0.8
    max_tree_depth: int = 10

    def init(self, chain: Chain) -> State:
        """Return the state of chains that are about to begin a draw."""
        like, zero = chain.position, torch.zeros_like(chain.log_prob)
        none = torch.zeros_like(chain.drawn)
        phase = Phase(like.clone(), torch.zeros_like(like), chain.grad.clone(), zero.clone())
        tree = Tree(like.clone(), chain.grad.clone(), zero.clone(), zero.clone(), like * 0, zero.clone())
        return State(
            chain=chain,
            fresh=torch.ones_like(none),
            forward=none.clone(),
            depth=none.clone(),
            leaf=none.clone(),
            near=phase,
            far=Phase(*(field.clone() for field in phase)),
            tree=tree,
            subtree=Tree(*(field.clone() for field in tree)),
            energy=zero.clone(),
            accept_sum=zero.clone(),
            steps=none.clone(),
            checkpoints=like.new_zeros(like.shape[0], self.max_tree_depth + 1, 3, like.shape[1]),
        )

    def step(self, state: State, metric: Metric, gradient: Gradient, control: Control) -> tuple[State, Info]:
        """Add one leaf to every chain's tree, and finish the draws whose trees are complete."""
        active = state.chain.drawn < control.limit
        chain, dtype = state.chain, state.energy.dtype
        uniforms = rng.uniforms(chain.key, chain.tick, 3, dtype)
        log_uniforms = uniforms.log()
        state = _begin_draw(state, metric)
        state = _begin_subtree(state, uniforms[:, _TURN] < 0.5)
        before = state.near.momentum
        step_size = state.chain.step.log_step.exp()
        signed = torch.where(state.forward > 0, step_size, -step_size)
        near = leapfrog(state.near, signed, metric, gradient)
        energy, gain = _energy_gain(near, state.energy, metric)
        subtree = _add_leaf(state.subtree, near, energy, gain, log_uniforms[:, _TAKE])
        turning = self._subtree_turns(state, near.momentum, subtree.rho, metric)
        diverging = gain < -_MAX_ENERGY_ERROR
        full = state.leaf + 1 >= torch.ones_like(state.depth) << state.depth
        merged = full & ~turning & ~diverging
        whole, turned = self._merge(state, subtree, near.momentum, before, metric)
        take = merged & (log_uniforms[:, _MERGE] < subtree.log_weight - state.tree.log_weight)
        tree = _merged_tree(state.tree, subtree, whole, merged, take)
        depth = state.depth + merged.long()
        done = active & (turning | diverging | (merged & (turned | (depth >= self.max_tree_depth))))
        accept_sum = state.accept_sum + gain.clamp(max=0).exp()
        steps = state.steps + 1
        accept = accept_sum / steps
        self._write_checkpoint(state, near.momentum, subtree.rho, before)
        new = state._replace(
            chain=self._finish(state.chain, tree, accept, active, done, control),
            fresh=torch.where(active, done.long(), torch.ones_like(depth)),
            depth=depth,
            leaf=torch.where(merged | done | ~active, torch.zeros_like(depth), state.leaf + 1),
            near=near,
            tree=tree,
            subtree=subtree,
            accept_sum=accept_sum,
            steps=steps,
        )
        flag = diverging.to(dtype)
        info = Info(
            done, accept, steps.to(dtype), depth.to(dtype), flag, tree.energy, tree.log_prob, step_size
        )
        return new, info

    def _subtree_turns(self, state: State, momentum: Tensor, rho: Tensor, metric: Metric) -> Tensor:
        """Whether a subtree that ends at this leaf has turned; only odd leaves end one."""
        levels = self.max_tree_depth
        level = torch.arange(levels, device=rho.device)
        last = _ones(state.leaf >> 1, level)
        first = last - _ones(state.leaf ^ (state.leaf + 1), level) + 2
        ends = (level >= first[:, None]) & (level <= last[:, None])
        start, total, before = state.checkpoints[:, :levels].unbind(2)
        v_now = metric.velocity(momentum)[:, None]
        v_start, v_before = metric.velocity(start), metric.velocity(before)
        turned = _turns(rho[:, None] - total + start, v_start, v_now.expand_as(start)) & ends
        # The right half of a subtree begins at the checkpoint of the next level.
        left = total[:, 1:] - total[:, :-1] + start[:, :-1]
        right = rho[:, None] - total[:, 1:] + start[:, 1:] + before[:, 1:]
        across = _turns(left, v_start[:, :-1], v_start[:, 1:])
        across = across | _turns(right, v_before[:, 1:], v_now.expand_as(right))
        return (turned.any(-1)) | (across & ends[:, :-1] & ends[:, 1:]).any(-1)

    def _merge(
        self, state: State, subtree: Tree, momentum: Tensor, before: Tensor, metric: Metric
    ) -> tuple[Tensor, Tensor]:
        """Summed momenta of tree and subtree together, and whether that path has turned."""
        alone = state.leaf == 0  # the subtree is this leaf, whose checkpoint is not yet written
        first = pick(alone, momentum, state.checkpoints[:, 0, 0])
        face = pick(alone, before, state.checkpoints[:, 0, 2])
        rho = state.tree.rho + subtree.rho
        v_far, v_near = metric.velocity(state.far.momentum), metric.velocity(momentum)
        turned = _turns(rho, v_far, v_near)
        turned = turned | _turns(state.tree.rho + first, v_far, metric.velocity(first))
        turned = turned | _turns(subtree.rho + face, metric.velocity(face), v_near)
        return rho, turned

    def _write_checkpoint(self, state: State, momentum: Tensor, rho: Tensor, before: Tensor) -> None:
        levels = torch.arange(self.max_tree_depth, device=rho.device)
        slot = torch.where(state.leaf % 2 == 0, _ones(state.leaf >> 1, levels), self.max_tree_depth)
        row = torch.arange(rho.shape[0], device=rho.device)
        state.checkpoints.index_put_((row, slot), torch.stack([momentum, rho, before], dim=1))

    def _finish(
        self, chain: Chain, tree: Tree, accept: Tensor, active: Tensor, done: Tensor, control: Control
    ) -> Chain:
        adapted = stepsize.update(chain.step, accept, self.target_accept)
        return Chain(
            chain.key,
            chain.tick + active.long(),
            chain.drawn + done.long(),
            pick(done, tree.position, chain.position),
            pick(done, tree.grad, chain.grad),
            pick(done, tree.log_prob, chain.log_prob),
            pick_all(done & control.adapting, adapted, chain.step),
        )


def _begin_draw(state: State, metric: Metric) -> State:
    """Where a draw begins: new momentum, and a tree of one leaf."""
    fresh, chain = state.fresh > 0, state.chain
    dim, dtype = chain.position.shape[1], chain.position.dtype
    momentum = metric.momentum(rng.normals(chain.key, chain.tick, dim, dtype))
    energy = torch.where(fresh, metric.kinetic(momentum) - chain.log_prob, state.energy)
    start = Phase(chain.position, momentum, chain.grad, chain.log_prob)
    zero = torch.zeros_like(energy)
    leaf = Tree(chain.position, chain.grad, chain.log_prob, energy, momentum, zero)
    none = torch.zeros_like(state.depth)
    return state._replace(
        near=pick_all(fresh, start, state.near),
        far=pick_all(fresh, start, state.far),
        tree=pick_all(fresh, leaf, state.tree),
        energy=energy,
        depth=torch.where(fresh, none, state.depth),
        accept_sum=torch.where(fresh, zero, state.accept_sum),
        steps=torch.where(fresh, none, state.steps),
    )


def _begin_subtree(state: State, forward: Tensor) -> State:
    """Where a subtree begins: choose its direction, and put the end that grows there in front."""
    begins = state.leaf == 0
    flips = begins & (forward != (state.forward > 0))
    weight = state.subtree.log_weight
    subtree = state.subtree._replace(
        rho=pick(begins, torch.zeros_like(state.subtree.rho), state.subtree.rho),
        log_weight=torch.where(begins, torch.full_like(weight, -math.inf), weight),
    )
    return state._replace(
        forward=torch.where(begins, forward.long(), state.forward),
        near=pick_all(flips, state.far, state.near),
        far=pick_all(flips, state.near, state.far),
        subtree=subtree,
    )


def _energy_gain(near: Phase, energy: Tensor, metric: Metric) -> tuple[Tensor, Tensor]:
    now = metric.kinetic(near.momentum) - near.log_prob
    return now, torch.nan_to_num(energy - now, nan=-math.inf, posinf=math.inf, neginf=-math.inf)


def _add_leaf(subtree: Tree, near: Phase, energy: Tensor, gain: Tensor, log_uniform: Tensor) -> Tree:
    weight = torch.logaddexp(subtree.log_weight, gain)
    take = log_uniform < gain - weight
    leaf = Tree(near.position, near.grad, near.log_prob, energy, near.momentum, gain)
    chosen: Tree = pick_all(take, leaf, subtree)
    return chosen._replace(rho=subtree.rho + near.momentum, log_weight=weight)


def _merged_tree(tree: Tree, subtree: Tree, rho: Tensor, merged: Tensor, take: Tensor) -> Tree:
    chosen: Tree = pick_all(take, subtree, tree)
    weight = torch.logaddexp(tree.log_weight, subtree.log_weight)
    return chosen._replace(
        rho=pick(merged, rho, tree.rho), log_weight=torch.where(merged, weight, tree.log_weight)
    )


def _turns(rho: Tensor, v_start: Tensor, v_end: Tensor) -> Tensor:
    return ((rho * v_start).sum(-1) <= 0) | ((rho * v_end).sum(-1) <= 0)


def _ones(number: Tensor, bits: Tensor) -> Tensor:
    """Count the one-bits of ``(C,)`` integers."""
    return ((number[:, None] >> bits) & 1).sum(-1)
