"""BKGnet: what it may depend on, its inputs, its folder, and what it makes of stamps with known skies."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.estimator_batches import gaussian_batch
from lumos.background.annulus import annulus_background
from lumos.errors import LumosConfigError, LumosDataError, LumosShapeError
from lumos.estimators import Ellipses, SceneFit, StampContext, aperture
from lumos.nets.bkgnet import background_inputs, elliptical_hole
from lumos.nets.bkgnet_model import (
    BackgroundConfig,
    BackgroundModel,
    load_background_model,
    save_background_model,
)
from lumos.nets.checkpoint import find_model, load_model, shipped_models

SMALL = {"channels": [4, 6, 8], "hidden": 16}


def new_model(**changes):
    """An untrained model whose answers depend on its inputs by as much as those of a trained one."""
    torch.manual_seed(3)
    model = BackgroundModel.create(BackgroundConfig(**{"name": "small", "network": SMALL, **changes}))
    with torch.no_grad():
        for name, value in model.network.named_parameters():
            if name.endswith("weight") and not name.startswith("embedding"):
                value.mul_(10.0 if name.startswith("head") else 2.5)
    return model


def context(n, **changes):
    place, nothing = torch.linspace(0.1, 0.9, n), torch.full((n,), torch.nan)
    known = {"band": "r", "state": "", "ccd_x": place, "ccd_y": place, "ref_mag": nothing, "ref_flux": nothing}
    return StampContext(**(known | {"rate": nothing, "psf_fwhm": 4 * torch.ones(n), "noise_factor": None} | changes))


def batch_of(n=16, *, sky_offset=0.0, **options):
    """Stamps whose annulus is off by ``sky_offset``, with an error of a fiftieth of the noise of a pixel."""
    batch, truth = gaussian_batch(n, **options)
    return replace(
        batch,
        context=context(n),
        background=batch.background + sky_offset,
        background_err=0.02 * batch.sky_variance[:, 0, 0].sqrt(),
    ), truth


def in_units(batch, unit):
    """The same stamps where one image unit is ``unit`` of the new ones."""
    return replace(
        batch,
        data=batch.data * unit,
        background=batch.background * unit,
        background_err=batch.background_err * unit,
        sky_variance=batch.sky_variance * unit**2,
        gain=batch.gain / unit,
    )


@pytest.mark.parametrize("unit", [1e-6, 0.3, 4096.0])
def test_the_answer_is_in_the_unit_of_the_image(unit):
    model, (batch, _) = new_model(), batch_of()
    first, other = (model.predict(model.inputs(one)) for one in (batch, in_units(batch, unit)))
    noise = batch.sky_variance[:, 0, 0].sqrt()
    assert ((first.level - batch.background) / noise).std() > 0.01
    torch.testing.assert_close(other.level / unit, first.level, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(other.level_err / unit, first.level_err, rtol=1e-3, atol=0)


def test_a_brighter_sky_of_the_same_noise_moves_the_answer_by_as_much():
    model, (batch, _) = new_model(), batch_of()
    brighter = replace(batch, data=batch.data + 512.0, background=batch.background + 512.0)
    first, other = (model.predict(model.inputs(one)) for one in (batch, brighter))
    torch.testing.assert_close(other.level - 512.0, first.level, rtol=0, atol=2e-3)
    torch.testing.assert_close(other.level_err, first.level_err, rtol=1e-3, atol=0)


def test_gain_and_rate_are_no_inputs():
    model, (batch, _) = new_model(), batch_of()
    joint = replace(batch, context=replace(batch.context, rate=torch.full((16,), 7.0), ref_mag=torch.full((16,), 20.0)))
    assert torch.equal(model.predict(model.inputs(joint)).level, model.predict(model.inputs(batch)).level)


def inputs_of(data, seen, variance=None, level=100.0):
    n = len(data)
    variance = torch.full((n, 1, 1), 25.0) if variance is None else variance
    return background_inputs(
        data,
        seen,
        variance,
        torch.full((n,), level),
        torch.full((n,), 0.1),
        torch.full((n, 2), 0.5),
        torch.zeros(n, dtype=torch.int64),
    )


def test_masked_pixels_never_change_the_answer(rng):
    model = new_model()
    data = torch.from_numpy(rng.normal(100, 5, (8, 60, 60))).float()
    seen = torch.from_numpy(rng.random((8, 60, 60)) < 0.8)
    seen[:, 20:40, 20:40] = False
    variance = torch.from_numpy(rng.uniform(20, 30, (8, 60, 60))).float()
    first = model.predict(inputs_of(data, seen, variance))
    for value in (0.0, -1e30, 1e30, float("nan"), float("inf")):
        changed = model.predict(inputs_of(data.masked_fill(~seen, value), seen, variance.masked_fill(~seen, value)))
        assert torch.equal(changed.level, first.level)
        assert torch.equal(changed.level_err, first.level_err)
    moved = model.predict(inputs_of(torch.where(seen, data + 3.0, data), seen, variance))
    assert (moved.level - first.level).abs().min() > 1e-3


def test_the_mask_is_the_ellipse_of_the_catalogue():
    x, y = torch.tensor([29.5, 30.0, 30.0]), torch.tensor([29.5, 30.0, 30.0])
    ellipses = Ellipses(torch.tensor([1.0, 6.0, 100.0]), torch.tensor([1.0, 3.0, 100.0]), torch.tensor([0.0, 0.5, 0.0]))
    hole = elliptical_hole((60, 60), x, y, ellipses)
    area = hole.sum((1, 2)).double()
    # Of a small source 8 px, of others three half-light radii, of none more than 24 px.
    expected = np.pi * np.array([8 * 8, 18 * 9, 24 * 24])
    np.testing.assert_allclose(area, expected, rtol=0.04)
    # The major axis is at +0.5 rad from x towards y.
    assert hole[1, 30 + round(16 * np.sin(0.5)), 30 + round(16 * np.cos(0.5))]
    assert not hole[1, 30 - round(16 * np.sin(0.5)), 30 + round(16 * np.cos(0.5))]


def test_pixels_under_the_object_do_not_count_once_its_flux_is_known():
    model, (batch, truth) = new_model(), batch_of(flux=0.0)
    hole = elliptical_hole((60, 60), batch.x, batch.y, batch.ellipses)
    assert hole.sum((1, 2)).min() > 150
    scene = fit_of(batch, torch.from_numpy(truth).float())
    first = model.predict(model.inputs(replace(batch, scene=scene)))
    struck = replace(batch, data=torch.where(hole, 1e4, batch.data), scene=scene)
    assert torch.equal(model.predict(model.inputs(struck)).level, first.level)


def fit_of(batch, flux):
    """The joint fit of objects without neighbours."""
    none = torch.zeros_like(batch.data)
    return SceneFit(flux, torch.ones_like(flux), torch.ones_like(flux), 0 * flux, none, none == 0, is_cleaned=True)


def test_the_objects_own_wings_are_taken_off():
    """A bright object outside of its mask: with the flux of the fit of the scene, and with that of optimal weights."""
    model = new_model()
    for flux in (0.0, 1e6):
        batch, truth = batch_of(8, flux=flux, noise=False)
        known = fit_of(batch, torch.from_numpy(truth).float())
        levels = [model.predict(model.inputs(replace(batch, scene=scene))).level for scene in (known, None)]
        torch.testing.assert_close(levels[0], levels[1], rtol=0, atol=0.02)
        first = levels[0] if flux == 0 else first  # noqa: F821 (of the first turn)
    # Rounding of a million electrons.
    torch.testing.assert_close(levels[0], first, rtol=0, atol=0.05)


def test_larger_stamps_are_binned():
    """A stamp of 120 px of the same sky: blocks of 2 x 2 px are its pixels."""
    model, (batch, _) = new_model(), batch_of(size=60, noise=False, flux=0.0)
    large = replace(
        batch,
        data=batch.data.repeat_interleave(2, 1).repeat_interleave(2, 2) / 4,
        good=batch.good.repeat_interleave(2, 1).repeat_interleave(2, 2),
        profile=batch.profile.repeat_interleave(2, 1).repeat_interleave(2, 2) / 4,
        sky_variance=batch.sky_variance / 4,
        background=batch.background / 4,
        background_err=batch.background_err / 4,
        x=2 * batch.x + 0.5,
        y=2 * batch.y + 0.5,
        ellipses=Ellipses(2 * batch.ellipses.semi_major, 2 * batch.ellipses.semi_minor, batch.ellipses.theta),
    )
    small, known = model.replace_background(batch)
    binned, _ = model.replace_background(large)
    assert known.all()
    torch.testing.assert_close(4 * binned.background, small.background, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(4 * binned.background_err, small.background_err, rtol=1e-5, atol=0)


def test_stamps_of_other_sizes_are_refused():
    batch, _ = batch_of(4, size=50)
    with pytest.raises(LumosShapeError, match=r"\(50, 50\).*60 x 60 px or a multiple"):
        new_model().inputs(batch)
    with pytest.raises(LumosShapeError, match=r"stamps for bkgnet.*\(n, 60, 60\)"):
        inputs_of(torch.zeros(2, 50, 50), torch.ones(2, 50, 50, dtype=torch.bool))


def test_bands_and_states_that_it_does_not_know_are_named():
    model = new_model(bands=("NB455", "NB465"), states=("before", "after"))
    batch, _ = batch_of(4)
    with pytest.raises(LumosDataError, match=r"model 'small' does not know band 'r', allowed: NB455, NB465"):
        model.inputs(batch)
    known = context(4, band="NB465", state="after")
    assert model.inputs(replace(batch, context=known)).index.tolist() == [3] * 4
    with pytest.raises(LumosDataError, match=r"does not know state 'between', allowed: before, after"):
        model.inputs(replace(batch, context=replace(known, state="between")))
    with pytest.raises(LumosDataError, match="needs band, camera state and place"):
        model.inputs(replace(batch, context=None))


def test_band_and_place_matter_to_a_model_that_knows_them():
    model = new_model(bands=("g", "r"), states=("",), network={**SMALL, "position": True})
    batch, _ = batch_of(4)
    levels = [
        model.predict(model.inputs(replace(batch, context=context(4, **changes)))).level
        for changes in ({}, {"band": "g"}, {"ccd_x": torch.zeros(4)}, {"ccd_y": torch.ones(4)})
    ]
    for level in levels[1:]:
        assert (level - levels[0]).abs().min() > 1e-5


def test_where_it_cannot_tell_the_annulus_is_taken():
    model, (batch, _) = new_model(), batch_of(6, own_light=1e-6)
    good, background = batch.good.clone(), batch.background.clone()
    good[0] = False
    good[1, :, :58] = False
    background[2] = torch.nan
    domain = {"seen": (0.0, 1.0), "structure": (0.0, 1.0)}
    data = batch.data.clone()
    data[3, :20] += 500.0
    changed = replace(batch, good=good, background=background, data=data)
    known = replace(model, config=model.config.model_copy(update={"domain": domain}))
    result, told = known.replace_background(changed)
    assert told.tolist() == [False, False, False, False, True, True]
    for name in ("background", "background_err", "own_light"):
        torch.testing.assert_close(getattr(result, name)[:4], getattr(changed, name)[:4], equal_nan=True)
    assert (result.own_light[4:] == 0).all()
    assert torch.isfinite(aperture(result).flux[3:]).all()


def test_models_are_written_and_read(tmp_path):
    model, (batch, _) = new_model(bands=("r",), states=("",)), batch_of()
    config = save_background_model(model, tmp_path / "m", "card")
    again = load_background_model(str(tmp_path / "m"))
    assert again.config == config
    assert torch.equal(again.predict(again.inputs(batch)).level, model.predict(model.inputs(batch)).level)
    assert (tmp_path / "m" / "README.md").read_text() == "card"


def test_folders_that_are_none_are_named(tmp_path):
    allowed = "allowed: .*bkgnet.*generic"
    with pytest.raises(LumosConfigError, match=rf"no model 'none', {allowed}"):
        load_background_model("none")
    with pytest.raises(LumosConfigError, match=r"'generic' predicts a flux, for measure\.model.*allowed: bkgnet"):
        load_background_model("generic")
    with pytest.raises(LumosConfigError, match=r"'bkgnet' predicts a background, for .*allowed: generic"):
        load_model("bkgnet")
    save_background_model(new_model(), tmp_path, "")
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    for change, message in (
        ({"network": {**SMALL, "hidden": 8}}, "does not fit architecture 'bkgnet'"),
        ({"network": {"depth": 1}}, r"unknown key 'network\.depth', allowed: channels"),
        ({"sha256": "0"}, "sha256 differs"),
    ):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(LumosDataError, match=message):
            load_background_model(str(tmp_path))


#: Sides of stamps with their annulus, and the middle.
SIDE, MIDDLE = 92, 46


def faint_galaxies(n, rng, per_million=500):
    """Light of galaxies that no catalogue has, in units of the noise of a pixel; counts go as flux^-1.9, 5 to 30."""
    light, grid = np.zeros((n, SIDE, SIDE)), np.arange(SIDE)
    for row in range(n):
        for _ in range(rng.poisson(per_million * SIDE**2 / 1e6)):
            (x, y), sigma = rng.uniform(0, SIDE, 2), rng.uniform(1.5, 3.5)
            flux = (5**-0.9 + (30**-0.9 - 5**-0.9) * rng.random()) ** (-1 / 0.9)
            profile = np.exp(-((grid[None, :] - x) ** 2 + (grid[:, None] - y) ** 2) / (2 * sigma**2))
            light[row] += flux * profile / (2 * np.pi * sigma**2)
    return light


def stamps_with(shape, rng, *, n=600, noise=5.0, faint=500):
    """Stamps of white noise on a sky of a known shape; what the model is given, and its level at the object."""
    v = np.arange(SIDE) - MIDDLE
    sky = np.broadcast_to(100.0 + shape(v[None, :], v[:, None]), (n, SIDE, SIDE))
    data = torch.from_numpy(rng.normal(sky + noise * faint_galaxies(n, rng, faint), noise)).float()
    x = y = torch.full((n,), float(MIDDLE))
    annulus = annulus_background(data, torch.ones_like(data, dtype=torch.bool), x, y, 30.0, 45.0)
    inner = slice(MIDDLE - 30, MIDDLE + 30)
    centre = torch.full((n,), 30.0)
    ellipses = Ellipses(torch.full((n,), 3.0), torch.full((n,), 2.0), torch.full((n,), 0.3))
    inputs = background_inputs(
        data[:, inner, inner],
        ~elliptical_hole((60, 60), centre, centre, ellipses),
        torch.full((n, 1, 1), noise**2),
        annulus.level,
        annulus.level_err,
        torch.full((n, 2), 0.5),
        torch.zeros(n, dtype=torch.int64),
    )
    return inputs, annulus, 100.0 + float(shape(0.0, 0.0))


@pytest.mark.parametrize("name", shipped_models(of="background"))
def test_shipped_models_are_true_on_flat_skies_and_gradients(name, rng):
    model = load_background_model(name)
    if model.config.bands:
        pytest.skip("for its own camera")
    for slope in (0.0, 0.02, 0.1):
        inputs, annulus, truth = stamps_with(lambda u, v, s=slope: s * (u + 0.5 * v), rng)
        found = model.predict(inputs)
        assert torch.isfinite(found.level).all()
        off = (found.level - truth).double()
        error, stated = (float(v.double().square().mean().sqrt()) for v in (off, found.level_err))
        print(f"gradient {slope / 5:.3f}: error {error / 5:.4f}, stated {stated / 5:.4f} of the noise")  # noqa: T201
        # The pixels inside of the annulus count too, and galaxies that stand out do not.
        assert error < 1.05 * float((annulus.level - truth).square().mean().sqrt())
        assert 0.75 < error / stated < 1.1


@pytest.mark.parametrize("name", shipped_models(of="background"))
def test_shipped_models_see_light_that_the_annulus_averages(name, rng):
    """Light that falls off from an edge curves: in the annulus there is more of it than under the object."""
    model = load_background_model(name)
    if model.config.bands:
        pytest.skip("for its own camera")
    inputs, annulus, truth = stamps_with(lambda u, v: 12.0 * np.exp(-(u + 46.0 + 0 * v) / 40.0), rng)
    found = model.predict(inputs)
    off, before = float((found.level - truth).mean()), float((annulus.level - truth).mean())
    assert before > 3 * float(annulus.level_err.mean())
    assert abs(off) < 0.5 * before
    # Steeper than nearly all of its training: its errors do not hold it, those of the annulus far less.
    pull, pull_before = ((one.level - truth) / one.level_err for one in (found, annulus))
    for what, by, errors in (("annulus", before, pull_before), (name, off, pull)):
        print(f"steep light: {what} off by {by / 5:.3f} of the noise, {float(errors.mean()):.1f} errors")  # noqa: T201
    assert float(pull.mean()) < 0.4 * float(pull_before.mean())


def test_shipped_models_are_small_and_have_cards():
    assert "bkgnet" in shipped_models(of="background")
    for name in shipped_models(of="background"):
        folder, config = find_model(name), load_background_model(name).config
        assert sum(path.stat().st_size for path in folder.iterdir()) < 1_500_000
        assert f"# {name}" in (folder / "README.md").read_text()
        assert config.metrics["scatter"] < config.metrics["annulus_scatter"]
        assert 0.9 < config.metrics["pull"] < 1.1
