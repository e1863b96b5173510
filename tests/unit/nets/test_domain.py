"""The out-of-training score: frames of objects, calibration, box, verdict of an exposure, faults, and its fit."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.background_pools import flat_pool
from helpers.estimator_batches import gaussian_batch
from lumos.errors import LumosDataError, LumosValueError
from lumos.files import file_sha256
from lumos.nets.checkpoint import load_model, save_model
from lumos.nets.domain import TAIL, DomainNetwork, object_frames
from lumos.nets.domain_box import box_score, domain_properties, exposure_verdict
from lumos.nets.estimator import network_fluxes
from lumos.nets.inputs import SideInputs, residual_inputs
from lumos.nets.mdn import MixtureOutput
from lumos.nets.model import FluxModel, ModelConfig
from lumos.teahupoo.faults import FAULTS, simulate_faulty
from lumos.teahupoo.settings import StampSettings
from lumos.training import domain as training_domain
from lumos.training.data import describe_inputs
from lumos.training.domain import fit_domain, fit_domain_box

SETTINGS = StampSettings(flux_from="proposal")


def new_model(**changes):
    torch.manual_seed(5)
    network = {"channels": [4, 6, 8], "hidden": 16}
    config = {"name": "small", "architecture": "residual", "kind": "likelihood", "network": network, **changes}
    return FluxModel.create(ModelConfig(**config))


def single(flux, std):
    """Return mixtures of one Gaussian."""
    return MixtureOutput(torch.zeros(len(flux), 1), flux[:, None].float(), std[:, None].float())


def cells_by_hand(image, profile):
    """Return an image in the frame of a profile, with loops over the cells."""
    side = len(image)
    pixel = np.arange(side)
    cx, cy = (profile.sum(axis) @ pixel / profile.sum() for axis in (0, 1))
    step = profile.sum() / np.sqrt(np.pi * (profile**2).sum()) / 4
    frame = np.zeros((24, 24))

    def weights(centre, number):
        place = centre + (number - 11.5) * step
        near = np.maximum(0, 1 - np.abs(pixel - place) / max(step, 1))
        return near / np.sqrt((near**2).sum())

    for i in range(24):
        for j in range(24):
            frame[i, j] = weights(cy, i) @ image @ weights(cx, j)
    return frame


def test_frames_hold_the_residual_of_the_networks_flux_in_noise_units():
    batch, truth = gaussian_batch(4, gain=float("inf"), noise=False, flux=3000.0)
    inputs = residual_inputs(batch, SideInputs())
    true = torch.from_numpy(truth).float()
    wrong = single(0.75 * true, inputs.unit)
    frames, numbers = object_frames(inputs, wrong)
    for i in range(4):
        profile = batch.profile[i].double().numpy()
        in_noise = 3000 * profile / 10  # the sky's variance is 100
        expected = cells_by_hand(in_noise, profile)
        # A quarter of the flux is left; three quarters were found. Single precision, through sinh and asinh.
        assert np.allclose(np.sinh(frames[i, 0].numpy()), 0.25 * expected, rtol=0, atol=2e-3 * expected.max())
        assert np.allclose(np.sinh(frames[i, 1].numpy()), 0.75 * expected, rtol=0, atol=2e-3 * expected.max())
    assert (frames[:, 2] == 1).all()
    error = 10 / batch.profile.square().sum((1, 2)).sqrt()
    assert torch.allclose(torch.sinh(numbers[:, 14]), 0.75 * true / error, rtol=1e-3, atol=0)


def test_white_noise_keeps_its_variance_in_the_frame():
    batch, truth = gaussian_batch(200, gain=float("inf"), noise=False)
    noise = np.random.default_rng(3).normal(0, 10, batch.data.shape)
    batch.data.add_(torch.from_numpy(noise).float())
    inputs = residual_inputs(batch, SideInputs())
    frames, _ = object_frames(inputs, single(torch.from_numpy(truth), inputs.unit))
    # 200 x 576 cells of a quarter radius, at least 1/40 of them independent: 2 % of the variance, three times.
    assert float(torch.sinh(frames[:, 0]).var()) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("n_areas", [1, 2])
def test_the_table_turns_answers_into_shares_of_good_stamps(n_areas):
    network = DomainNetwork(3, n_areas)
    network.areas.copy_(torch.tensor([1.0, 3.0])[:n_areas])
    network.knots.copy_(torch.tensor([0.0, 2.0, 4.0]))
    network.table.copy_(torch.linspace(0, 10, len(TAIL)).repeat(n_areas, 3, 1) + torch.tensor([[0.0], [4.0], [4.0]]))
    # Of larger areas the answers are higher by 1.
    network.table[1:] += 1
    at, higher = TAIL.index(0.01), torch.tensor([0.0, 0.5, 1.0, 1.0]) * (n_areas - 1)
    answer = network.table[0, 0, at] + torch.tensor([0.0, 2.0, 4.0, 4.0]) + higher
    place = torch.tensor([[-3.0, 1.0, 0], [1.0, 2.0, 0], [2.0, 3.0, 0], [9.0, 7.0, 0]])
    # 1 % of good stamps have a higher answer: the score is 1, between knots and beyond them too.
    assert torch.allclose(network.calibrated(answer, place), torch.ones(4), rtol=0, atol=1e-5)
    rising = network.calibrated(torch.linspace(-50, 200, 400), torch.tensor([[1.3, 1.0, 0.0]]).repeat(400, 1))
    assert (rising.diff() >= 0).all()
    assert (rising[0], rising[-1]) == (0, 10)
    half = network.calibrated(network.table[0, 0, TAIL.index(0.1)][None], torch.zeros(1, 3))
    assert float(half) == pytest.approx(0.5, abs=1e-5)  # log 0.1 / log 0.01


def test_an_exposure_is_suspect_where_its_scores_share_a_fault(rng):
    good = -np.log(rng.uniform(size=(500, 60))) / np.log(100)
    verdicts = np.array([exposure_verdict(row) for row in good])
    # Allowed is 1.25 + 4 errors above the mean, an error being 1 / sqrt(60): never reached by chance.
    assert (verdicts < 1).all()
    # All at p = 0.04: none is flagged itself.
    assert exposure_verdict(np.full(60, 0.7)) > 1
    assert exposure_verdict(np.full(5, 0.5)) < 1
    with_gaps = np.concatenate([good[0], [np.nan, np.inf]])
    assert exposure_verdict(with_gaps) == exposure_verdict(good[0])
    assert np.isnan(exposure_verdict(np.array([np.nan])))


def test_the_box_measures_half_widths_from_the_middle():
    batch, _ = gaussian_batch(6)
    inputs = residual_inputs(batch, SideInputs())
    radius = domain_properties(inputs, "residual")["profile_radius"].double()
    box = {"profile_radius": (float(radius.min()), float(radius.max()))}
    score = box_score(inputs, "residual", box)
    assert float(score.max()) == pytest.approx(1, abs=1e-5)
    middle = sum(box["profile_radius"]) / 2
    narrow = {"profile_radius": (0.99 * middle, 1.01 * middle)}
    assert torch.allclose(
        box_score(inputs, "residual", narrow),
        ((radius - middle).abs() / (0.01 * middle)).clamp(max=10).float(),
        rtol=1e-3,
        atol=1e-4,
    )
    assert (box_score(inputs, "residual", {}) == 0).all()


def test_the_box_holds_the_training_stamps(rng):
    values = torch.from_numpy(rng.uniform(2, 6, 20_000))
    box = fit_domain_box({"size": values, "signed": values - 4, "same": torch.ones(50)})
    # Quantiles of 0.1 % leave 0.004 on either side, known to 1e-3; the margin is a quarter of 4, or of ln 3.
    assert box["signed"] == pytest.approx((-2 + 0.004 - 1, 2 - 0.004 + 1), abs=0.01)
    assert box["size"] == pytest.approx((2.004 / 3**0.25, 5.996 * 3**0.25), abs=0.02)
    assert box["same"][0] < 1 < box["same"][1]


def ood_score(model, batch):
    return network_fluxes(model, batch, SideInputs()).columns["ood_score"].numpy()


def test_a_model_folder_keeps_the_domain(tmp_path):
    plain = new_model(domain={"profile_radius": (1.0, 20.0)})
    torch.manual_seed(6)
    model = FluxModel(plain.config, plain.network, DomainNetwork(10).eval())
    save_model(model, tmp_path / "with", "# with\n")
    save_model(plain, tmp_path / "without", "# without\n")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("with", "without")]
    assert sizes[0] - sizes[1] < 200_000
    batch, _ = gaussian_batch(8)
    again = load_model(str(tmp_path / "with"))
    score = ood_score(again, batch)
    assert np.array_equal(score, ood_score(model, batch))
    assert np.isfinite(score).all()
    assert load_model(str(tmp_path / "without")).domain is None
    path = tmp_path / "with" / "model.safetensors"
    tensors = load_file(path)
    del tensors["domain.table"]
    save_file(tensors, path)
    config = tmp_path / "with" / "config.json"
    config.write_text(config.read_text().replace(again.config.sha256, file_sha256(path)))
    with pytest.raises(LumosDataError, match="does not fit architecture"):
        load_model(str(tmp_path / "with"))


def test_scores_are_nan_where_there_is_nothing_to_say():
    batch, _ = gaussian_batch(4)
    assert np.isnan(ood_score(new_model(), batch)).all()
    batch.good[1] = False
    score = ood_score(new_model(domain={"profile_radius": (1.0, 20.0)}), batch)
    assert list(np.isnan(score)) == [False, True, False, False]


def moments(light):
    """Return total, centroid and covariance of images."""
    pixel = np.arange(light.shape[1])
    light = light.double().numpy()
    total = light.sum((1, 2))
    x, y = (light.sum(1) @ pixel / total, light.sum(2) @ pixel / total)
    dx, dy = pixel - x[:, None], pixel - y[:, None]
    xx = np.einsum("nyx,nx->n", light, dx**2) / total
    yy = np.einsum("nyx,ny->n", light, dy**2) / total
    xy = np.einsum("nyx,ny,nx->n", light, dy, dx) / total
    return total, x, y, np.stack([np.stack([xx, xy], 1), np.stack([xy, yy], 1)], 1)


@pytest.mark.parametrize(
    ("name", "strength", "along", "across"),
    [
        ("stretched", 1.5, lambda v: 2.25 * v, lambda v: v),
        ("sheared", 1.5, lambda v: 1.5 * v, lambda v: v / 1.5),
        # Nine images spread evenly over 6 px: a variance of (6 / 8)^2 (9^2 - 1) / 12.
        ("trailed", 6.0, lambda v: v + 3.75, lambda v: v),
        # Two images 1.5 FWHM = 6 px apart.
        ("double", 1.5, lambda v: v + 9, lambda v: v),
        ("displaced", 3.0, lambda v: v, lambda v: v),
    ],
)
def test_faults_of_the_light(name, strength, along, across):
    side, sigma, angle = 95, 3.0, 0.7
    pixel = torch.arange(side) - side // 2
    image = torch.exp(-(pixel[:, None].square() + pixel.square()) / (2 * sigma**2))[None] / (2 * np.pi * sigma**2)
    fault = FAULTS[name]
    assert fault.light is not None
    light = fault.light(image, torch.tensor([strength]), torch.tensor([angle]), torch.tensor([4.0]))
    total, x, y, covariance = moments(light)
    # Cubic interpolation (a = -0.75) keeps the total, and moves a Gaussian of 3 px by a few hundredths of a pixel.
    assert total[0] == pytest.approx(1, abs=2e-3)
    moved = strength if name == "displaced" else 0.0
    assert (x[0], y[0]) == pytest.approx((47 + moved * np.cos(angle), 47 + moved * np.sin(angle)), abs=0.06)
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    expected = np.diag([along(sigma**2), across(sigma**2)])
    assert np.allclose(axes @ covariance[0] @ axes.T, expected, rtol=0, atol=0.02 * sigma**2)


def test_faults_of_catalogue_noise_and_pixels(tmp_path):
    pool = flat_pool(tmp_path / "pool", np.random.default_rng(2))
    made = {
        name: simulate_faulty(pool, SETTINGS, 32, np.random.default_rng(4), fault=name, strength=strength)
        for name, strength in (
            (None, None),
            ("scale too large", 2.0),
            ("noise underestimated", 3.0),
            ("saturated star", 3.0),
        )
    }
    good = made[None]
    wrong = made["scale too large"]
    assert np.allclose(wrong.catalog.half_light_radius, 2 * good.catalog.half_light_radius, rtol=1e-12, atol=0)
    assert np.allclose(wrong.catalog_psf_fwhm, 8.0, rtol=1e-12, atol=0)
    assert torch.allclose(made["noise underestimated"].sky_variance, good.sky_variance / 9)
    # A flat top at 1000 sigma of 5 units, and nothing above.
    star = made["saturated star"].data.flatten(1)
    assert (star.amax(1) == 5000).all()
    assert ((star == 5000).sum(1) > 5).all()
    # Blank sky stays 100 +- 5 far from the galaxy; 60 000 pixels of the corners: the error is 0.02.
    assert float(good.data[:, :10, :10].median()) == pytest.approx(100, abs=1)
    with pytest.raises(LumosValueError, match="fault: got 'dust'"):
        simulate_faulty(pool, SETTINGS, 2, np.random.default_rng(4), fault="dust")


def test_signal_to_noise_ratios_are_those_asked_for(tmp_path):
    pool = flat_pool(tmp_path / "pool", np.random.default_rng(2))
    stamps = simulate_faulty(pool, SETTINGS, 16, np.random.default_rng(4), snr=np.full(16, 40.0))
    # Without errors of the catalogue the closed-form error is that of the true profile.
    assert torch.allclose(stamps.flux / stamps.flux_scale, torch.full((16,), 40.0), rtol=1e-4, atol=0)


def test_a_fitted_domain_knows_faults_from_good_stamps(tmp_path, monkeypatch):
    monkeypatch.setattr(training_domain, "_N_FIT", 700)
    monkeypatch.setattr(training_domain, "_N_CALIBRATION", 1000)
    monkeypatch.setattr(training_domain, "_EPOCHS", 20)
    pool = flat_pool(tmp_path / "pool", np.random.default_rng(2), n=256)
    model = new_model()
    fitted = fit_domain(model, pool, SETTINGS, seed=1)
    assert fitted.domain is not None
    assert "profile_radius" in fitted.config.domain

    def share(fault, strength, n=200):
        snr = np.random.default_rng(5).uniform(50, 150, n)
        stamps = simulate_faulty(pool, SETTINGS, n, np.random.default_rng(6), fault=fault, strength=strength, snr=snr)
        inputs = describe_inputs(stamps, fitted, pool).inputs
        return float((fitted.ood_score(inputs, fitted.predict(inputs)) > 1).float().mean())

    assert share(None, None, 400) <= 0.05  # 1 % of 1000 good stamps set the threshold, and as many drew these
    assert share("displaced", 4.0) >= 0.8
    assert share("noise underestimated", 4.0) >= 0.8


def test_the_papers_network_has_a_box(tmp_path, monkeypatch):
    monkeypatch.setattr(training_domain, "_N_CALIBRATION", 200)
    pool = flat_pool(tmp_path / "pool", np.random.default_rng(2))
    model = new_model(architecture="paper", network={}, kind="posterior", bands=("r",), states=("",))
    fitted = fit_domain(model, pool, StampSettings(), seed=1)
    assert fitted.domain is None
    assert set(fitted.config.domain) == {"ref_mag", "stamp_scatter", "stamp_mean", "profile_peak", "psf_fwhm"}
    assert fitted.config.domain["psf_fwhm"] == (pool.psf_fwhm.min(), pool.psf_fwhm.max())
    stamps = simulate_faulty(pool, StampSettings(), 100, np.random.default_rng(8))
    inputs = describe_inputs(stamps, fitted, pool).inputs
    score = fitted.ood_score(inputs, fitted.predict(inputs))
    # Six sides of the box leave out at most 0.1 % of stamps each, less by the margins.
    assert float((score > 1).float().mean()) <= 0.05
