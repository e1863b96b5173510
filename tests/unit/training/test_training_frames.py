"""Frames: known fluxes in known noise, solved as `lumos measure` solves exposures, and learnt from."""

import numpy as np
import pytest
import torch

from lumos.nets.inputs import SCENE_SCALARS
from lumos.nets.model import FluxModel, ModelConfig
from lumos.nets.settings import ResidualSettings
from lumos.simulate.population import load_population
from lumos.statistics import sigma68
from lumos.teahupoo.faults import FAULTS
from lumos.teahupoo.settings import CatalogScatter, StampSettings
from lumos.training import frames
from lumos.training.data import TrainingStream, model_config
from lumos.training.frames import draw_frame, frame_inputs
from lumos.training.loop import train_network
from lumos.training.morphology import catalogued, count_fluxes, draw_galaxies
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
    monkeypatch.setattr(frames, "_SIDE", 320)


@pytest.mark.usefixtures("small")
def test_frames_follow_their_seed_and_hold_the_fluxes_they_state(model):
    population, pulls, ratios = load_population(), [], []
    for seed in range(6):
        frame, again = (draw_frame(population, STAMPS, np.random.default_rng(seed)) for _ in range(2))
        inputs, rows = frame_inputs(frame, model)
        other, others = frame_inputs(again, model)
        np.testing.assert_array_equal(rows, others)
        assert torch.equal(inputs.images, other.images)
        assert inputs.images.shape[1:] == (5, 60, 60)
        error = torch.hypot(inputs.unit, inputs.widening).numpy()
        pulls.append((inputs.centre.numpy() - frame.flux[rows]) / error)
        bright = frame.flux[rows] > 30 * error
        ratios.append(inputs.centre.numpy()[bright] / frame.flux[rows][bright] - 1)
    pulls, ratios = np.concatenate(pulls), np.concatenate(ratios)
    # Structure, missing neighbours and wrong shapes are in the pulls: the centre is that of the optimal flux.
    assert abs(np.median(pulls)) < 0.25
    assert 0.9 < sigma68(pulls) < 1.8
    assert abs(np.median(ratios)) < 0.01


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
    galaxies = draw_galaxies(load_population(), STAMPS, 4.0, 10.0, (400, 30), rng)
    np.testing.assert_allclose(galaxies.shares.sum(axis=1), 1)
    assert (galaxies.shares >= 0).all()
    shapes, errors = catalogued(galaxies, STAMPS.catalog_scatter, 4.0, np.random.default_rng(7))
    extended = galaxies.shapes.half_light_radius > 0
    off = np.log(shapes.half_light_radius[extended] / galaxies.shapes.half_light_radius[extended])
    assert 0.5 < np.std(off / errors[0][extended]) < 2
    np.testing.assert_array_equal(shapes.x, galaxies.shapes.x)  # no scatter of the centre was asked for


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
        ({"pool": {"simulate": "wide"}}, "and false where there is one"),
    ],
)
def test_runs_that_frames_cannot_serve(changes, message):
    content = {"name": "a", "network": {"scene": True}, "stamps": {"flux_from": "proposal"}} | changes
    with pytest.raises(ValueError, match=message):
        TrainSettings.model_validate(content)


def test_input_versions_are_told_apart():
    with pytest.raises(ValueError, match=r"input_version=1 does not fit network\.scene=True"):
        ModelConfig(name="a", architecture="residual", kind="likelihood", network=ResidualSettings(scene=True))
