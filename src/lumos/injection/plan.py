"""Where galaxies are put, what they are, and what the catalogue will say of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from lumos.adaptation.inputs import closed_form_error
from lumos.catalogs.parent import ParentCatalog
from lumos.conventions import AB_ZEROPOINT_NJY, FloatArray, IntArray
from lumos.errors import LumosDataError
from lumos.images.exposure import Exposure
from lumos.images.wcs import pixel_to_sky
from lumos.images.zeropoint import known_zeropoint
from lumos.injection.places import PLACES, SKY, draw_places
from lumos.injection.settings import InjectSettings
from lumos.photometry.batches import stamp_batch
from lumos.photometry.ccd import in_handy_units, object_batches, prepare_ccd
from lumos.photometry.objects import PlacedObjects, catalog_near, on_image, place_objects
from lumos.photometry.settings import MeasureSettings
from lumos.profiles.shapes import Shapes
from lumos.rows import Rowwise
from lumos.simulate.population import load_population
from lumos.teahupoo.simulator import deviating_shapes

__all__ = ["Injected", "InjectionRound", "join_catalogs", "plan_rounds"]


@dataclass(frozen=True)
class Injected(Rowwise):
    """Galaxies that are put into exposures.

    Parameters
    ----------
    true, seen : ParentCatalog
        n galaxies as they are and as the catalogue has them, with its errors.
    place : int array, shape (n,)
        Entries of ``PLACES``.
    neighbour_distance : float array, shape (n,)
        Distance from the object that they are put beside, FWHM of the PSF; NaN for the others.
    """

    true: ParentCatalog
    seen: ParentCatalog
    place: IntArray
    neighbour_distance: FloatArray


@dataclass
class InjectionRound:
    """Galaxies that are in the exposures at one time.

    Parameters
    ----------
    injected : list of Injected
        Those of each CCD that gave new places.
    flux : dict
        Fluxes by band, of all of them in order; NaN before an exposure of the band has set their unit. In nJy, or in
        image units where the band's exposures have no zero point.
    calibrated : dict
        Whether the fluxes of a band are in nJy.
    """

    injected: list[Injected] = field(default_factory=list)
    flux: dict[str, FloatArray] = field(default_factory=dict)
    calibrated: dict[str, bool] = field(default_factory=dict)

    @property
    def all(self) -> Injected | None:
        """Return all galaxies; None if there are none."""
        return Injected.concatenate(self.injected) if self.injected else None

    def table(self, number: int) -> pa.Table:
        """Return one row per galaxy and band.

        Parameters
        ----------
        number : int
            Of the round.

        Returns
        -------
        pyarrow.Table
            What is true, for :func:`lumos.photometry.injected.inject_table`.
        """
        whole, parts = self.all, []
        for band, flux in self.flux.items():
            assert whole is not None
            known = np.flatnonzero(np.isfinite(flux))
            some = whole.take(known)
            shape = {name: getattr(some.true, name) for name in _SHAPE}
            parts.append(
                pa.table(
                    {
                        "object_id": some.true.object_id,
                        "band": np.full(len(known), band),
                        "flux": flux[known],
                        "calibrated": np.full(len(known), self.calibrated[band]),
                        **shape,
                        "round": np.full(len(known), number),
                        "place": np.array(PLACES)[some.place],
                        "neighbour_distance": some.neighbour_distance,
                    }
                )
            )
        return pa.concat_tables(parts)


_SHAPE = ("ra", "dec", "half_light_radius", "sersic_n", "axis_ratio", "position_angle")


def plan_rounds(
    exposures: Iterable[Exposure], catalog: ParentCatalog, settings: InjectSettings, measure: MeasureSettings
) -> list[InjectionRound]:
    """Draw galaxies for every round of injections.

    Parameters
    ----------
    exposures : iterable of Exposure
        CCDs, each with a PSF; read one after the other.
    catalog : ParentCatalog
        Objects of the exposures.
    settings : InjectSettings
        How many galaxies, where, and how bright.
    measure : MeasureSettings
        How they will be measured.

    Returns
    -------
    list of InjectionRound
        A galaxy of one CCD is in all exposures of its place, with one flux per band.

    Raises
    ------
    LumosDataError
        If some exposures of a band have a zero point and others not, or none has room for a galaxy.
    """
    rounds = [InjectionRound() for _ in range(settings.rounds)]
    for number, exposure in enumerate(exposures):
        near = catalog_near(exposure, catalog)
        objects = place_objects(exposure, near, measure)
        for turn, one in enumerate(rounds):
            rng = np.random.default_rng([settings.seed, turn, number])
            _add_to(one, exposure, objects, settings, measure, rng)
    if not any(one.injected for one in rounds):
        raise LumosDataError("no exposure has room for a galaxy: usable pixels, a PSF and a sky are needed")
    n = sum(len(part) for one in rounds for part in one.injected)
    fresh = iter(np.setdiff1d(np.arange(1, n + len(catalog) + 1), catalog.object_id)[:n])
    for one in rounds:
        one.injected = [_named(part, np.array([next(fresh) for _ in range(len(part))])) for part in one.injected]
    return rounds


def _named(part: Injected, object_id: IntArray) -> Injected:
    true, seen = (replace(catalog, object_id=object_id) for catalog in (part.true, part.seen))
    return replace(part, true=true, seen=seen)


def _add_to(
    one: InjectionRound,
    exposure: Exposure,
    objects: PlacedObjects,
    settings: InjectSettings,
    measure: MeasureSettings,
    rng: np.random.Generator,
) -> None:
    """Fill a CCD, and give fluxes in its band to the galaxies on it that have none."""
    assert exposure.psf is not None
    before = one.all
    here = None if before is None else place_objects(exposure, before.true, measure)
    taken = (np.zeros(0), np.zeros(0)) if here is None else (here.x, here.y)
    wanted = settings.n_per_ccd - len(taken[0])
    x, y, place, distance = draw_places(exposure, objects, taken, max(wanted, 0), settings, rng)
    if len(x):
        one.injected.append(_draw_galaxies(exposure, (x, y), place, distance, settings, rng))
    whole = one.all
    if whole is None:
        return
    flux = np.full(len(whole.true), np.nan)
    known = one.flux.get(exposure.band, np.zeros(0))
    flux[: len(known)] = known
    zeropoint = known_zeropoint(exposure.zeropoint, exposure.path)
    calibrated = bool(np.isfinite(zeropoint))
    if one.calibrated.setdefault(exposure.band, calibrated) != calibrated:
        text = f"band {exposure.band!r} has exposures with and without a zero point"
        raise LumosDataError(f"{exposure.path}: {text}; inject into those with one, or those without, alone")
    numbered = replace(whole.true, object_id=np.arange(len(whole.true)))
    placed = place_objects(exposure, numbered.take(np.isnan(flux)), measure)
    low, high = settings.snr_range
    signal = low * (high / low) ** rng.uniform(size=len(placed))
    signal[whole.place[placed.catalog.object_id] == SKY] = 0.0
    unit = 10 ** (0.4 * (AB_ZEROPOINT_NJY - zeropoint)) if calibrated else 1.0
    flux[placed.catalog.object_id] = signal * _errors(exposure, placed, measure) * unit
    one.flux[exposure.band] = flux


def _errors(exposure: Exposure, placed: PlacedObjects, measure: MeasureSettings) -> FloatArray:
    """Return closed-form errors of fluxes, image units."""
    handy, unit = in_handy_units(exposure)
    quiet = measure.noise.model_copy(update={"correlation": "none"})
    plain = measure.model_copy(update={"scene": "off", "noise": quiet})
    ccd = prepare_ccd(handy, unit, placed, on_image(placed, exposure), plain)
    errors = np.full(len(placed), np.nan)
    for rows in object_batches(ccd.objects, plain):
        errors[rows] = closed_form_error(stamp_batch(ccd, rows)[0]).double().numpy() * unit
    return errors


def join_catalogs(catalog: ParentCatalog, injected: ParentCatalog) -> ParentCatalog:
    """Return a catalogue with injected galaxies behind its own objects.

    Parameters
    ----------
    catalog : ParentCatalog
        m objects.
    injected : ParentCatalog
        n galaxies, as the catalogue is to have them.

    Returns
    -------
    ParentCatalog
        m + n objects.
    """
    joined: dict[str, Any] = {}
    for name, own in vars(catalog).items():
        if name == "made_from":
            continue
        more = getattr(injected, name)
        if own is None and more is not None:
            joined[name] = np.append(np.full(len(catalog), np.nan), more)
        elif own is not None:
            if name == "object_name":
                more = np.array([f"injected {number}" for number in injected.object_id])
            elif name == "flags":
                more = np.zeros(len(injected), dtype=np.int64)
            elif more is None:
                more = np.full(len(injected), np.nan)
            joined[name] = np.concatenate([own, more])
    return ParentCatalog(**joined, made_from=catalog.made_from)


def _draw_galaxies(
    exposure: Exposure,
    places: tuple[FloatArray, FloatArray],
    place: IntArray,
    distance: FloatArray,
    settings: InjectSettings,
    rng: np.random.Generator,
) -> Injected:
    """Return galaxies of the population, with what a catalogue with errors says of them."""
    n, errors = len(place), settings.errors
    drawn = load_population().draw(n, rng, settings.mag_range)
    factor = np.exp(errors.spread * rng.standard_normal(n).clip(-3, 3))
    widths = np.array([errors.half_light_radius, errors.sersic_n, errors.axis_ratio, np.deg2rad(errors.angle)])
    deviations = np.append(widths, [errors.centre] * 2)[:, None] * factor * rng.standard_normal((6, n))

    def catalog(shapes: Shapes) -> ParentCatalog:
        ra, dec = pixel_to_sky(exposure.wcs, shapes.x, shapes.y)
        nobody, angle = np.zeros(n, dtype=np.int64), np.rad2deg(shapes.theta)
        shape = shapes.half_light_radius, shapes.sersic_n, shapes.axis_ratio, angle
        # Estimators are not told the magnitude: a prior would need one.
        return ParentCatalog(nobody, ra, dec, *shape, np.full(n, np.nan))

    radius, angle = drawn.half_light_radius, np.deg2rad(drawn.position_angle)
    shapes = Shapes(*places, radius, drawn.sersic_n, drawn.axis_ratio, angle)
    seen = replace(
        catalog(deviating_shapes(shapes, deviations)),
        position_err=np.full(n, errors.centre * exposure.pixel_scale) * factor,
        half_light_radius_err=errors.half_light_radius * factor * radius,
        sersic_n_err=errors.sersic_n * factor * drawn.sersic_n,
        axis_ratio_err=np.full(n, errors.axis_ratio) * factor,
    )
    return Injected(catalog(shapes), seen, place, distance)
