"""The annulus background: against astropy and photutils, bias, scatter, edges, the object's own light."""

import numpy as np
import pytest
import torch
from astropy.stats import sigma_clipped_stats
from photutils.aperture import CircularAnnulus
from scipy.special import gammainc, gammaincinv

from lumos.background.annulus import annulus_background, own_light_per_pixel
from lumos.errors import LumosShapeError, LumosValueError
from lumos.flags import Flag

SIZE = 94


def skies(n, *, level=100.0, scatter=10.0, seed=0):
    rng = np.random.default_rng(seed)
    data = torch.tensor(rng.normal(level, scatter, (n, SIZE, SIZE)), dtype=torch.float32)
    x, y = torch.tensor(rng.uniform(46, 47, (2, n)), dtype=torch.float32)
    return data, torch.ones_like(data, dtype=torch.bool), x, y


@pytest.mark.parametrize(("clip", "max_iter"), [(3.0, 5), (3.0, 1), (2.5, 10), (4.0, 3)])
def test_equals_astropy_on_photutils_pixels(clip, max_iter):
    data, good, x, y = skies(12)
    rng = np.random.default_rng(9)
    good &= torch.tensor(rng.uniform(size=data.shape) > 0.1)
    # Neighbours and cosmic rays, so that clipping has work to do.
    data[:, 10:16, 40:50] += 400.0
    data += torch.tensor(rng.exponential(300, data.shape) * (rng.uniform(size=data.shape) > 0.99), dtype=torch.float32)
    result = annulus_background(data, good, x, y, 30, 45, clip=clip, max_iter=max_iter)
    for i in range(12):
        annulus = CircularAnnulus((float(x[i]), float(y[i])), 30, 45).to_mask(method="center").to_image((SIZE, SIZE))
        pixels = data[i].numpy()[(annulus > 0) & good[i].numpy()].astype(np.float64)
        mean, _, _ = sigma_clipped_stats(pixels, sigma=clip, maxiters=max_iter)
        # 1e-4 of the pixel scatter.
        assert float(result.level[i]) == pytest.approx(mean, abs=1e-3)


def test_level_is_unbiased_and_its_error_true():
    n = 2000
    result = annulus_background(*skies(n), 30, 45)
    pulls = ((result.level - 100) / result.level_err).numpy()
    assert abs(pulls.mean()) < 4 / np.sqrt(n)
    # Clipping at 3 sigma costs 1 % in the error; the scatter of 2000 pulls is known to 1/sqrt(4000) = 1.6 %.
    assert pulls.std() == pytest.approx(1.01, abs=4 * 0.016)
    # Half the 16-84 % interval of 3500 values scatters by 0.87 / sqrt(3500) = 1.5 %, its mean by 1.5 % / sqrt(2000).
    assert result.scatter.mean() == pytest.approx(10.0, rel=2e-3)
    assert result.scatter.std() == pytest.approx(0.15, rel=0.15)


@pytest.mark.parametrize("clip", [2.0, 2.5, 3.0, 5.0])
def test_scatter_is_corrected_for_the_clipping(clip):
    result = annulus_background(*skies(300, seed=3), 30, 45, clip=clip)
    assert result.scatter.mean() == pytest.approx(10.0, rel=5e-3)


def test_neighbour_is_clipped_but_for_its_wings():
    data, good, x, y = skies(300)
    clean = annulus_background(data, good, x, y, 30, 45)
    row, column = np.mgrid[:SIZE, :SIZE]
    star = 2e5 * np.exp(-0.5 * ((column - 83) ** 2 + (row - 46) ** 2) / 2.5**2) / (2 * np.pi * 2.5**2)
    crowded = annulus_background(data + torch.tensor(star, dtype=torch.float32), good, x, y, 30, 45)
    # The plain mean would move by 2e5 / 3534 = 57. Unclipped: a ring where the star is fainter than 3 sigma = 30,
    # between its 3.8 and ~6 sigma radii: some 150 pixels of a few counts, 0.2 to 0.6 counts on the mean.
    assert 0 < float((crowded.level - clean.level).mean()) < 0.6
    assert crowded.scatter.mean() == pytest.approx(10.0, rel=0.03)


