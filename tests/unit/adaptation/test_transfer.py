"""Unsupervised transfer: split networks, the loss of pairs, training, and the figures that guard it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import Module

from helpers import flux_runs
from lumos.adaptation.compare import compare_held_out, figures_table, find_excesses
from lumos.adaptation.held_out import HeldOutRows, measure_held_out
from lumos.adaptation.pairs import choose_pairs
from lumos.adaptation.settings import AdaptSettings
from lumos.adaptation.transfer import labelled_inputs, pair_inputs, pair_loss, split_model, transfer
from lumos.errors import LumosDataError, LumosValueError
from lumos.flags import Flag
from lumos.nets.inputs import NetworkInputs
from lumos.nets.losses import overlap_nll
from lumos.nets.model import FluxModel, ModelConfig
from lumos.photometry.measured import open_run
from lumos.teahupoo.draws import FluxProposal

PROPOSAL = FluxProposal()
SMALL = {"channels": [4, 6, 8], "hidden": 16}


def residual(**changes):
    torch.manual_seed(6)
    config = {"name": "small", "architecture": "residual", "kind": "likelihood", "network": SMALL, **changes}
    return FluxModel.create(ModelConfig(**config))


def paper():
    torch.manual_seed(7)
    config = ModelConfig(
        name="p", architecture="paper", kind="posterior", bands=("r",), states=("",), network={"n_components": 3}
    )
    return FluxModel.create(config)


def stamps(n, seed, n_channels=4, n_scalars=14):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    index = torch.zeros(n, 2, dtype=torch.int64) if n_channels == 4 else torch.zeros(n, dtype=torch.int64)
    inputs = (normal(n, n_channels, 60, 60), normal(n, n_scalars), index, 30 * normal(n), 1 + torch.rand(n))
    return NetworkInputs(*inputs, torch.zeros(n), torch.ones(n, dtype=torch.bool))


@pytest.mark.parametrize("layers", ["head", "dense", "all"])
@pytest.mark.parametrize(("model", "shape"), [(residual(), (4, 14)), (paper(), (2, 3))], ids=["residual", "paper"])
def test_the_tail_continues_the_network(model, shape, layers):
    inputs = stamps(5, 1, *shape)
    split = split_model(model, layers)
    reduced = split.reduce(inputs)
    expected, found = model.predict(inputs), split.tail.predict(reduced)
    for one, other in zip(expected.parameters, found.parameters, strict=True):
        assert torch.allclose(one, other, atol=1e-6, rtol=1e-6)
    if layers == "head":
        assert reduced.images.shape == (5, model.network.head.linear.in_features)
        assert sum(p.numel() for p in split.tail.network.parameters()) == sum(
            p.numel() for p in model.network.head.parameters()
        )


def test_unknown_layers_are_refused():
    with pytest.raises(LumosValueError, match="layers to adapt: got 'some', allowed: head, dense, all"):
        split_model(residual(), "some")


def toy(model, n, seed, scale=1.0):
    """Pairs of random stamps and labelled ones, as the tail sees them, fluxes in units of ``scale``."""
    split = split_model(model, "head")
    inputs = stamps(2 * n, seed)
    # Both stamps of a pair show nearly the same flux.
    inputs.centre[n:] = inputs.centre[:n] + 2 * torch.randn(n, generator=torch.Generator().manual_seed(seed))
    reduced = split.reduce(replace(inputs, centre=inputs.centre * scale, unit=inputs.unit * scale))
    error = torch.ones(2 * n) * scale
    pairs, _ = pair_inputs(reduced, error, 20 + 0 * error, np.arange(n), np.arange(n, 2 * n))
    flux = reduced.centre + 1.5 * reduced.unit * torch.randn(2 * n, generator=torch.Generator().manual_seed(seed + 1))
    labelled = labelled_inputs(reduced, flux, error, 20 + 0 * error, np.ones(2 * n, dtype=bool))
    return split, pairs, labelled


def test_loss_of_pairs_knows_no_unit():
    split, pairs, _ = toy(residual(), 20, 2)
    _, other, _ = toy(residual(), 20, 2, scale=1e5)
    # Single precision of centres of 100 units.
    assert torch.allclose(
        pair_loss(split.tail, pairs, PROPOSAL), pair_loss(split.tail, other, PROPOSAL), atol=2e-3, rtol=0
    )


def test_loss_of_posteriors_is_eq_11_cut_where_the_model_cuts():
    split, pairs, _ = toy(residual(kind="posterior", cut_from=20.5), 12, 3)
    pairs = replace(pairs, ref_mag=torch.tensor([19.0, 22.0]).repeat(12))
    loss = pair_loss(split.tail, pairs, PROPOSAL)
    unit = pairs.inputs.unit[pairs.first]
    flux = split.tail.predict(pairs.inputs)
    one, two = (
        type(flux)(*(part[rows] for part in flux.parameters)).scaled(1 / unit, 0 * unit)
        for rows in (pairs.first, pairs.second)
    )
    faint = pairs.ref_mag[pairs.first] > 20.5
    expected = torch.where(faint, overlap_nll(one, two, truncated=True), overlap_nll(one, two, truncated=False))
    assert 0 < faint.sum() < len(faint)
    assert torch.allclose(loss, expected, atol=1e-3)


def test_unusable_stamps_are_in_no_pair():
    inputs = stamps(4, 5)
    inputs.usable[2] = False
    pairs, usable = pair_inputs(inputs, torch.ones(4), torch.ones(4), np.array([0, 0, 1]), np.array([1, 2, 3]))
    assert usable.tolist() == [True, False, True]
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([0, 1], [1, 3])
    labelled = labelled_inputs(
        inputs, torch.arange(4.0), torch.ones(4), torch.ones(4), np.array([True, True, True, False])
    )
    assert labelled.flux.tolist() == [0, 1]


def weights(network: Module):
    return torch.cat([value.detach().flatten() for value in network.parameters()])


FAST = AdaptSettings(epochs=10, learning_rate=1e-2, batch_size=50)


def test_training_lowers_both_losses_and_touches_the_last_layer_only():
    model = residual()
    before = weights(model.network).clone()
    split, pairs, labelled = toy(model, 100, 4)
    told = []
    curve = transfer(split, FAST, pairs, labelled, PROPOSAL, progress=lambda *args: told.append(args))
    assert curve[-1]["unsupervised"] < curve[0]["unsupervised"] - 0.05
    assert curve[-1]["supervised"] < curve[0]["supervised"] - 0.05
    assert len(curve) == len(told) == 10
    assert torch.equal(before, weights(model.network))
    changed = [
        name
        for (name, one), other in zip(model.network.named_parameters(), split.whole.network.parameters(), strict=True)
        if not torch.equal(one, other)
    ]
    assert changed == ["head.linear.weight", "head.linear.bias"]


def test_training_is_deterministic_and_obeys_its_weights():
    def trained(settings, seed_of_pairs):
        split, _, labelled = toy(residual(), 60, 5)
        _, pairs, _ = toy(residual(), 60, seed_of_pairs)
        transfer(split, settings, pairs, labelled, PROPOSAL)
        return weights(split.tail.network)

    short = FAST.model_copy(update={"epochs": 3})
    assert torch.equal(trained(short, 5), trained(short, 5))
    assert not torch.equal(trained(short, 5), trained(short.model_copy(update={"seed": 2}), 5))
    # Without the unsupervised loss the pairs have no say.
    alone = short.model_copy(update={"unsupervised_weight": 0.0})
    assert torch.equal(trained(alone, 5), trained(alone, 8))
    assert not torch.equal(trained(short, 5), trained(short, 8))


def test_nothing_to_train_with_is_refused():
    split, pairs, labelled = toy(residual(), 10, 5)
    with pytest.raises(LumosValueError, match="pairs and injected galaxies"):
        transfer(split, FAST, pairs.take(slice(0, 0)), labelled, PROPOSAL)


def test_held_out_rows_against_numerical_integration():
    split, pairs, labelled = toy(residual(), 30, 9)
    rows = measure_held_out(split.tail, pairs, labelled, PROPOSAL)
    pdfs = split.tail.predict(labelled.inputs)
    weights, means, stds = (part.double().numpy() for part in (pdfs.log_weights.exp(), pdfs.means, pdfs.stds))
    flux = PROPOSAL.softening * np.sinh(np.linspace(-6.5, 9, 200_001))
    steps = np.gradient(flux)
    log_pi = PROPOSAL.log_prob(torch.from_numpy(flux), torch.ones(1, dtype=torch.float64)).numpy()
    quantiles = []
    for row in range(60):
        components = stats.norm.pdf(flux, means[row][:, None], stds[row][:, None])
        likelihood = (weights[row] @ components) * steps
        quantiles.append(np.interp([0.15865525, 0.5, 0.84134475], likelihood.cumsum() / likelihood.sum(), flux))
        posterior = likelihood * np.exp(log_pi)
        pit = posterior[flux <= float(labelled.flux[row])].sum() / posterior.sum()
        # Probabilities of reweighted PDFs are good to 1e-3.
        assert rows.pit[row] == pytest.approx(pit, abs=2e-3)
    low, middle, high = np.array(quantiles).T
    truth = labelled.flux.double().numpy()
    # The steps of the grid are 1e-4 of the flux.
    assert rows.pull == pytest.approx((middle - truth) / ((high - low) / 2), abs=1e-2)
    assert rows.relative == pytest.approx((middle - truth) / truth, rel=1e-2, abs=1e-2)
    assert rows.snr == pytest.approx(truth)
    a, b = pairs.first.numpy(), pairs.second.numpy()
    width = (high - low) / 2
    assert rows.difference == pytest.approx((middle[a] - middle[b]) / np.hypot(width[a], width[b]), abs=1e-2)
    assert rows.brightness == pytest.approx((middle[a] + middle[b]) / 2, abs=2e-2)


def rows_of(rng, bias=0.0, width=1.0):
    n = 4000
    snr = 10 ** rng.uniform(0.8, 3, n)
    deviate = rng.normal(size=n)
    pit = rng.uniform(size=n)
    return HeldOutRows(
        difference=deviate * width,
        brightness=snr,
        loss=deviate**2,
        snr=snr,
        relative=bias + deviate / snr,
        pull=deviate * width,
        pit=pit ** (1 + 10 * abs(bias)),
    )


def test_figures_and_limits():
    before = rows_of(np.random.default_rng(1))
    same = compare_held_out(before, before)
    assert same["change"] == {"absolute_bias": [0, 0, 0], "absolute_bias_err": [0, 0, 0], "pit_ks": 0}
    assert find_excesses(same, 0.0, 0.0, 0.0) == []
    # sigma68 of 4000 normal deviates is 1 within 4 x 1.2 / sqrt(2 x 4000).
    assert same["before"]["difference_sigma68"] == pytest.approx(1, abs=0.054)
    assert sum(same["n_injected"]) == 4000
    worse = compare_held_out(before, rows_of(np.random.default_rng(1), bias=0.04))
    # Each deviate is the same, so all relative errors grow by the bias alone.
    assert worse["after"]["bias"] == pytest.approx(np.array(worse["before"]["bias"]) + 0.04)
    excesses = find_excesses(worse, 0.01, 0.01, 0.1)
    # The PIT of all, and of each bin.
    assert len(excesses) == 4 + 3
    growth = abs(worse["after"]["bias"][0]) - abs(worse["before"]["bias"][0])
    assert excesses[0].startswith(f"the bias of injected galaxies of S/N 5-20 grows by {growth:.4f}, allowed: 0.01")
    assert "the PIT-KS of injected galaxies grows by" in excesses[3]
    assert find_excesses(worse, 0.05, 0.4, 0.1) == []
    assert "| bias of injected galaxies, S/N above 100 |" in figures_table(worse)


@pytest.mark.parametrize(
    ("shift", "width", "text"),
    [(0.3, 1.0, "the bias in units of the error"), (0.0, 1.3, "the departure of the width of pulls from 1")],
)
def test_the_faint_are_guarded_too(shift, width, text):
    n = 3000
    rng = np.random.default_rng(3)
    snr = np.where(np.arange(n) < 1500, rng.uniform(-4, 5, n), rng.uniform(5, 300, n))
    pull = rng.standard_normal(n)
    before = HeldOutRows(pull, np.abs(snr), pull**2, snr, pull / snr, pull, stats.norm.cdf(-pull))
    # The bright half stays as it is: a guard above S/N 5 alone would see nothing.
    worse = np.where(snr < 5, width * pull + shift, pull)
    after = replace(before, pull=worse, pit=stats.norm.cdf(-worse))
    figures = compare_held_out(before, after)
    assert [one["snr"] for one in figures["errors"]] == ["below 5", "5-20", "20-100", "above 100"]
    assert figures["errors"][0]["n"] == 1500
    excesses = find_excesses(figures, 0.01, 0.3, 0.05)
    assert len(excesses) == 1
    assert excesses[0].startswith(f"{text} of 1500 injected galaxies of S/N below 5 grows by ")
    assert any("PIT-KS of 1500 injected galaxies" in one for one in find_excesses(figures, 0.01, 0.01, 9.0))
    assert find_excesses(compare_held_out(before, before), 0.0, 0.0, 0.0) == []
    assert "| width of pulls less 1, S/N below 5 |" in figures_table(figures)


def test_chance_is_no_excess():
    """A change that scatters from galaxy to galaxy moves a median by its sampling error."""
    rng = np.random.default_rng(2)
    before = rows_of(rng)
    noisy = replace(before, relative=before.relative + rng.normal(0, 0.3, 4000))
    change = compare_held_out(before, noisy)["change"]
    n = np.array(compare_held_out(before, noisy)["n_injected"])
    assert change["absolute_bias_err"] == pytest.approx(1.2533 * 0.3 / np.sqrt(n), rel=0.1)


def test_the_exposure_of_the_catalogue_is_in_no_pair(tmp_path, caplog):
    marked = {"a": int(Flag.CATALOG_EXPOSURE), "b": 0, "c": 0}
    every = np.arange(100)
    made = [flux_runs.exposure(name, every, 100.0 + every, 1.0, flags=flag) for name, flag in marked.items()]
    pairs = choose_pairs(run_with(tmp_path / "run", made), 10_000, 0.5, np.random.default_rng(1))
    assert set(pairs.exposure_id) == {"b", "c"}
    assert len(pairs.first) == 100
    assert "the catalogue was made from exposure a, whose pairs are left out" in caplog.text
    two = run_with(tmp_path / "two", made[:2])
    with pytest.raises(
        LumosDataError, match="no object was measured in two exposures of one band, beside the one that"
    ):
        choose_pairs(two, 100, 0.5, np.random.default_rng(1))


def run_with(folder, exposures):
    return SimpleNamespace(path=flux_runs.write_run(folder, exposures))


def test_pairs_are_of_one_object_and_band(tmp_path):
    every = np.arange(200)
    flags = np.where(every < 20, 32, 0)  # saturated
    run = run_with(
        tmp_path / "run",
        [
            flux_runs.exposure("a", every, 100.0 + every, 1.0),
            flux_runs.exposure("b", every, 100.0 + every, 1.0, flags=flags),
            flux_runs.exposure("c", every[50:], np.where(every[50:] < 60, np.nan, 5.0), 1.0),
            flux_runs.exposure("z", every, 100.0 + every, 1.0, band="z"),
        ],
    )
    pairs = choose_pairs(run, 10_000, 0.5, np.random.default_rng(1))
    assert (pairs.object_id[pairs.first] == pairs.object_id[pairs.second]).all()
    names = {
        tuple(sorted(pair))
        for pair in zip(pairs.exposure_id[pairs.first], pairs.exposure_id[pairs.second], strict=True)
    }
    assert names == {("a", "b"), ("a", "c"), ("b", "c")}
    # a and b share 180 usable objects, c has 140 of these.
    assert len(pairs.first) == 180 + 2 * 140
    ra = flux_runs.positions(pairs.object_id[pairs.first])[0]
    assert ra[~pairs.held_out].max() < ra[pairs.held_out].min()
    assert np.array_equal(pairs.is_held_out(ra), pairs.held_out)
    assert abs(pairs.held_out.mean() - 0.5) < 0.02
    few = choose_pairs(run, 30, 0.5, np.random.default_rng(1))
    assert (few.held_out.sum(), (~few.held_out).sum()) == (30, 30)
    assert len(few.object_id) == len(np.unique(np.concatenate([few.first, few.second])))


def test_runs_without_pairs_are_refused(tmp_path):
    run = run_with(tmp_path / "run", [flux_runs.exposure("a", np.arange(50), np.full(50, 100.0), 1.0)])
    with pytest.raises(LumosDataError, match="no object was measured in two exposures"):
        choose_pairs(run, 100, 0.5, np.random.default_rng(1))
    with pytest.raises(LumosDataError, match=r"not a run of `lumos measure`, or damaged"):
        open_run(tmp_path)
