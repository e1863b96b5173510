"""How wrong a catalogue may be (appendix C of the paper): forecast from derivatives, and tried on wrong catalogues."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from lumos.catalogs.parent import ParentCatalog
from lumos.conventions import AXIS_RATIO_RANGE, SERSIC_N_RANGE, FloatArray
from lumos.images.exposure import Exposure
from lumos.images.psf.models import MoffatModel
from lumos.images.wcs import pixel_to_sky
from lumos.photometry.batches import stamp_batch
from lumos.photometry.ccd import object_batches, prepare_ccd
from lumos.photometry.exposure import estimators_of
from lumos.photometry.objects import on_image, place_objects
from lumos.photometry.settings import MeasureSettings
from lumos.simulate.inject import inject
from lumos.simulate.population import load_population
from lumos.statistics import sigma68
from lumos.validate.studies.flat import flat_exposure

__all__ = ["GALAXIES", "PAPER", "PARAMETERS", "Robustness", "format_robustness", "robustness"]

#: Parameters of the paper's table: half-light radius, Sérsic index, FWHM, ellipticity, background.
PARAMETERS = ("r50", "n", "PSF", "e", "background")
#: Table 1 of the paper: per cent of a parameter's error that makes ten per cent of the flux.
PAPER = {
    "profile_fit": (4.0, 4.0, 4.0, 5.0, 1.0),
    "aperture": (21.0, 59.0, 19.0, 1.0, 1.0),
    "optimal": (8.0, 11.0, 4.0, 13.0, 1.0),
    "lumos": (28.0, 80.0, 14.0, 83.0, np.nan),
}
#: The image: galaxies along a side, pixels between them, arcsec per pixel, FWHM and exponent of the PSF, electrons of
#: the sky, read noise.
_ROW, _STEP, _SCALE, _FWHM, _BETA, _SKY, _READ_NOISE = 10, 120, 0.263, 3.8, 4.765, 100.0, 6.0
#: Relative step of derivatives, prior of the forecast, and scatter of the catalogues that are tried.
_DERIVATIVE, _PRIOR, _WRONG = 0.02, 0.1, 0.1
_MAGNITUDES = (19.0, 22.5)
#: Galaxies of the study.
GALAXIES = _ROW**2


@dataclass(frozen=True)
class Robustness:
    """What wrong parameters do to the fluxes of one estimator.

    Parameters
    ----------
    for_ten_per_cent : dict
        Per cent by which a parameter may be wrong until the flux is wrong by ten: of the mean absolute slope.
    correlation : dict
        Of flux and parameter in the Fisher forecast, with a prior of ten per cent on each (eq. 28-31, Fig. 19).
    tried : dict
        σ68 of the flux over that of the right catalogue, minus 1, where the parameter scatters by ten per cent.
    """

    for_ten_per_cent: Mapping[str, float]
    correlation: Mapping[str, float]
    tried: Mapping[str, float]


@dataclass(frozen=True)
class _World:
    """An image of galaxies far apart, and what is true of it."""

    exposure: Exposure
    catalog: ParentCatalog
    truth: FloatArray
    settings: MeasureSettings

    def fluxes(self, errors: Mapping[str, FloatArray]) -> dict[str, tuple[FloatArray, FloatArray]]:
        """Return fluxes and errors by estimator where parameters are wrong by relative errors."""
        exposure, catalog, n = self.exposure, self.catalog, len(self.catalog)

        def off(name: str) -> FloatArray:
            return errors.get(name, np.zeros(n))

        assert isinstance(exposure.psf, MoffatModel)
        wrong = replace(
            catalog,
            half_light_radius=catalog.half_light_radius * (1 + off("r50")),
            sersic_n=np.clip(catalog.sersic_n * (1 + off("n")), *SERSIC_N_RANGE),
            axis_ratio=np.clip(1 - (1 - catalog.axis_ratio) * (1 + off("e")), *AXIS_RATIO_RANGE),
        )
        # One PSF for all: where it scatters, it scatters from image to image.
        exposure = replace(exposure, psf=replace(exposure.psf, fwhm=exposure.psf.fwhm * float(1 + off("PSF")[0])))
        placed = place_objects(exposure, wrong, self.settings)
        ccd = prepare_ccd(exposure, 1.0, placed, on_image(placed, exposure), self.settings)
        found = {name: (np.full(n, np.nan), np.full(n, np.nan)) for name in self.settings.all_estimators}
        for rows in object_batches(ccd.objects, self.settings):
            batch = stamp_batch(ccd, rows)[0]
            level = batch.background.new_tensor(_SKY * off("background")[rows])
            batch = replace(batch, background=batch.background + level)
            for name, one in estimators_of(self.settings).items():
                measured = one(batch)
                found[name][0][rows], found[name][1][rows] = measured.flux.numpy(), measured.flux_err.numpy()
        return found


def robustness(model: str | None = None, *, seed: int = 3) -> dict[str, Robustness]:
    """Forecast and try what wrong catalogues do to fluxes.

    Parameters
    ----------
    model : str, optional
        Model to try beside the classical estimators.
    seed : int, optional
        Of galaxies, noise and errors.

    Returns
    -------
    dict
        By estimator: of 100 galaxies of the population between magnitudes 19 and 22.5, alone on a flat sky.

    Raises
    ------
    LumosConfigError
        If there is no such model.

    Notes
    -----
    Derivatives are central differences of two per cent: estimators have masks, clipped backgrounds and scene fits
    inside, which no automatic derivative goes through.
    """
    settings = MeasureSettings(estimators=("aperture", "profile_fit", "optimal"), model=model)
    rng = np.random.default_rng(seed)
    world = _draw(settings, rng)
    n = len(world.catalog)
    base = world.fluxes({})
    steps = {name: [world.fluxes({name: np.full(n, sign * _step(name))}) for sign in (1, -1)] for name in PARAMETERS}
    tried = {}
    for name in PARAMETERS:
        scatter = _WRONG * rng.standard_normal(n) * (1 if name != "background" else 0.1)
        if name == "PSF":
            scatter = np.full(n, _WRONG)
        tried[name] = world.fluxes({name: scatter})
    return {one: _of(one, world.truth, base, steps, tried) for one in settings.all_estimators}


def _step(name: str) -> float:
    # The sky is a hundred times the error that matters.
    return _DERIVATIVE * (0.1 if name == "background" else 1.0)


def _of(
    one: str,
    truth: FloatArray,
    base: Mapping[str, tuple[FloatArray, FloatArray]],
    steps: Mapping[str, list[dict[str, tuple[FloatArray, FloatArray]]]],
    tried: Mapping[str, dict[str, tuple[FloatArray, FloatArray]]],
) -> Robustness:
    flux, error = base[one]
    relative = {name: (more[one][0] - less[one][0]) / (2 * _step(name) * truth) for name, (more, less) in steps.items()}
    bounds = {name: float(10 / np.nanmean(np.abs(values))) for name, values in relative.items()}
    correlations = []
    for row in np.flatnonzero(np.isfinite(flux) & (error > 0)):
        # The flux itself, then the parameters, all in relative units.
        slope = np.array([1.0, *(values[row] for values in relative.values())])
        fisher = np.outer(slope, slope) * (truth[row] / error[row]) ** 2
        fisher[1:, 1:] += np.eye(len(PARAMETERS)) / _PRIOR**2
        covariance = np.linalg.inv(fisher)
        correlations.append(covariance[0, 1:] / np.sqrt(covariance[0, 0] * np.diag(covariance)[1:]))
    means = np.nanmean(correlations, axis=0)
    return Robustness(
        for_ten_per_cent=bounds,
        correlation={name: float(value) for name, value in zip(PARAMETERS, means, strict=True)},
        tried={name: _scatter((found[one][0] - flux) / truth, name) for name, found in tried.items()},
    )


def _scatter(values: FloatArray, name: str) -> float:
    # All galaxies of an image have the same wrong PSF.
    return float(np.nanmedian(np.abs(values))) if name == "PSF" else sigma68(values[np.isfinite(values)])


def _draw(settings: MeasureSettings, rng: np.random.Generator) -> _World:
    side = _ROW * _STEP
    place = np.arange(_STEP / 2, side, _STEP)
    x, y = (values.ravel() + rng.uniform(-0.5, 0.5, values.size) for values in np.meshgrid(place, place))
    galaxies = load_population().draw(len(x), rng, _MAGNITUDES)
    variance = _SKY + _READ_NOISE**2
    data = _SKY + np.sqrt(variance) * rng.standard_normal((side, side))
    psf = MoffatModel(_FWHM, _BETA)
    blank = flat_exposure(data, psf, variance=variance, pixel_scale=_SCALE, zeropoint=27.5)
    ra, dec = pixel_to_sky(blank.wcs, x, y)
    shape = galaxies.half_light_radius, galaxies.sersic_n, galaxies.axis_ratio, galaxies.position_angle
    catalog = ParentCatalog(np.arange(len(x)), ra, dec, *shape, galaxies.ref_mag)
    placed = place_objects(blank, catalog, settings)
    flux = 10 ** (0.4 * (blank.zeropoint - galaxies.ref_mag))
    return _World(inject(blank, placed.at(placed.x, placed.y), flux, rng), catalog, flux, settings)


def _short(value: float) -> str:
    return "-" if not np.isfinite(value) else f"{value:.0f}" if value >= 1 else f"{value:.1g}"


def format_robustness(results: Mapping[str, Robustness]) -> str:
    """Return the table of appendix C beside the paper's.

    Parameters
    ----------
    results : mapping
        As :func:`robustness` returns them.

    Returns
    -------
    str
        Per cent of a parameter's error that makes ten per cent of the flux, the paper's in brackets; the correlation
        with the flux; the scatter of fluxes where the parameter scatters by ten per cent (the background by one).
    """
    lines = [f"{'':<14}" + "".join(f"{name:>24}" for name in PARAMETERS)]
    for name, one in results.items():
        paper = dict(zip(PARAMETERS, PAPER.get(name, (np.nan,) * len(PARAMETERS)), strict=True))
        cells = [
            f"{_short(one.for_ten_per_cent[p])} % ({_short(paper[p])}) {one.correlation[p]:+.2f} {one.tried[p]:.3f}"
            for p in PARAMETERS
        ]
        lines.append(f"{name:<14}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)