def test_annulus_cut_by_the_edge():
    data, good, x, y = skies(500)
    good[:, :, :40] = False
    data[:, :, :40] = 0
    result = annulus_background(data, good, x, y, 30, 45)
    pulls = ((result.level - 100) / result.level_err).numpy()
    assert abs(pulls.mean()) < 4 / np.sqrt(500)
    assert (result.n_pixels < 2300).all()


def test_radii_per_object():
    data, good, x, y = skies(4)
    inner, outer = torch.tensor([30.0, 20.0, 30.0, 10.0]), torch.tensor([45.0, 30.0, 40.0, 12.0])
    together = annulus_background(data, good, x, y, inner, outer)
    for i in range(4):
        one = annulus_background(data[i : i + 1], good[i : i + 1], x[i : i + 1], y[i : i + 1], inner[i], outer[i])
        torch.testing.assert_close(together.level[i], one.level[0])


def test_too_few_pixels_is_nan_and_flagged():
    data, good, x, y = skies(4)
    good[0] = False
    good[1, :, :90] = False
    data[2] = 5.0
    result = annulus_background(data, good, x, y, 30, 45)
    assert torch.isnan(result.level[:3]).all()
    assert torch.isnan(result.level_err[:3]).all()
    assert torch.equal(result.flags != 0, torch.tensor([True, True, True, False]))
    assert int(result.flags[0]) == Flag.BAD_BACKGROUND
    assert int(result.n_pixels[0]) == 0


def test_nothing_usable_at_all():
    data, good, x, y = skies(3)
    result = annulus_background(data, torch.zeros_like(good), x, y, 30, 45)
    assert torch.isnan(result.level).all()
    assert annulus_background(data[:0], good[:0], x[:0], y[:0], 30, 45).level.shape == (0,)


def test_unusable_pixels_never_enter():
    data, good, x, y = skies(4)
    good[:, 5:20] = False
    expected = annulus_background(data, good, x, y, 30, 45)
    data[:, 5:20] = 1e30
    torch.testing.assert_close(annulus_background(data, good, x, y, 30, 45).level, expected.level)


def test_bright_sky_keeps_its_digits():
    data, good, x, y = skies(8, level=0.0, scatter=1.0)
    faint = annulus_background(data, good, x, y, 30, 45)
    bright = annulus_background(data + 3e4, good, x, y, 30, 45)
    # float32 pixels of 3e4 are rounded to 2e-3, 3500 of them average to less.
    np.testing.assert_allclose(bright.level.double() - 3e4, faint.level.double(), atol=3e-3)


def test_bad_calls_are_refused():
    data, good, x, y = skies(2)
    with pytest.raises(LumosShapeError, match="stamps and masks"):
        annulus_background(data, good[:, 1:], x, y, 30, 45)
    with pytest.raises(LumosValueError, match="clip"):
        annulus_background(data, good, x, y, 30, 45, clip=1.5)
    with pytest.raises(LumosValueError, match="min_pixels"):
        annulus_background(data, good, x, y, 30, 45, min_pixels=1)


def test_own_light_is_the_sersic_integral():
    radius, index = np.meshgrid([0.5, 3.0, 10.0, 40.0], [0.3, 0.5, 1.0, 2.5, 4.0, 6.2])
    radius, index = radius.ravel(), index.ravel()
    share = own_light_per_pixel(torch.tensor(radius), torch.tensor(index), 30, 45)
    scale = gammaincinv(2 * index, 0.5)
    inside, outside = (gammainc(2 * index, scale * (edge / radius) ** (1 / index)) for edge in (30, 45))
    np.testing.assert_allclose(share.numpy(), (outside - inside) / (np.pi * (45**2 - 30**2)), rtol=1e-6, atol=1e-15)


def test_own_light_of_bad_shapes_is_nan():
    share = own_light_per_pixel(
        torch.tensor([-1.0, torch.nan, 3.0, 3.0]), torch.tensor([1.0, 1.0, torch.nan, 99.0]), 30, 45
    )
    assert torch.isnan(share).all()
    # A point source has none, whatever its index.
    assert own_light_per_pixel(torch.zeros(2), torch.tensor([1.0, torch.nan]), 30, 45).tolist() == [0, 0]
