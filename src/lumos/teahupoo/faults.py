"""Stamps with a fault: what the out-of-training score is fitted and validated with."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from lumos.conventions import FloatArray, IntArray
from lumos.errors import LumosValueError
from lumos.estimators import StampBatch
from lumos.pools.pool import BackgroundPool, BackgroundStamps
from lumos.simulate.population import Galaxies, load_population
from lumos.teahupoo.draws import FluxProposal
from lumos.teahupoo.fluxes import pool_passbands, population_flux
from lumos.teahupoo.settings import StampSettings
from lumos.teahupoo.simulated import SimulatedStamps, simulate_stamps
from lumos.teahupoo.simulator import perturb_catalog, place_on_stamps

__all__ = ["FAULTS", "Fault", "simulate_faulty", "spoil_batch"]

#: Images that are added up to a trail.
_TRAIL_STEPS = 9


@dataclass(frozen=True)
class Fault:
    """A fault of an exposure, of a given strength.

    Parameters
    ----------
    weak, strong : float
        Range of strengths that a score is fitted with.
    light : callable, optional
        Function of the galaxies' light without noise, shape (n, side, side), of n strengths, n angles (radians) and
        n PSF widths (pixels): what the fault makes of the light.
    radius, psf : bool
        Whether the catalogue's radii and PSFs are wrong by the factor that is the strength.
    noise : bool
        Whether the noise is underestimated by that factor.
    star : bool
        Whether a saturated star, its strength the logarithm of its peak over the noise, lies within 5 pixels.
    """

    weak: float
    strong: float
    light: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] | None = None
    radius: bool = False
    psf: bool = False
    noise: bool = False
    star: bool = False


def _warp(light: Tensor, matrices: Tensor, shift: Tensor) -> Tensor:
    """Resample images: the value at p comes from M (p - middle) + middle - shift; light is kept."""
    n, side, _ = light.shape
    middle = 2 * (side // 2) / (side - 1) - 1
    about = middle - matrices @ torch.full((n, 2, 1), middle) - 2 * shift[:, :, None] / (side - 1)
    grid = affine_grid(torch.cat([matrices, about], dim=2), [n, 1, side, side], align_corners=True)
    moved = grid_sample(light[:, None], grid, mode="bicubic", padding_mode="zeros", align_corners=True)[:, 0]
    kept: Tensor = moved * torch.linalg.det(matrices).abs()[:, None, None]
    return kept


def _scaled_along(light: Tensor, angle: Tensor, along: Tensor, across: Tensor) -> Tensor:
    """Stretch images along a direction and across it."""
    c, s = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([c, -s], dim=1), torch.stack([s, c], dim=1)], dim=1)
    matrices = turn @ torch.diag_embed(torch.stack([1 / along, 1 / across], dim=1)) @ turn.mT
    return _warp(light, matrices, torch.zeros(len(light), 2))


def _stretched(light: Tensor, strength: Tensor, angle: Tensor, fwhm: Tensor) -> Tensor:  # noqa: ARG001
    return _scaled_along(light, angle, strength, torch.ones_like(strength))


def _sheared(light: Tensor, strength: Tensor, angle: Tensor, fwhm: Tensor) -> Tensor:  # noqa: ARG001
    return _scaled_along(light, angle, strength.sqrt(), strength.rsqrt())


def _moved(light: Tensor, strength: Tensor, angle: Tensor, fwhm: Tensor) -> Tensor:  # noqa: ARG001
    shift = strength[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    return _warp(light, torch.eye(2).expand(len(light), 2, 2), shift)


def _trailed(light: Tensor, strength: Tensor, angle: Tensor, fwhm: Tensor) -> Tensor:
    steps = np.linspace(-0.5, 0.5, _TRAIL_STEPS)
    return torch.stack([_moved(light, float(step) * strength, angle, fwhm) for step in steps]).mean(0)


def _doubled(light: Tensor, strength: Tensor, angle: Tensor, fwhm: Tensor) -> Tensor:
    half = strength * fwhm / 2
    return (_moved(light, half, angle, fwhm) + _moved(light, -half, angle, fwhm)) / 2


#: Faults by name. The strength is, in this order: a factor; a ratio of axes; pixels; separation over the PSF's FWHM;
#: pixels; the catalogue's PSF over the true one (twice, for wide and narrow); the catalogue's scale over the true one
#: (twice); the decimal logarithm of the star's peak over the noise; the true noise over what is believed.
FAULTS: dict[str, Fault] = {
    "stretched": Fault(1.3, 2.0, light=_stretched),
    "sheared": Fault(1.3, 2.0, light=_sheared),
    "trailed": Fault(3.0, 12.0, light=_trailed),
    "double": Fault(0.7, 2.0, light=_doubled),
    "displaced": Fault(2.0, 6.0, light=_moved),
    "PSF too narrow": Fault(0.4, 0.7, psf=True),
    "PSF too wide": Fault(1.5, 2.5, psf=True),
    "scale too small": Fault(0.4, 0.75, radius=True, psf=True),
    "scale too large": Fault(1.35, 2.5, radius=True, psf=True),
    "saturated star": Fault(2.5, 5.0, star=True),
    "noise underestimated": Fault(2.0, 5.0, noise=True),
}


def simulate_faulty(
    pool: BackgroundPool,
    settings: StampSettings,
    n: int,
    rng: np.random.Generator,
    *,
    rows: IntArray | None = None,
    fault: str | None = None,
    strength: float | None = None,
    snr: FloatArray | None = None,
) -> SimulatedStamps:
    """Simulate stamps with a fault.

    Faults of the light strike the galaxy and not its neighbours and noise: that makes them hard to see.

    Parameters
    ----------
    pool : BackgroundPool
        Backgrounds.
    settings : StampSettings
        Sizes, fluxes and errors of the catalogue, as in training.
    n : int
        How many.
    rng : numpy.random.Generator
        The same state gives the same stamps.
    rows : int array, optional
        Stamps of the pool to draw from.
    fault : str, optional
        One of ``FAULTS``; None for good stamps.
    strength : float, optional
        Of the fault; by default drawn from its range.
    snr : float array, shape (n,), optional
        True fluxes over their closed-form errors with the true profile; by default as the settings say.

    Returns
    -------
    SimulatedStamps
        The n stamps; a stamp's truth has no fault.

    Raises
    ------
    LumosValueError
        If the fault is unknown.
    """
    if fault is not None and fault not in FAULTS:
        raise LumosValueError("fault", fault, ", ".join(FAULTS))
    kind = FAULTS[fault] if fault is not None else Fault(1.0, 1.0)
    backgrounds = pool.sample(rng, n, rows).crop(settings.geometry.side, rng)
    galaxies = load_population().draw(n, rng, settings.mag_range)
    strengths = rng.uniform(kind.weak, kind.strong, n) if strength is None else np.full(n, strength)
    light, stamps = _unit_light(backgrounds, galaxies, settings, kind, strengths, rng)
    if snr is not None:
        true_profile = light[:, stamps.inner, stamps.inner].flatten(1)
        flux = _tensor(snr * np.sqrt(backgrounds.sky_variance)) / torch.linalg.vector_norm(true_profile, dim=1)
    elif settings.flux_from == "proposal":
        flux = _tensor(FluxProposal(**settings.proposal.model_dump()).draw(n, rng)) * stamps.flux_scale
    else:
        flux = _tensor(population_flux(galaxies, backgrounds, pool_passbands(pool, settings), settings))
    if kind.light is not None:
        angle = _tensor(rng.uniform(0, 2 * np.pi, n))
        light = kind.light(light, _tensor(strengths), angle, _tensor(backgrounds.psf_fwhm))
    gain = _tensor(np.where(np.isfinite(backgrounds.gain), backgrounds.gain, np.inf))
    data = _with_photon_noise(light * flux[:, None, None], gain, rng) + torch.from_numpy(backgrounds.data)
    variance = stamps.sky_variance
    if kind.noise:
        variance = variance / _tensor(strengths**2)[:, None, None]
    if kind.star:
        noise = _tensor(np.sqrt(backgrounds.sky_variance))
        data = _with_star(data, noise, _tensor(backgrounds.psf_fwhm), strengths, rng)
    return replace(stamps, data=data, flux=flux, gain=gain, sky_variance=variance)


def spoil_batch(
    batch: StampBatch,
    fault: str,
    flux: FloatArray,
    fwhm: FloatArray,
    redraw: Callable[[FloatArray, FloatArray], Tensor],
    rng: np.random.Generator,
) -> StampBatch:
    """Give stamps a fault.

    Parameters
    ----------
    batch : StampBatch
        n good stamps.
    fault : str
        One of ``FAULTS``; strengths are drawn from its range.
    flux : float array, shape (n,)
        True fluxes.
    fwhm : float array, shape (n,)
        Of the PSFs, pixels.
    redraw : callable
        Takes factors on the catalogue's radii and on the widths of the PSFs, each of shape (n,); draws the profiles.
    rng : numpy.random.Generator
        The same state gives the same faults.

    Returns
    -------
    StampBatch
        Faulty stamps.
    """
    kind, n = FAULTS[fault], len(batch)
    strengths = rng.uniform(kind.weak, kind.strong, n)
    data, profile = batch.data, batch.profile
    if kind.light is not None:
        light = profile * _tensor(flux)[:, None, None]
        moved = kind.light(light, _tensor(strengths), _tensor(rng.uniform(0, 2 * np.pi, n)), _tensor(fwhm))
        data = data + moved - light
    if kind.radius or kind.psf:
        widest = 0.49 * profile.shape[1] / fwhm
        radius, psf = (strengths if wrong else np.ones(n) for wrong in (kind.radius, kind.psf))
        profile = redraw(radius, np.minimum(psf, widest))
    sky_variance, variance = batch.sky_variance, batch.variance
    if kind.noise:
        lower = _tensor(strengths**-2)[:, None, None]
        sky_variance, variance = sky_variance * lower, None if variance is None else variance * lower
    if kind.star:
        noise = batch.sky_variance.flatten(1).median(1).values.sqrt()
        data = _with_star(data, noise, _tensor(fwhm), strengths, rng)
    return replace(batch, data=data, profile=profile, sky_variance=sky_variance, variance=variance)


def _tensor(values: FloatArray) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def _unit_light(
    backgrounds: BackgroundStamps,
    galaxies: Galaxies,
    settings: StampSettings,
    kind: Fault,
    strengths: FloatArray,
    rng: np.random.Generator,
) -> tuple[Tensor, SimulatedStamps]:
    """Return the light of galaxies of flux 1 without noise, and stamps with a catalogue that has the fault."""
    n = len(galaxies)
    truth = place_on_stamps(galaxies, backgrounds, settings.stamp_size, rng)
    catalog, psf_scale = perturb_catalog(truth, settings.catalog_scatter, rng)
    if kind.radius:
        catalog = replace(catalog, half_light_radius=catalog.half_light_radius * strengths)
    if kind.psf:
        # The renderer takes PSFs of up to half a stamp.
        psf_scale = np.minimum(psf_scale * strengths, 0.49 * settings.stamp_size / backgrounds.psf_fwhm)
    stamps = simulate_stamps(
        replace(backgrounds, data=np.zeros_like(backgrounds.data), gain=np.full(n, np.nan)),
        truth,
        np.ones(n),
        rng,
        catalog=catalog,
        psf_scale=psf_scale,
        ref_mag=galaxies.ref_mag,
        geometry=settings.geometry,
    )
    return stamps.data, stamps


def _with_photon_noise(light: Tensor, gain: Tensor, rng: np.random.Generator) -> Tensor:
    """Add the noise of the galaxies' photons, where the gain is known."""
    known = torch.isfinite(gain)[:, None, None]
    electrons = torch.where(known, gain[:, None, None], 1.0)
    expected = light.clamp(min=0) * electrons
    noise = torch.poisson(expected, generator=torch.Generator().manual_seed(int(rng.integers(2**62)))) - expected
    return light + torch.where(known, noise / electrons, 0.0)


def _with_star(data: Tensor, noise: Tensor, fwhm: Tensor, log_peak: FloatArray, rng: np.random.Generator) -> Tensor:
    """Add a star with a flat top and a bleed trail along a column, unmasked, near each galaxy."""
    n, side, _ = data.shape
    pixel = torch.arange(side) - side // 2
    x, y = (_tensor(rng.uniform(-5, 5, n))[:, None] for _ in range(2))
    level = (noise * _tensor(10**log_peak))[:, None, None]
    # A Moffat profile of beta = 3, 3 to 30 times as bright as the level.
    core = (fwhm / (2 * np.sqrt(2 ** (1 / 3) - 1)))[:, None, None]
    distance = (pixel - x)[:, None, :].square() + (pixel - y)[:, :, None].square()
    star = level * _tensor(10 ** rng.uniform(0.5, 1.5, n))[:, None, None] * (1 + distance / core.square()) ** -3
    length = _tensor(rng.uniform(5, 25, n))[:, None]
    trail = ((pixel - x).abs() < 1)[:, None, :] & ((pixel - y).abs() < length)[:, :, None]
    return torch.where(trail, level, torch.minimum(data + star, level))
