"""The residual network and its inputs: which unit they are in, and what changes nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.estimator_batches import gaussian_batch
from lumos.errors import LumosShapeError, LumosValueError
from lumos.estimators import SceneFit, ShapeErrors, optimal
from lumos.nets.inputs import (
    N_CHANNELS,
    REFERENCE_SCALARS,
    SCALARS,
    SCENE_SCALARS,
    SideInputs,
    named_scalar,
    residual_inputs,
)
from lumos.nets.residual import ResidualNetwork
from lumos.nets.settings import ResidualSettings


@pytest.fixture
def network():
    torch.manual_seed(3)
    return ResidualNetwork(ResidualSettings(channels=(4, 6, 8), hidden=16)).eval()


def filled(batch, err=0.3):
    """Return a batch with an error of its background."""
    return replace(batch, background_err=torch.full_like(batch.background_err, err))


def test_centre_and_unit_are_the_optimal_flux_and_its_error():
    batch, _ = gaussian_batch(gain=2.0)
    inputs, result = residual_inputs(batch, SideInputs()), optimal(batch)
    assert torch.equal(inputs.centre, result.flux)
    assert torch.equal(inputs.unit, result.flux_err)
    assert inputs.images.shape == (16, N_CHANNELS, 60, 60)
    assert inputs.scalars.shape == (16, len(SCALARS))
    assert inputs.usable.all()


def test_correlation_raises_the_unit():
    batch, _ = gaussian_batch(gain=np.inf)  # no photons of the source: the whole error grows
    plain, correlated = (residual_inputs(batch, SideInputs(), factor) for factor in (None, lambda area: 0 * area + 1.7))
    assert torch.allclose(correlated.unit, 1.7 * plain.unit, rtol=1e-6)


def test_flux_unit_and_gain_change_nothing():
    """A camera with another gain writes other numbers for the same photons."""
    batch, _ = gaussian_batch(gain=1.0)
    batch = filled(batch)
    unit = 37.0
    other = replace(
        batch,
        data=batch.data / unit,
        sky_variance=batch.sky_variance / unit**2,
        gain=batch.gain * unit,
        background=batch.background / unit,
        background_err=batch.background_err / unit,
    )
    a, b = residual_inputs(batch, SideInputs()), residual_inputs(other, SideInputs())
    # Rounding of the residuals: pixels of 100 with an error of 1e-5 over a scatter of 10.
    assert torch.allclose(a.images, b.images, atol=1e-4)
    assert torch.allclose(a.scalars, b.scalars, atol=1e-3)
    assert torch.allclose(a.unit, unit * b.unit, rtol=1e-5)


def test_level_of_the_sky_changes_nothing():
    batch, _ = gaussian_batch(gain=np.inf)
    batch = filled(batch)
    brighter = replace(batch, data=batch.data + 50, background=batch.background + 50)
    a, b = residual_inputs(batch, SideInputs()), residual_inputs(brighter, SideInputs())
    assert torch.allclose(a.images, b.images, atol=1e-4)
    assert torch.allclose(a.scalars, b.scalars, atol=2e-3)


def test_residual_of_a_perfect_model_is_white():
    batch, _ = gaussian_batch(n=64, gain=1.0, flux=4000.0)
    chi = torch.sinh(residual_inputs(batch, SideInputs()).images[:, 0]).numpy()
    # 230 000 pixels: the scatter is known to 0.15 %; one fitted flux per 3600 pixels and asinh in float32 are less.
    assert np.std(chi) == pytest.approx(1, abs=0.006)


def test_masked_pixels_are_seen_as_masked_and_their_values_are_not_seen():
    batch, _ = gaussian_batch()
    good = batch.good.clone()
    good[:, 10:14, 20:25] = False
    spoilt = torch.where(good, batch.data, 1e6)
    a, b = (residual_inputs(replace(batch, good=good, data=data), SideInputs()) for data in (batch.data, spoilt))
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.scalars, b.scalars)
    assert a.images[:, 3].sum().item() == 16 * 20


def test_objects_without_a_background_are_not_usable():
    batch, _ = gaussian_batch()
    level = batch.background.clone()
    level[3] = torch.nan
    inputs = residual_inputs(replace(batch, background=level), SideInputs())
    assert torch.nonzero(~inputs.usable).flatten().tolist() == [3]
    assert torch.isfinite(inputs.images).all()
    assert torch.isfinite(inputs.scalars).all()


def test_side_inputs_that_are_missing_are_named():
    batch, _ = gaussian_batch()
    with pytest.raises(LumosValueError, match="ccd_x, ccd_y"):
        residual_inputs(batch, SideInputs(), position=True)
    with pytest.raises(LumosValueError, match="ref_flux"):
        residual_inputs(batch, SideInputs(), reference=True)


def test_reference_flux_in_units_of_the_error():
    batch, truth = gaussian_batch()
    inputs = residual_inputs(batch, SideInputs(ref_flux=torch.from_numpy(truth)), reference=True)
    names = SCALARS + REFERENCE_SCALARS
    assert inputs.scalars.shape == (len(truth), len(names))
    ratio, offset = (named_scalar(inputs, name, names) for name in ("log_reference", "asinh_reference_offset"))
    assert torch.allclose(ratio, torch.log(torch.from_numpy(truth) / inputs.unit).float())
    assert torch.allclose(
        torch.sinh(offset), (torch.from_numpy(truth).float() - inputs.centre) / inputs.unit, atol=1e-4
    )


def test_numbers_are_what_their_names_say():
    batch, _ = gaussian_batch(gain=np.inf)
    batch.good[:, 34] = False
    inputs = residual_inputs(batch, SideInputs(), lambda area: 0 * area + 1.7)
    result, profile, seen = optimal(batch), batch.profile, batch.profile * batch.good
    assert inputs.usable.all()
    right = {
        "asinh_ratio": torch.asinh(result.flux / (1.7 * result.flux_err)),
        "log_noise_area": torch.log(seen.sum((1, 2)) ** 2 / seen.square().sum((1, 2))),
        "log_noise_factor": torch.full((len(batch),), float(np.log(1.7))),
        "masked_share": 1 - seen.sum((1, 2)) / profile.sum((1, 2)),
        "log_peak": profile.amax((1, 2)).log(),
        "log_power": profile.square().sum((1, 2)).log(),
        "source_share": torch.zeros(len(batch)),
    }
    for name, values in right.items():
        torch.testing.assert_close(named_scalar(inputs, name), values.float(), atol=1e-4, rtol=1e-4, msg=name)


def test_untrained_network_stays_near_the_optimal_flux(network):
    batch, _ = gaussian_batch()
    inputs = residual_inputs(batch, SideInputs())
    mixture = network(inputs.images, inputs.scalars, inputs.index)
    assert mixture.means.abs().max() < 0.5
    assert torch.exp(mixture.log_weights).sum(1).tolist() == pytest.approx([1] * 16, abs=1e-6)


def test_gradient_reaches_every_parameter():
    torch.manual_seed(4)
    sizes = ResidualSettings(channels=(4, 6, 8), blocks=(1, 1, 1), hidden=16, position=True)
    network = ResidualNetwork(sizes, n_bands=3, n_states=2)
    batch, _ = gaussian_batch()
    half = torch.linspace(0, 1, 16)
    index = torch.arange(16) % 3, torch.arange(16) % 2
    side = SideInputs(band=index[0], state=index[1], ccd_x=half, ccd_y=half)
    inputs = residual_inputs(batch, side, position=True)
    mixture = network(inputs.images, inputs.scalars, inputs.index)
    (mixture.log_weights[:, 0] + mixture.means.sum(1) + mixture.stds.log().sum(1)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_sizes_are_checked(network):
    with pytest.raises(LumosShapeError, match=r"\(1, 4, 48, 48\)"):
        network(torch.zeros(1, 4, 48, 48), torch.zeros(1, len(SCALARS)), torch.zeros(1, 2, dtype=torch.int64))


def on_scene(batch, *, cleaned=True):
    """Return a batch with a scene: neighbours of ten times the sky's noise on the left half."""
    n = len(batch)
    others = torch.zeros_like(batch.data)
    others[:, :, :30] = 100.0
    number = torch.full((n,), 50.0)
    fit = SceneFit(
        flux=torch.full((n,), 1000.0),
        flux_err=5 * number,
        alone_err=3 * number,
        neighbour_light=2 * number,
        others=others,
        explained=torch.ones_like(batch.good),
        is_cleaned=cleaned,
    )
    errors = ShapeErrors(*(torch.full((n,), value) for value in (0.05, 0.1, 0.03, 1e9)))
    return replace(batch, scene=fit, shape_errors=errors)


