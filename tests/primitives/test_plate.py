"""Plates: dimensions, subsamples, loops, and what they refuse."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from brancher import deterministic, handlers, param, plate, plate_stack, sample, subsample
from brancher import distributions as dist
from brancher.errors import GuideError, PlateError, PlateIndexError, SiteError, SiteTypeError
from brancher.handlers import Frame, stack, trace
from brancher.infer import SVI, Trace_ELBO
from brancher.infer.autoguide import AutoNormal
from brancher.optim import Adam


def normal(*shape):
    return dist.Normal(torch.zeros(shape), 1.0)


def test_plate_expands_a_site():
    with plate("row", 4) as rows:
        assert sample("x", dist.Normal(0.0, 1.0)).shape == (4,)
    assert rows.tolist() == [0, 1, 2, 3]


def test_nested_plates_take_dimensions_from_the_right():
    with plate("a", 3), plate("b", 2):
        assert sample("x", dist.Normal(0.0, 1.0)).shape == (2, 3)


def test_explicit_dim_is_honoured():
    with plate("a", 3, dim=-2), plate("b", 2):
        assert sample("x", dist.Normal(0.0, 1.0)).shape == (3, 2)


def test_plates_beside_each_other_share_a_dimension():
    with plate("a", 3):
        x = sample("x", dist.Normal(0.0, 1.0))
    with plate("b", 2):
        y = sample("y", dist.Normal(0.0, 1.0))
    assert (x.shape, y.shape) == ((3,), (2,))


def test_one_plate_object_can_be_opened_twice():
    rows = plate("row", 50, subsample_size=4)
    with rows as first:
        pass
    with rows as second:
        pass
    assert torch.equal(first, second)


def test_subsample_scales_the_density():
    def model():
        with plate("row", 10, subsample_size=2):
            sample("x", normal(2), obs=torch.zeros(2))

    trace = handlers.trace(model).get_trace()
    assert torch.allclose(trace.log_prob_sum(), 10 * dist.Normal(0.0, 1.0).log_prob(torch.tensor(0.0)))


def test_given_subsample_is_taken():
    with plate("row", 10, subsample_size=3, subsample=torch.tensor([7, 1, 3])) as rows:
        assert rows.tolist() == [7, 1, 3]


def test_subsample_selects_data_and_parameters():
    data = torch.arange(10.0)
    with plate("row", 10, subsample=torch.tensor([4, 2])):
        assert subsample(data, event_dim=0).tolist() == [4.0, 2.0]
        assert param("w", data, event_dim=0).tolist() == [4.0, 2.0]


def test_subsample_keeps_event_dimensions():
    data = torch.arange(20.0).reshape(10, 2)
    with plate("row", 10, subsample=torch.tensor([4])):
        assert subsample(data, event_dim=1).tolist() == [[8.0, 9.0]]


def test_iterated_plate_counts_and_scales():
    def model():
        for i in plate("row", 6, subsample_size=3):
            sample(f"x_{i}", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))

    trace = handlers.trace(model).get_trace()
    assert len(trace.observation_nodes) == 3
    assert torch.allclose(trace.log_prob_sum(), 6 * dist.Normal(0.0, 1.0).log_prob(torch.tensor(0.0)))


def test_coords_are_kept_on_the_frames():
    def model():
        with plate("school", coords=pd.Index(["A", "B"])):
            sample("x", dist.Normal(0.0, 1.0))

    frame = handlers.trace(model).get_trace().plates()["school"]
    assert list(frame.coords) == ["A", "B"] and frame.size == 2


def test_plate_stack_opens_one_plate_a_dimension():
    with plate_stack("grid", [4, 3, 2]) as indices:
        assert sample("x", dist.Normal(0.0, 1.0)).shape == (4, 3, 2)
    assert [len(i) for i in indices] == [4, 3, 2]


def test_plate_as_decorator():
    @plate("row", 3)
    def inside():
        return sample("x", dist.Normal(0.0, 1.0))

    assert inside().shape == (3,)


def test_empty_plate_has_log_prob_zero():
    def model():
        with plate("row", 0):
            sample("x", dist.Normal(0.0, 1.0))

    trace = handlers.trace(model).get_trace()
    assert trace.nodes["x"]["value"].shape == (0,)
    assert trace.log_prob_sum() == 0.0


def test_deterministic_inside_a_plate_keeps_its_value():
    with plate("row", 3):
        assert deterministic("d", torch.arange(3.0)).tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("size", [-3, 2.5, "ten", None])
def test_bad_size_error(size):
    with pytest.raises(PlateError, match="plate 'p': expected a size"):
        plate("p", size)


@pytest.mark.parametrize("dim", [0, 1, "a"])
def test_dim_not_negative_error(dim):
    with pytest.raises(PlateError, match="plate 'p': expected dim as an int < 0"):
        plate("p", 3, dim=dim)


@pytest.mark.parametrize("count", [0, -2, 11])
def test_bad_subsample_size_error(count):
    with pytest.raises(PlateError, match=f"plate 'p'.*got {count}"):
        plate("p", 10, subsample_size=count)


def test_index_outside_error():
    with pytest.raises(
        PlateIndexError, match=r"plate 'p': expected indices in \[0, 10\), got 1 outside, the first 12"
    ):
        plate("p", 10, subsample=torch.tensor([1, 12]))


def test_taken_dim_error():
    def both():
        with plate("p", 3, dim=-1), plate("q", 2, dim=-1):
            pass

    with pytest.raises(PlateError, match="plate 'q'.*plate 'p' holds; try dim=-2"):
        both()
    assert stack.current() == ()


def test_plate_inside_itself_error():
    with pytest.raises(PlateError, match="plate 'p'.*not open"):
        for _ in plate("p", 3):
            with plate("p", 3):
                pass
    assert stack.current() == ()


def test_size_against_batch_shape_error():
    def unequal():
        with plate("p", 3):
            sample("x", normal(4))

    with pytest.raises(PlateError, match=r"site 'x': expected size 3 at dim -1 for plate 'p'.*\(4,\)"):
        unequal()


def test_data_not_subsampled_error():
    def model():
        with plate("p", 10, subsample_size=2):
            sample("x", dist.Normal(0.0, 1.0), obs=torch.zeros(10))

    with pytest.raises(SiteError, match=r"site 'x'.*\[2\].*\[10\]"):
        handlers.trace(model).get_trace()


def test_one_name_two_sizes_error():
    def model():
        with plate("p", 3):
            sample("x", dist.Normal(0.0, 1.0))
        with plate("p", 4):
            sample("y", dist.Normal(0.0, 1.0))

    with pytest.raises(PlateError, match="plate 'p'.*3.*4"):
        handlers.trace(model).get_trace()


def test_param_of_another_size_error():
    with pytest.raises(PlateError, match="param 'w'.*plate 'p'"), plate("p", 3):
        param("w", torch.zeros(5), event_dim=0)


def test_coords_of_another_length_error():
    with pytest.raises(PlateError, match="plate 'p': expected 3 coords"):
        plate("p", 3, coords=["a"])


def test_name_not_a_string_error():
    with pytest.raises(SiteTypeError, match="plate: expected the name.*3 of type int"):
        plate(3, 3)


def test_plate_without_a_size_has_that_of_its_data():
    data = torch.randn(7)

    def model():
        loc = sample("loc", dist.Normal(0.0, 1.0))
        with plate("row") as rows:
            assert rows is None
            x = sample("x", dist.Normal(loc, 1.0), obs=data)
            y = sample("y", dist.Normal(0.0, 1.0))
            with plate("column", 3):
                z = sample("z", dist.Normal(x, 1.0))
        assert y.shape == (7,) and z.shape == (3, 7)

    record = trace(model).get_trace()
    assert {site: record.nodes[site].frames for site in ("x", "y")} == {
        site: (Frame("row", -1, 7, 7),) for site in ("x", "y")
    }


def test_plate_without_a_size_has_that_of_its_distribution():
    with trace() as recorder, plate("row", dim=-2):
        sample("x", dist.Normal(torch.zeros(5, 1), 1.0))
        sample("e", dist.Normal(torch.zeros(4), 1.0).to_event(1))
    assert [site.frames[0].size for site in recorder.trace.sites("sample")] == [5, 5]
    assert recorder.trace.nodes["e"]["value"].shape == (5, 1, 4)


def test_plate_without_a_size_reads_rows_left_of_the_event():
    with trace() as recorder, plate("row"):
        sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1), obs=torch.zeros(6, 2))
    assert recorder.trace.nodes["x"].frames[0].size == 6


def test_plate_without_a_size_and_without_rows_error():
    with pytest.raises(PlateError, match="expected a size, or rows in the first site inside"), plate("row"):
        sample("x", dist.Normal(0.0, 1.0))
    with pytest.raises(
        PlateError, match="plate 'row': expected a size for its indices, got none; write plate"
    ):
        next(iter(plate("row")))
    with pytest.raises(PlateError, match="expected a size as an int"):
        plate("row", subsample_size=3)


def test_plate_without_a_size_refuses_other_rows():
    with pytest.raises(PlateError, match="site 'y': expected size 7 at dim -1 for plate"), plate("row"):
        sample("x", dist.Normal(torch.zeros(7), 1.0))
        sample("y", dist.Normal(torch.zeros(6), 1.0))


def test_plate_without_a_size_is_learned_like_any_other():
    data = torch.tensor([1.0, 2.0, 3.0])

    def model(y):
        loc = sample("loc", dist.Normal(0.0, 10.0))
        with plate("row"):
            z = sample("z", dist.Normal(loc, torch.ones(len(y))))
            sample("y", dist.Normal(z, 1.0), obs=y)

    guide = AutoNormal(model)
    losses = SVI(model, guide, Adam({"lr": 0.05}), Trace_ELBO(num_particles=4)).run(3, data, progress=False)
    assert losses.notna().all() and guide.median(data)["z"].shape == (3,)


def test_model_without_a_subsample_takes_the_rows_of_its_guide():
    data = torch.arange(10.0)

    def model():
        with plate("row", 10) as rows:
            z = sample("z", dist.Normal(0.0, 1.0))
            sample("y", dist.Normal(z, 1.0), obs=data[rows])

    def guide():
        with plate("row", 10, subsample_size=3):
            sample("z", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))

    drawn = trace(guide).get_trace()
    record = trace(handlers.replay(model, trace=drawn)).get_trace()
    assert torch.equal(record.nodes["y"]["value"], data[drawn.nodes["row"]["value"]])
    assert record.nodes["y"]["scale"] == 10 / 3 and trace(model).get_trace().nodes["y"]["scale"] == 1.0
    assert SVI(model, guide, Adam({"lr": 0.01})).step() > 0


def test_rows_of_a_guide_that_the_model_lacks_error():
    def program(size, **options):
        with plate("row", size, **options):
            sample("z", dist.Normal(0.0, 1.0))

    drawn = trace(lambda: program(10, subsample=torch.tensor([1, 8]))).get_trace()
    with pytest.raises(PlateIndexError, match=r"plate 'row': expected indices in \[0, 5\), got 1 outside"):
        handlers.replay(lambda: program(5), trace=drawn)()


# Rows given as data


@pytest.mark.parametrize("batch", [torch.zeros(4, 2), torch.zeros(4), ["a", "b", "c", "d"]])
def test_a_batch_in_place_of_rows_counts_and_is_yielded(batch):
    def program():
        with plate("row", 20, subsample=batch) as given:
            sample("x", dist.Normal(0.0, 1.0), obs=torch.zeros(4))
        return given

    record = handlers.trace(program).get_trace()
    assert record["_RETURN"].value is batch
    expected = 20 / 4 * 4 * dist.Normal(0.0, 1.0).log_prob(torch.tensor(0.0))
    torch.testing.assert_close(record.log_prob_sum(), expected)


def test_a_loop_over_a_batch_goes_through_it():
    assert list(plate("row", 9, subsample=["a", "b"])) == ["a", "b"]


def test_a_batch_in_place_of_rows_is_the_same_in_model_and_guide():
    batch = torch.randn(3, 2)

    def model(rows):
        with plate("row", 12, subsample=rows):
            z = sample("z", dist.Normal(0.0, 1.0))
            sample("x", dist.Normal(z, 1.0), obs=batch[:, 0])

    def guide(rows):
        with plate("row", 12, subsample=rows):
            sample("z", dist.Normal(param("loc", torch.zeros(())), 1.0))

    losses = []
    for rows in (batch, torch.tensor([4, 0, 7])):
        torch.manual_seed(0)
        losses.append(Trace_ELBO().loss(model, guide, rows))
    assert losses[0] == pytest.approx(losses[1])


def test_a_batch_in_place_of_rows_can_not_cut_data_error():
    with (
        pytest.raises(PlateError, match="plate 'row': expected subsample as row indices where subsample"),
        plate("row", 9, subsample=torch.zeros(3, 2)),
    ):
        subsample(torch.zeros(9), event_dim=0)


def test_guide_of_local_sites_needs_rows_error():
    def model():
        with plate("row", 9, subsample=torch.zeros(3, 2)):
            sample("z", dist.Normal(0.0, 1.0))

    with pytest.raises(GuideError, match="plate 'row': expected subsample as row indices around the latent"):
        AutoNormal(model)()


@pytest.mark.parametrize("subsample", [torch.tensor([True, False]), 3, torch.tensor(3)])
def test_no_rows_and_no_batch_error(subsample):
    with pytest.raises(PlateError, match="or a batch of data with a length"):
        plate("row", 9, subsample=subsample)
