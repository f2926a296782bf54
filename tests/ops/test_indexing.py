"""``Vindex`` against loops over all entries."""

from __future__ import annotations

import pytest
import torch

import brancher.distributions as dist
from brancher import markov, param, plate, sample
from brancher.errors import SiteError
from brancher.infer import TraceEnum_ELBO, config_enumerate
from brancher.ops.indexing import Vindex, vindex

X = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
ROWS, COLUMNS = torch.tensor([[0], [2]]), torch.tensor([3, 1, 0])


def test_index_tensors_come_first_and_slices_last():
    got = Vindex(X)[:, ROWS, :, COLUMNS]
    assert got.shape == (2, 3, 2, 4)
    for row in range(2):
        for column in range(3):
            assert torch.equal(got[row, column], X[:, ROWS[row, 0], :, COLUMNS[column]])


def test_ellipsis_stands_for_batch_dimensions():
    index = torch.tensor([3, 0, 2])
    got = Vindex(X)[..., index, :]
    assert got.shape == (2, 3, 5)
    for row in range(2):
        for column in range(3):
            assert torch.equal(got[row, column], X[row, column, index[column]])


def test_missing_indices_are_slices():
    assert torch.equal(Vindex(X)[torch.tensor([1, 0])], X[[1, 0]])
    assert torch.equal(Vindex(X)[1, 2], X[1, 2])
    assert Vindex(X)[...] is X


@pytest.mark.parametrize("index", [slice(0, 1), torch.tensor(1.0), torch.tensor([True, False])])
def test_other_indices_error(index):
    with pytest.raises(SiteError, match="Vindex: expected"):
        vindex(X, index)


def test_too_many_indices_error():
    with pytest.raises(SiteError, match=r"at most 4 indices for shape \(2, 3, 4, 5\)"):
        Vindex(X)[0, 0, 0, 0, 0]


def test_tables_of_each_particle_are_indexed_by_enumerated_values():
    # Every particle has its own table; the loss is the mean of the losses of single tables.
    data = torch.tensor([0.3, -1.0, 2.0])

    @config_enumerate
    def model():
        step = sample("step", dist.Dirichlet(torch.ones(2, 2)).to_event(1))
        with plate("row", 3):
            z = torch.tensor(0)
            for t in markov(range(2)):
                z = sample(f"z_{t}", dist.Categorical(Vindex(step)[..., z, :]))
            sample("x", dist.Normal(z.float(), 1.0), obs=data)

    def guide():
        sample("step", dist.Dirichlet(torch.ones(2, 2) * param("a", torch.tensor(2.0))).to_event(1))

    torch.manual_seed(0)
    many = TraceEnum_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=1)
    got = many.loss(model, guide)
    torch.manual_seed(0)
    steps = dist.Dirichlet(torch.full((4, 1, 2, 2), 2.0)).sample()[:, 0]
    last = torch.stack([step[0] @ step for step in steps]).log()
    rows = (dist.Normal(torch.arange(2.0), 1.0).log_prob(data[:, None]) + last[:, None]).logsumexp(-1).sum(-1)
    prior, posterior = dist.Dirichlet(torch.ones(2)), dist.Dirichlet(torch.full((2,), 2.0))
    weights = (prior.log_prob(steps) - posterior.log_prob(steps)).sum(-1)
    assert got == pytest.approx(-float((rows + weights).mean()), rel=1e-4)
