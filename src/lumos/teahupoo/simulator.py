"""An endless stream of labelled stamps: any batch of it, by its number, the same in every process."""

import numpy as np
import torch

from lumos.conventions import AXIS_RATIO_RANGE, SERSIC_N_RANGE, AnyArray, FloatArray, IntArray
from lumos.errors import LumosDataError, LumosValueError
from lumos.pools.pool import BackgroundPool, BackgroundStamps
from lumos.profiles.shapes import Shapes
from lumos.simulate.population import Galaxies, Population
from lumos.teahupoo.draws import FluxProposal
from lumos.teahupoo.fluxes import pool_passbands, population_flux
from lumos.teahupoo.settings import CatalogScatter, StampSettings
from lumos.teahupoo.simulated import SimulatedStamps, simulate_stamps

__all__ = [
    "StampSimulator",
    "deviating_shapes",
    "perturb_catalog",
    "place_on_stamps",
]


def place_on_stamps(galaxies: Galaxies, backgrounds: BackgroundStamps, size: int, rng: np.random.Generator) -> Shapes:
    """Return galaxies in the pixels of their stamps, centred on the middle pixel up to a random part of a pixel.

    Parameters
    ----------
    galaxies : Galaxies
        n galaxies.
    backgrounds : BackgroundStamps
        n stamps, which have the pixel scales.
    size : int
        Side of the stamps to measure, pixels.
    rng : numpy.random.Generator
        Draws two numbers per galaxy.

    Returns
    -------
    Shapes
        With their centres in the stamps to measure.
    """
    x, y = size // 2 + rng.uniform(-0.5, 0.5, (2, len(galaxies)))
    return Shapes(
        x=x,
        y=y,
        half_light_radius=galaxies.half_light_radius / backgrounds.pixel_scale,
        sersic_n=galaxies.sersic_n,
        axis_ratio=galaxies.axis_ratio,
        theta=np.deg2rad(galaxies.position_angle),
    )


def perturb_catalog(truth: Shapes, scatter: CatalogScatter, rng: np.random.Generator) -> tuple[Shapes, FloatArray]:
    """Return what a catalogue with errors says.

    Parameters
    ----------
    truth : Shapes
        n galaxies.
    scatter : CatalogScatter
        Gaussian scatter of each parameter; index and axis ratio stay inside the renderer's range.
    rng : numpy.random.Generator
        Draws eight numbers per galaxy.

    Returns
    -------
    catalog : Shapes
        Shapes and centres.
    psf_scale : float array, shape (n,)
        Width of the PSF over the true one.
    """
    deviates = rng.standard_normal((7, len(truth)))
    # Within three widths, or a galaxy in a million would have an absurd size.
    deviates *= np.exp(scatter.spread * rng.standard_normal(len(truth)).clip(-3, 3))
    widths = np.array([scatter.half_light_radius, scatter.sersic_n, scatter.axis_ratio, np.deg2rad(scatter.angle)])
    catalog = deviating_shapes(truth, np.append(widths, [scatter.centre] * 2)[:, None] * deviates[:6])
    return catalog, np.exp(scatter.psf_fwhm * deviates[6])


def deviating_shapes(truth: Shapes, deviations: FloatArray) -> Shapes:
    """Return shapes that deviate from true ones.

    Parameters
    ----------
    truth : Shapes
        n galaxies.
    deviations : float array, shape (6, n)
        Of the natural logarithms of half-light radius and Sérsic index, of axis ratio, angle (radians), x and y.

    Returns
    -------
    Shapes
        Index and axis ratio stay inside the renderer's range.
    """
    return Shapes(
        half_light_radius=truth.half_light_radius * np.exp(deviations[0]),
        sersic_n=np.clip(truth.sersic_n * np.exp(deviations[1]), *SERSIC_N_RANGE),
        axis_ratio=np.clip(truth.axis_ratio + deviations[2], *AXIS_RATIO_RANGE),
        theta=truth.theta + deviations[3],
        x=truth.x + deviations[4],
        y=truth.y + deviations[5],
    )


