"""Teahupoo stamps: simulated galaxies on background stamps, with the PSF, gain and mask of the background.

The recipe of the paper's section 2.2: the profile is drawn with the PSF of the very image that the background
comes from, its photons get Poisson noise, and the sum is added to the background, which has its own noise already.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from lumos.background.annulus import annulus_background, own_light_per_pixel
from lumos.background.geometry import STANDARD_GEOMETRY, StampGeometry
from lumos.conventions import AnyArray, FloatArray, IntArray
from lumos.errors import LumosDataError, LumosShapeError, LumosValueError
from lumos.estimators.base import Ellipses, StampBatch
from lumos.pools.background_stamps import BackgroundStamps
from lumos.profiles.sersic import render
from lumos.profiles.shapes import Shapes
from lumos.psfs import PSF_HALF_LIGHT, MoffatPsf, PixelPsf, Psf
from lumos.rows import SHARED, Rowwise
from lumos.teahupoo.draws import FluxProposal

__all__ = ["SimulatedStamps", "simulate_stamps"]


@dataclass(frozen=True)
class SimulatedStamps(Rowwise):
    """n simulated stamps with their truth and what a catalogue says. Tensors lie on one device.

    Parameters
    ----------
    data : tensor, shape (n, side, side), float32
        Pixels of the large stamps, image units.
    good : tensor, shape (n, side, side), bool
        True where a pixel is usable.
    sky_variance : tensor, shape (n, 1, 1) or (n, size, size), float32
        Variance of a pixel of the small stamps without the galaxy's own photons, greater than 0.
    gain : tensor, shape (n,), float32
        Electrons per image unit; ``inf`` where unknown: such galaxies have no Poisson noise.
    flux : tensor, shape (n,), float32
        True total flux, image units.
    flux_scale : tensor, shape (n,), float32
        Closed-form error of the flux for white sky noise and no mask, (v / sum m^2)^(1/2) with the catalogue's profile
        m and the variance v of a blank pixel; image units.
    profile : tensor, shape (n, size, size), float32
        The catalogue's profile, PSF-convolved, of unit total flux.
    truth, catalog : Shapes
        True shapes, and those that the catalogue has; centres in the small stamps.
    psf_fwhm, catalog_psf_fwhm : float array, shape (n,)
        True FWHM of the PSF in pixels, and the one of ``profile``.
    ref_mag : float array, shape (n,)
        Magnitude in the catalogue's reference band.
    zeropoint : float array, shape (n,)
        AB magnitude of 1 image unit; NaN where unknown.
    exposure, band, state : int array, shape (n,)
        Entries of the pool's ``exposures``, ``bands`` and ``states``.
    ccd_x_norm, ccd_y_norm : float array, shape (n,)
        Place of the background on its CCD, 0 to 1.
    geometry : StampGeometry
        Side of the small stamps, and their annulus.
    """

    data: Tensor
    good: Tensor
    sky_variance: Tensor
    gain: Tensor
    flux: Tensor
    flux_scale: Tensor
    profile: Tensor
    truth: Shapes
    catalog: Shapes
    psf_fwhm: FloatArray
    catalog_psf_fwhm: FloatArray
    ref_mag: FloatArray
    zeropoint: FloatArray
    exposure: IntArray
    band: IntArray
    state: IntArray
    ccd_x_norm: FloatArray
    ccd_y_norm: FloatArray
    geometry: StampGeometry = field(metadata=SHARED)

    @property
    def inner(self) -> slice:
        """Return the rows and columns of the large stamps that make the small ones."""
        return _inner(self.data.shape[1], self.geometry.size)

    @property
    def stamps(self) -> Tensor:
        """Return the small stamps, a view of ``data`` of shape (n, size, size)."""
        return self.data[:, self.inner, self.inner]

    def to_batch(self) -> StampBatch:
        """Return what an estimator sees: the catalogue's profile, and the background of the annulus.

        Returns
        -------
        StampBatch
            Of the small stamps.
        """
        margin, catalog = self.inner.start, self.catalog
        x, y, radius, q = (
            self._tensor(values) for values in (catalog.x, catalog.y, catalog.half_light_radius, catalog.axis_ratio)
        )
        psf_radius = PSF_HALF_LIGHT * self._tensor(self.catalog_psf_fwhm)
        background = annulus_background(self.data, self.good, x + margin, y + margin, *self.geometry.annulus)
        return StampBatch(
            data=self.stamps.contiguous(),
            good=self.good[:, self.inner, self.inner].contiguous(),
            sky_variance=self.sky_variance,
            gain=self.gain,
            profile=self.profile,
            x=x,
            y=y,
            ellipses=Ellipses(
                torch.hypot(radius, psf_radius), torch.hypot(radius * q, psf_radius), self._tensor(catalog.theta)
            ),
            background=background.level,
            background_err=background.level_err,
            own_light=own_light_per_pixel(radius * q.sqrt(), self._tensor(catalog.sersic_n), *self.geometry.annulus),
        )

    def _tensor(self, values: FloatArray) -> Tensor:
        return torch.from_numpy(np.asarray(values, dtype=np.float32)).to(self.data.device)


def simulate_stamps(
    backgrounds: BackgroundStamps,
    truth: Shapes,
    flux: FloatArray | FluxProposal,
    rng: np.random.Generator,
    *,
    catalog: Shapes | None = None,
    psf_scale: FloatArray | None = None,
    ref_mag: FloatArray | None = None,
    geometry: StampGeometry = STANDARD_GEOMETRY,
    device: torch.device | str = "cpu",
) -> SimulatedStamps:
    r"""Put galaxies on background stamps.

    The stamp is :math:`d = b + F m + \mathrm{noise}`, where b is the background with all its noise, m the profile
    with the background's PSF, and the noise that of the galaxy's own photons: Poisson of mean and variance
    :math:`F m g` in electrons, so of variance :math:`F m / g` in image units. Where F or m is negative there is none.

    Parameters
    ----------
    backgrounds : BackgroundStamps
        n stamps.
    truth : Shapes
        True shapes and centres.
    flux : float array, shape (n,), or FluxProposal
        Total fluxes in image units, 0 or more; or a density from which they are drawn, in units of ``flux_scale``,
        negative ones included.
    rng : numpy.random.Generator
        For fluxes and photons; the same state gives the same stamps on one kind of device.
    catalog : Shapes, optional
        What the catalogue says; by default the truth.
    psf_scale : float array, shape (n,), optional
        Width of the PSF of the catalogue's profile over the true one; by default 1.
    ref_mag : float array, shape (n,), optional
        Reference magnitudes, passed on; NaN by default.
    geometry : StampGeometry
        Side of the small stamps, and their annulus.
    device : torch.device or str
        Where to compute.

    Returns
    -------
    SimulatedStamps
        The n stamps.

    Raises
    ------
    LumosShapeError
        If the lengths differ.
    LumosValueError
        If a flux is negative or not finite, or a shape is out of the renderer's range.
    LumosDataError
        If the backgrounds do not hold stamp and annulus, or a PSF is wider than half the stamp.
    """
    _check(backgrounds, truth, flux, geometry)
    n, inner = len(backgrounds), _inner(backgrounds.side, geometry.size)
    light = _render(truth, backgrounds.psfs, backgrounds.side, inner.start, device)
    if catalog is None and psf_scale is None:
        profile = light[:, inner, inner].clone()
    else:
        profile = _render(catalog or truth, _scaled(backgrounds.psfs, psf_scale), geometry.size, 0, device)
    blank = torch.from_numpy(backgrounds.sky_variance.astype(np.float32)).to(device)
    flux_scale = (blank / profile.square().sum((1, 2))).sqrt()
    if isinstance(flux, FluxProposal):
        total = torch.from_numpy(flux.draw(n, rng)).to(device).float() * flux_scale
    else:
        total = torch.from_numpy(np.asarray(flux, dtype=np.float32)).to(device)
    gain = torch.from_numpy(backgrounds.gain.astype(np.float32)).to(device)
    light.mul_(total[:, None, None])
    _add_photon_noise(light, gain, torch.Generator(device).manual_seed(int(rng.integers(2**62))))
    light += torch.from_numpy(backgrounds.data).to(device)
    scale = np.ones(n) if psf_scale is None else psf_scale
    return SimulatedStamps(
        data=light,
        good=torch.from_numpy(backgrounds.good).to(device),
        sky_variance=_variance_map(backgrounds, inner, blank),
        gain=torch.where(torch.isfinite(gain), gain, torch.inf),
        flux=total,
        flux_scale=flux_scale,
        profile=profile,
        truth=truth,
        catalog=catalog or truth,
        psf_fwhm=backgrounds.psf_fwhm,
        catalog_psf_fwhm=backgrounds.psf_fwhm * scale,
        ref_mag=np.full(n, np.nan) if ref_mag is None else ref_mag,
        zeropoint=backgrounds.zeropoint,
        exposure=backgrounds.exposure,
        band=backgrounds.band,
        state=backgrounds.state,
        ccd_x_norm=backgrounds.ccd_x_norm,
        ccd_y_norm=backgrounds.ccd_y_norm,
        geometry=geometry,
    )


def _inner(side: int, size: int) -> slice:
    """Return the part of a large stamp that is the small one: their middle pixels are the same."""
    start = side // 2 - size // 2
    return slice(start, start + size)


def _check(
    backgrounds: BackgroundStamps,
    truth: Shapes,
    flux: FloatArray | FluxProposal,
    geometry: StampGeometry,
) -> None:
    """Refuse what does not go together."""
    n = len(backgrounds)
    if len(truth) != n:
        raise LumosShapeError("galaxies for the background stamps", len(truth), n)
    if backgrounds.side < geometry.side:
        text = f"{geometry} need {geometry.side}"
        raise LumosDataError(f"background stamps of side {backgrounds.side} px; {text}")
    widest = float(np.max(backgrounds.psf_fwhm, initial=0.0))
    if 2 * widest > geometry.size:
        raise LumosDataError(
            f"PSF of FWHM {widest:.3g} px, allowed: up to half of the stamp's side, {geometry.size} px"
        )
    if isinstance(flux, FluxProposal):
        return
    if np.shape(flux) != (n,):
        raise LumosShapeError("fluxes for the background stamps", np.shape(flux), (n,))
    bad = ~(np.isfinite(flux) & (np.asarray(flux) >= 0))
    if bad.any():
        allowed = "finite, 0 or more (a FluxProposal draws negative fluxes too)"
        raise LumosValueError("flux in image units", float(np.asarray(flux)[bad][0]), allowed)


def _render(
    shapes: Shapes,
    psfs: tuple[tuple[IntArray, Psf], ...],
    size: int,
    offset: int,
    device: torch.device | str,
) -> Tensor:
    """Draw unit-flux galaxies with their PSFs on stamps that begin ``offset`` pixels before the small ones."""
    drawn = []
    for rows, psf in psfs:
        some = shapes.take(rows)
        drawn.append((rows, render(some.at(some.x + offset, some.y + offset), psf, size=size, device=device)))
    if len(drawn) == 1:  # all stamps, in their order
        return drawn[0][1]
    images = torch.empty((len(shapes), size, size), dtype=torch.float32, device=device)
    for rows, part in drawn:
        images[torch.from_numpy(rows).to(device)] = part
    return images


def _scaled(psfs: tuple[tuple[IntArray, Psf], ...], scale: FloatArray | None) -> tuple[tuple[IntArray, Psf], ...]:
    """Return PSFs made wider or narrower."""
    if scale is None:
        return psfs
    return tuple(
        (rows, MoffatPsf(psf.fwhm * scale[rows], psf.beta))
        if isinstance(psf, MoffatPsf)
        else (rows, PixelPsf(_stretch(psf.images, scale[rows]), psf.sampling, psf.includes_pixel))
        for rows, psf in psfs
    )


def _stretch(images: AnyArray, scale: FloatArray) -> AnyArray:
    """Magnify PSF images about their middles by cubic interpolation; each sums to 1 again."""
    matrix = torch.zeros(len(images), 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = torch.from_numpy(1 / scale).float()
    source = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))[:, None]
    grid = affine_grid(matrix, list(source.shape), align_corners=True)
    stretched = grid_sample(source, grid, mode="bicubic", padding_mode="zeros", align_corners=True)[:, 0]
    return np.asarray((stretched / stretched.sum((1, 2), keepdim=True)).numpy())


def _add_photon_noise(light: Tensor, gain: Tensor, generator: torch.Generator) -> None:
    """Add in place the Poisson noise of light in image units; none where the gain is unknown."""
    known = torch.isfinite(gain)
    electrons_per_unit = torch.where(known, gain, 0.0)[:, None, None]
    units_per_electron = torch.where(known, 1 / gain, 0.0)[:, None, None]
    expected = light.clamp(min=0).mul_(electrons_per_unit)
    noise = torch.poisson(expected, generator=generator).sub_(expected)
    light.addcmul_(noise, units_per_electron)


def _variance_map(backgrounds: BackgroundStamps, inner: slice, blank: Tensor) -> Tensor:
    """Return the sky's variance on the small stamps: the map where there is one, else one value per stamp."""
    if backgrounds.variance is None:
        return blank[:, None, None]
    part = torch.from_numpy(np.ascontiguousarray(backgrounds.variance[:, inner, inner])).to(blank.device)
    # Pixels without a variance are masked; stamps without a map have NaN throughout.
    return torch.where(torch.isfinite(part) & (part > 0), part, blank[:, None, None])
