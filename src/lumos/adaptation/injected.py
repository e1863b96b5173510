"""Galaxies of known flux on the exposures of a run, measured as its own objects are."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lumos.adaptation.inputs import PreparedStamps, Reduce, ScaledCcd, closed_form_error, prepare
from lumos.catalogs.parent import ParentCatalog
from lumos.conventions import AB_ZEROPOINT_NJY, FloatArray
from lumos.errors import LumosDataError
from lumos.images.wcs import pixel_to_sky
from lumos.nets.model import FluxModel
from lumos.photometry.batches import stamp_batch
from lumos.photometry.ccd import Ccd, object_batches, with_objects
from lumos.photometry.objects import PlacedObjects, place_objects
from lumos.psfs import PSF_HALF_LIGHT
from lumos.rows import Rowwise
from lumos.simulate.inject import draw_positions, inject
from lumos.simulate.population import Galaxies, load_population
from lumos.spectra.passbands import find_passbands
from lumos.teahupoo.draws import FluxProposal
from lumos.teahupoo.settings import StampSettings
from lumos.teahupoo.simulator import perturb_catalog

__all__ = ["InjectedStamps", "inject_round", "training_stamps"]


@dataclass(frozen=True)
class InjectedStamps(Rowwise):
    """Stamps of injected galaxies.

    Parameters
    ----------
    stamps : PreparedStamps
        Inputs of the model for n injected galaxies.
    flux : tensor, shape (n,), float32
        True fluxes, in the unit that all exposures share.
    ra : float array, shape (n,)
        Right ascensions, degrees.
    """

    stamps: PreparedStamps
    flux: Tensor
    ra: FloatArray


def training_stamps(training: Mapping[str, object]) -> StampSettings:
    """Return the settings of the stamps that a model was trained on.

    Parameters
    ----------
    training : mapping
        ``training`` of the model's description.

    Returns
    -------
    StampSettings
        The defaults where the description has none.
    """
    settings = training.get("settings")
    stamps = settings.get("stamps") if isinstance(settings, Mapping) else None
    return StampSettings() if stamps is None else StampSettings.model_validate(stamps)


def inject_round(
    model: FluxModel,
    scaled: ScaledCcd,
    settings: StampSettings,
    n: int,
    distance: float,
    rng: np.random.Generator,
    reduce: Reduce,
) -> InjectedStamps | None:
    """Put galaxies on a CCD at fresh places and prepare their stamps.

    They are galaxies of the population of the model's training. Fluxes are those of the training: for a likelihood
    from the broad density in units of the closed-form error, for a posterior from the galaxies' spectra.

    Parameters
    ----------
    model : FluxModel
        Model that is to be adapted.
    scaled : ScaledCcd
        CCD into which galaxies are injected.
    settings : StampSettings
        What the model was trained on: magnitudes, the broad density, errors of the catalogue.
    n : int
        How many galaxies, at most.
    distance : float
        Least distance between them, pixels.
    rng : numpy.random.Generator
        Draws galaxies, positions and photon noise.
    reduce : callable
        What is kept of the inputs.

    Returns
    -------
    InjectedStamps or None
        None where there is no room.

    Raises
    ------
    LumosDataError
        If fluxes of a posterior's training need a zero point that the exposure lacks.
    """
    ccd = scaled.ccd
    avoid = ccd.objects.x, ccd.objects.y
    x, y = draw_positions(ccd.exposure, n, rng, avoid, distance=distance)
    if len(x) == 0:
        return None
    galaxies = load_population().draw(len(x), rng, settings.mag_range)
    truth = _placed(ccd, galaxies, x, y)
    placed = _as_catalogued(truth, settings, rng)
    if model.config.kind == "likelihood":
        proposal = FluxProposal(**settings.proposal.model_dump())
        flux = proposal.draw(len(placed), rng) * _errors(replace(ccd, objects=placed, scene=None))
    else:
        flux = _population_flux(galaxies, ccd, settings)
    full = with_objects(ccd, inject(ccd.exposure, truth.at(truth.x, truth.y), flux, rng), placed)
    return InjectedStamps(
        stamps=prepare(model, replace(scaled, ccd=full), reduce),
        flux=torch.from_numpy(flux * ccd.unit * scaled.scale).float(),
        ra=placed.catalog.ra,
    )


def _placed(ccd: Ccd, galaxies: Galaxies, x: FloatArray, y: FloatArray) -> PlacedObjects:
    """Return galaxies at places of a CCD as if a catalogue held them."""
    ra, dec = pixel_to_sky(ccd.exposure.wcs, x, y)
    catalog = ParentCatalog(
        object_id=np.arange(len(x), dtype=np.int64),
        ra=ra,
        dec=dec,
        half_light_radius=galaxies.half_light_radius,
        sersic_n=galaxies.sersic_n,
        axis_ratio=galaxies.axis_ratio,
        position_angle=galaxies.position_angle,
        ref_mag=galaxies.ref_mag,
    )
    placed = place_objects(ccd.exposure, catalog, ccd.settings)
    if len(placed) != len(x):
        raise LumosDataError(f"{ccd.exposure.path}: its WCS does not lead from pixels to the sky and back")
    return placed


def _as_catalogued(truth: PlacedObjects, settings: StampSettings, rng: np.random.Generator) -> PlacedObjects:
    """Return galaxies with the errors of the catalogues that the model was trained for, but for those of the PSF."""
    seen = perturb_catalog(truth, settings.catalog_scatter, rng)[0]
    psf_radius = PSF_HALF_LIGHT * truth.psf_fwhm
    return replace(
        truth,
        x=seen.x,
        y=seen.y,
        half_light_radius=seen.half_light_radius,
        sersic_n=seen.sersic_n,
        axis_ratio=seen.axis_ratio,
        theta=seen.theta,
        semi_major=np.hypot(seen.half_light_radius, psf_radius),
        semi_minor=np.hypot(seen.half_light_radius * seen.axis_ratio, psf_radius),
    )


def _errors(ccd: Ccd) -> FloatArray:
    """Return the closed-form errors of the fluxes of galaxies, before they are there."""
    errors = np.empty(len(ccd.objects))
    for rows in object_batches(ccd.objects, ccd.settings):
        batch = stamp_batch(ccd, rows)[0]
        errors[rows] = closed_form_error(batch).double().numpy()
    return errors


def _population_flux(galaxies: Galaxies, ccd: Ccd, settings: StampSettings) -> FloatArray:
    """Return the fluxes of galaxies in the band of a CCD, in its units."""
    exposure = ccd.exposure
    if not np.isfinite(exposure.zeropoint):
        raise LumosDataError(f"{exposure.path}: no zeropoint, which fluxes of the population need")
    passband = find_passbands((exposure.band,), settings.passbands)[exposure.band]
    to_units = 10 ** (0.4 * (exposure.zeropoint - AB_ZEROPOINT_NJY))
    flux = np.asarray(galaxies.band_flux([passband])[:, 0] * to_units)
    if settings.flux_clip is not None:
        # The gain is that of the CCD's own unit.
        rate = exposure.exposure_time / (exposure.gain / ccd.unit)
        low, high = settings.flux_clip
        flux = np.clip(flux, low * rate, high * rate)
    return flux / ccd.unit