class StampSimulator:
    """Simulated stamps by batch number.

    Parameters
    ----------
    pool : BackgroundPool
        Backgrounds.
    population : Population
        Galaxies.
    settings : StampSettings
        Sizes, fluxes, errors of the catalogue.
    seed : int
        A batch depends on this and its number alone, whichever process makes it.
    rows : int array, optional
        Stamps of the pool to draw from; by default all.
    device : torch.device or str, optional
        Where to compute. Catalogues are the same on every device, photons differ.

    Raises
    ------
    LumosValueError
        If ``seed`` is negative or ``rows`` is empty.
    LumosConfigError
        If no passband of a band is known.
    LumosDataError
        If the pool's stamps are too small or a PSF too wide for the settings; or fluxes need a zero point, gain or
        exposure time that an exposure lacks.
    """

    def __init__(
        self,
        pool: BackgroundPool,
        population: Population,
        settings: StampSettings,
        seed: int,
        *,
        rows: IntArray | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if seed < 0:
            raise LumosValueError("seed", seed, "0 or more")
        if rows is not None and len(rows) == 0:
            raise LumosValueError("background stamps to draw from", 0, "at least one")
        self.pool, self.population, self.settings, self.seed = pool, population, settings, seed
        self._rows, self._device = rows, device
        self._scattered = any(value > 0 for value in settings.catalog_scatter.model_dump().values())
        self._proposal = FluxProposal(**settings.proposal.model_dump())
        self._side = settings.geometry.side
        if pool.side < self._side:
            raise LumosDataError(f"pool of stamps of side {pool.side} px, stamp and annulus need {self._side}")
        chosen = slice(None) if rows is None else rows
        widest = float(pool.psf_fwhm[chosen].max())
        if 2 * widest > settings.stamp_size:
            allowed = f"up to half of the stamp's side, {settings.stamp_size} px"
            raise LumosDataError(f"pool with a PSF of FWHM {widest:.3g} px, allowed: {allowed}")
        if settings.flux_from == "population":
            self._passbands = pool_passbands(pool, settings)  # refuses unknown bands at once
            self._check_calibration(np.unique(pool.exposure[chosen]))

    def _check_calibration(self, exposures: AnyArray) -> None:
        """Refuse exposures that lack what the population's fluxes need."""
        needed = ["zeropoint"] if self.settings.flux_clip is None else ["zeropoint", "gain", "exposure_time"]
        for exposure in (self.pool.exposures[number] for number in exposures):
            missing = [name for name in needed if not np.isfinite(getattr(exposure, name))]
            if missing:
                where = f"exposure {exposure.exposure_id} detector {exposure.detector}"
                raise LumosDataError(f"{where}: no {', '.join(missing)}, which flux_from=population needs")

    def batch(self, index: int) -> SimulatedStamps:
        """Make one batch.

        Parameters
        ----------
        index : int
            Its number, 0 or more.

        Returns
        -------
        SimulatedStamps
            ``settings.batch_size`` stamps.

        Raises
        ------
        LumosValueError
            If the number is negative.
        """
        if index < 0:
            raise LumosValueError("number of the batch", index, "0 or more")
        settings = self.settings
        rng = np.random.default_rng([self.seed, index])
        backgrounds = self.pool.sample(rng, settings.batch_size, self._rows).crop(self._side, rng)
        galaxies = self.population.draw(settings.batch_size, rng, settings.mag_range)
        truth = place_on_stamps(galaxies, backgrounds, settings.stamp_size, rng)
        catalog, psf_scale = perturb_catalog(truth, settings.catalog_scatter, rng)
        psf_scattered = settings.catalog_scatter.psf_fwhm > 0
        proposed = settings.flux_from == "proposal"
        return simulate_stamps(
            backgrounds,
            truth,
            self._proposal if proposed else population_flux(galaxies, backgrounds, self._passbands, settings),
            rng,
            catalog=catalog if self._scattered else None,
            psf_scale=psf_scale if psf_scattered else None,
            ref_mag=galaxies.ref_mag,
            geometry=settings.geometry,
            device=self._device,
        )
