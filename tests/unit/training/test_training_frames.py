"""Frames: known fluxes in known noise, solved as `lumos measure` solves exposures, and learnt from."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from helpers.background_pools import flat_pool
from lumos.errors import LumosDataError
from lumos.nets.inputs import SCENE_SCALARS
from lumos.nets.model import FluxModel, ModelConfig
from lumos.nets.settings import ResidualSettings
from lumos.profiles.shapes import Shapes
from lumos.psfs import PSF_HALF_LIGHT
from lumos.simulate.population import load_population
from lumos.statistics import sigma68
from lumos.teahupoo.faults import FAULTS
from lumos.teahupoo.settings import CatalogScatter, StampSettings
from lumos.training import frames
from lumos.training.data import TrainingStream, model_config
from lumos.training.frames import draw_frame, frame_inputs
from lumos.training.grounds import simulated_ground
from lumos.training.loop import train_network
from lumos.training.morphology import catalogued, count_fluxes, draw_galaxies, error_growth
from lumos.training.settings import TrainSettings
from lumos.training.skies import draw_kernel

STAMPS = StampSettings(
    flux_from="proposal", mag_range=(18.0, 24.0), batch_size=64, catalog_scatter=CatalogScatter(half_light_radius=0.1)
)
SMALL = {"channels": [4, 6, 8], "blocks": [0, 0, 0], "hidden": 16, "scene": True, "fovea": True}


@pytest.fixture
def model():
    torch.manual_seed(1)
    network = ResidualSettings.model_validate(SMALL)
    config = ModelConfig(name="m", architecture="residual", kind="likelihood", network=network, input_version=2)
    return FluxModel.create(config)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(frames, "simulated_ground", lambda rng: simulated_ground(rng, 320))


@pytest.mark.usefixtures("small")
def test_frames_follow_their_seed_and_hold_the_fluxes_they_state(model):
    population, pulls, widths, ratios = load_population(), [], [], []
    for seed in range(6):
        frame, again = (draw_frame(population, STAMPS, np.random.default_rng(seed)) for _ in range(2))
        inputs, rows = frame_inputs(frame, model)
        other, others = frame_inputs(again, model)
        np.testing.assert_array_equal(rows, others)
        assert torch.equal(inputs.images, other.images)
        assert inputs.images.shape[1:] == (5, 60, 60)
        error = torch.hypot(inputs.unit, inputs.widening).numpy()
        pulls.append((inputs.centre.numpy() - frame.flux[rows]) / error)
        widths.append(sigma68(pulls[-1][(inputs.widening < 0.1 * inputs.unit).numpy()]))
        bright = frame.flux[rows] > 30 * error
        ratios.append(inputs.centre.numpy()[bright] / frame.flux[rows][bright] - 1)
    pulls, ratios = np.concatenate(pulls), np.concatenate(ratios)
    # The centre is that of the optimal flux: structure, missing neighbours and wrong shapes are in the pulls. They are
    # few in some of the frames, and large in some.
    assert abs(np.median(pulls)) < 0.25
    assert 0.85 < np.min(widths) < 1.3 < np.max(widths)
    assert abs(np.median(ratios)) < 0.01


def test_frames_on_backgrounds_of_a_camera(tmp_path):
    rng, exact = np.random.default_rng(5), STAMPS.model_copy(update={"catalog_scatter": CatalogScatter()})
    pool = flat_pool(tmp_path / "pool", rng, 6, side=320, level=1000.0, scatter=20.0, ccd=(1000, 2000))
    network = ResidualSettings.model_validate(SMALL | {"position": True})
    config = ModelConfig(name="m", architecture="residual", kind="likelihood", network=network, input_version=2)
    model, pulls = FluxModel.create(config), []
    for seed in range(6):
        frame = draw_frame(load_population(), exact, np.random.default_rng(seed), pool, np.arange(4))
        inputs, rows = frame_inputs(frame, model)
        faint = np.abs(frame.flux[rows]) < 10 * frame.flux_scale[rows]
        faint &= (inputs.widening < 0.1 * inputs.unit).numpy()
        error = torch.hypot(inputs.unit, inputs.widening).numpy()
        pulls.append(((inputs.centre.numpy() - frame.flux[rows]) / error)[faint])
        # The pool's places lie on the diagonal of the CCD.
        place = pool.take(np.arange(4))
        middle = [frame.place.x[0] + frame.place.x[1] * 160, frame.place.y[0] + frame.place.y[1] * 160]
        assert np.hypot(place.ccd_x_norm - middle[0], place.ccd_y_norm - middle[1]).min() < 1e-9
        x, y = (frame.ccd.objects.take(rows).x, frame.ccd.objects.take(rows).y)
        seen = inputs.scalars[:, -2 - len(SCENE_SCALARS) : -len(SCENE_SCALARS)].numpy()
        expected = np.stack([middle[0] + (x - 160) / 2000, middle[1] + (y - 160) / 1000], axis=1)
        np.testing.assert_allclose(seen, 2 * expected - 1, atol=1e-5)
    assert 0.9 < sigma68(np.concatenate(pulls)) < 1.4
    with pytest.raises(LumosDataError, match="side 96 px, allowed for networks on scenes: 240 or more"):
        draw_frame(load_population(), exact, rng, flat_pool(tmp_path / "small", rng))


def test_frames_for_posteriors_have_the_populations_fluxes(tmp_path):
    rng = np.random.default_rng(6)
    settings = StampSettings(flux_from="population", mag_range=(18.0, 23.0))
    pool = flat_pool(tmp_path / "pool", rng, 4, side=320)
    frame = draw_frame(load_population(), settings, rng, pool)
    magnitude = frame.ccd.objects.catalog.ref_mag
    colour = magnitude - (27.0 - 2.5 * np.log10(frame.flux))
    assert 18 <= magnitude.min() < magnitude.max() <= 23.5
    # The band r of a pool beside the reference band, which is redder.
    assert -2 < np.median(colour) < 0
    assert 0.1 < np.std(colour) < 1.5
    blind = flat_pool(tmp_path / "blind", rng, 4, side=320, facts={"zeropoint": None})
    with pytest.raises(LumosDataError, match="without zero point, gain or exposure time"):
        draw_frame(load_population(), settings, rng, blind)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_faults_change_the_stamps(model, fault):
    frame = draw_frame(load_population(), STAMPS, np.random.default_rng(3))
    good, rows = frame_inputs(frame, model)
    bad, others = frame_inputs(frame, model, fault=fault, rng=np.random.default_rng(1))
    both = np.isin(rows, others), np.isin(others, rows)
    changed = (good.take(both[0]).images - bad.take(both[1]).images).abs().amax((1, 2, 3)) > 0.02
    assert changed.float().mean() > 0.8


def test_counts_fall_and_galaxies_keep_their_light(rng):
    flux = count_fluxes(20000, rng)
    assert 0.2 <= flux.min() < 0.21
    assert np.median(flux) < 1 < flux.max() / 100
    galaxies = draw_galaxies(load_population(), STAMPS, simulated_ground(rng, 400), 30, rng)
    np.testing.assert_allclose(galaxies.shares.sum(axis=1), 1)
    assert (galaxies.shares >= 0).all()
    shapes, errors = catalogued(galaxies, STAMPS.catalog_scatter, 4.0, np.random.default_rng(7))
    extended = galaxies.shapes.half_light_radius > 0
    off = np.log(shapes.half_light_radius[extended] / galaxies.shapes.half_light_radius[extended])
    assert 0.5 < np.std(off / errors[0][extended]) < 2
    np.testing.assert_array_equal(shapes.x, galaxies.shapes.x)  # no scatter of the centre was asked for


def test_errors_grow_in_blends_as_in_a_joint_fit():
    # Two points and one alone: Gaussians of one width overlap by exp(-d^2 / 4 s^2), the pair's errors grow by
    # 1 / sqrt(1 - overlap^2).
    fwhm = 4.0
    sigma = 0.5 * fwhm * PSF_HALF_LIGHT / 0.5 / np.sqrt(2 * np.log(2))
    points = Shapes.points(np.array([0.0, 2.0, 100.0]), np.array([0.0, 1.0, 100.0]))
    overlap = np.exp(-5 / (4 * sigma**2))
    growth = error_growth(points, fwhm)
    assert growth[:2] == pytest.approx(1 / np.sqrt(1 - overlap**2), rel=5e-3)
    assert growth[2] == pytest.approx(1, abs=2e-3)
    alone = error_growth(points.take([2]), fwhm)
    assert alone == pytest.approx(1, abs=2e-3)


@pytest.mark.usefixtures("small")
def test_the_split_of_a_blend_is_no_prior():
    """Of two galaxies that overlap neither is the brighter one before the pixels are seen."""
    blended, other = [], []
    for seed in range(40):
        frame = draw_frame(load_population(), STAMPS, np.random.default_rng(seed))
        objects = frame.ccd.objects
        places = np.column_stack([objects.x, objects.y])
        distance, nearest = cKDTree(places).query(places, 2)
        close = distance[:, 1] < 0.5 * objects.psf_fwhm
        blended.append(frame.flux[close])
        other.append(frame.flux[nearest[close, 1]])
    flux, neighbour = np.concatenate(blended), np.concatenate(other)
    assert len(flux) > 60
    assert np.mean(flux > neighbour) == pytest.approx(0.5, abs=0.2)
    assert np.mean(neighbour < 0) > 0.1


def test_kernels_lower_the_variance_as_they_say():
    white = np.random.default_rng(2).standard_normal((300, 300))
    for seed in range(12):
        kernel = draw_kernel(4.0, np.random.default_rng(seed))
        assert kernel.smooth(white).var() == pytest.approx(kernel.variance_factor, rel=0.05)
        assert kernel.smooth(np.ones((9, 9))) == pytest.approx(1)


@pytest.mark.usefixtures("small")
def test_a_network_on_scenes_learns_from_frames(tmp_path):
    run = TrainSettings.model_validate(
        {
            "name": "small",
            "network": SMALL,
            "flips": True,
            "stamps": {"flux_from": "proposal", "batch_size": 96},
            "n_stamps": 192,
            "n_validation": 96,
            "validate_every": 96,
            "optimizer": {"batch_size": 48, "passes": 2},
        }
    )
    report = train_network(run, None, tmp_path)
    assert report.n_stamps == 192
    assert np.isfinite(report.validation.loss)
    assert report.model.config.input_version == 2
    stream = TrainingStream(run, None, model_config(run, None), None, 5, "cpu")
    one, two = stream[3], stream[3]
    assert torch.equal(one.inputs.images, two.inputs.images)
    assert len(one) == 96
    assert one.inputs.scalars.shape[1] == 14 + len(SCENE_SCALARS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": {}}, "network.scene must be true where there is no pool"),
        ({"kind": "posterior", "stamps": {}}, "for likelihoods of any band"),
        ({"per_band": True}, "for likelihoods of any band"),
        (
            {"pool": {"simulate": "wide"}},
            "pool.side=96 is too small for frames, allowed with network.scene: 240 or more",
        ),
    ],
)
def test_runs_that_frames_cannot_serve(changes, message):
    content = {"name": "a", "network": {"scene": True}, "stamps": {"flux_from": "proposal"}} | changes
    with pytest.raises(ValueError, match=message):
        TrainSettings.model_validate(content)


def test_input_versions_are_told_apart():
    with pytest.raises(ValueError, match=r"input_version=1 does not fit network\.scene=True"):
        ModelConfig(name="a", architecture="residual", kind="likelihood", network=ResidualSettings(scene=True))