def test_scenes_give_the_neighbours_their_errors_and_those_of_the_shapes():
    batch, _ = gaussian_batch(gain=np.inf)
    inputs = residual_inputs(on_scene(batch), SideInputs(), lambda area: 0 * area + 2.0, scene=True)
    names = SCALARS + SCENE_SCALARS
    assert inputs.images.shape == (16, N_CHANNELS + 1, 60, 60)
    assert inputs.scalars.shape == (16, len(names))
    torch.testing.assert_close(inputs.images[:, 4, :, :30], torch.full((16, 60, 30), float(np.arcsinh(10.0))))
    assert (inputs.images[:, 4, :, 30:] == 0).all()
    # A joint error of 5 and one alone of 3 make 4; the correlation doubles it.
    torch.testing.assert_close(inputs.widening, torch.full((16,), 400.0))
    torch.testing.assert_close(
        named_scalar(inputs, "log_widening", names), 0.5 * torch.log1p((400 / inputs.unit).square())
    )
    torch.testing.assert_close(named_scalar(inputs, "asinh_neighbour_light", names), torch.asinh(100 / inputs.unit))
    np.testing.assert_allclose(named_scalar(inputs, "log_size_err", names), np.log(0.051), rtol=1e-5)
    # An error that is huge counts as a large one.
    np.testing.assert_allclose(named_scalar(inputs, "log_position_err", names), np.log(10.001), rtol=1e-5)
    raw = residual_inputs(on_scene(batch, cleaned=False), SideInputs(), scene=True)
    assert (raw.widening == 0).all()
    none = residual_inputs(batch, SideInputs(), scene=True)
    assert (none.images[:, 4] == 0).all()
    assert (none.widening == 0).all()


def test_a_fovea_sees_the_middle_sharply_and_the_rest_in_blocks():
    torch.manual_seed(3)
    network = ResidualNetwork(ResidualSettings(channels=(4, 6, 8), hidden=16, fovea=True, scene=True)).eval()
    images = torch.randn(2, 5, 60, 60)
    scalars, index = torch.zeros(2, network.n_scalars), torch.zeros(2, 2, dtype=torch.int64)
    before = network(images, scalars, index).means
    moved = images.clone()
    moved[:, :, 0:3, 0:3] = moved[:, :, 0:3, 0:3].flip(3)  # within a block outside the fovea
    torch.testing.assert_close(network(moved, scalars, index).means, before)
    moved[:, :, 30, 30:32] = moved[:, :, 30, 30:32].flip(2)
    assert not torch.allclose(network(moved, scalars, index).means, before)
    with pytest.raises(LumosShapeError):
        network(images[:, :4], scalars, index)
