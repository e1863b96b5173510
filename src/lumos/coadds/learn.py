"""What a coadd learns from its run before it begins: shared errors, levels of the empty sky, the prior."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from lumos.coadds.columns import coadd_rows
from lumos.coadds.read import ShardReader, join_rows, object_hash, sample_objects
from lumos.coadds.repeat_errors import NO_REPEATS, IndependentShare, fit_independent_share
from lumos.coadds.rows import CoaddContext, Rows, coadd_likelihoods, coadd_pairs, grouped, prepare
from lumos.coadds.sky import SkyLevels, sky_levels
from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.errors import LumosDataError, LumosError, WorkerDiedError
from lumos.files import read_json
from lumos.flags import Flag
from lumos.pdf import FluxPrior, GaussianMixture, inverse_variance
from lumos.pdf.prior_fit import BandFit, BandSample, fit_band
from lumos.runs.driver import Driver, Work
from lumos.statistics import SUMMARY_LEVELS

__all__ = ["FEWEST_FOR_PRIOR", "find_share", "find_sky", "make_prior"]

logger = logging.getLogger(__name__)

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")
_Shared = tuple[ShardReader, CoaddContext]

#: With this many galaxies that have no neighbour, a prior is learned from them alone.
_FEWEST_ALONE = 1000
#: Fewer galaxies teach no prior: posteriors would be worse than likelihoods. Fewer than enough make it uncertain.
FEWEST_FOR_PRIOR, _ENOUGH_FOR_PRIOR = 200, 1500
#: Objects below this signal-to-noise ratio are in a catalogue, or not, by chance.
_FAINT = 5.0
#: Fewer differences do not tell how much too bright an exposure is.
_FEWEST_EXCESSES = 30


def find_share(shards: Sequence[Path], reader: ShardReader, context: CoaddContext, driver: Driver) -> IndependentShare:
    """Find out from a sample of the objects how much of the PDFs' variances differs between exposures.

    It warns where the catalogue was made from one of the exposures, whose faint fluxes are too high, and says by how
    much; repeats with that exposure do not count.

    Parameters
    ----------
    shards : sequence of Path
        Files of the run.
    reader : ShardReader
        Reads their rows.
    context : CoaddContext
        Calibration and settings.
    driver : Driver
        Works on the bands.

    Returns
    -------
    IndependentShare
        All of the variance where the settings do not ask for repeats.
    """
    samples = _samples(shards, context.settings.repeat_galaxies, sorted(set(context.calibration.band)))
    found = list(_apply(driver, _repeats_of, samples, (reader, context)))
    parts, excesses = [one[0] for one in found], [one[2] for one in found]
    exposures = set().union(*(one[1] for one in found))
    if exposures and "CATALOG_EXPOSURE" not in context.settings.excluded_flags:
        _warn_of_catalog(sorted(exposures), np.concatenate(excesses))
    if not context.settings.repeat_errors:
        return NO_REPEATS
    return fit_independent_share(*(np.concatenate([part[number] for part in parts]) for number in (0, 1)))


@dataclass(frozen=True)
class _Sample:
    """Some objects of one band: the largest of their hashes, and the files with rows of the band."""

    limit: int
    paths: list[Path]


def _samples(shards: Sequence[Path], most: int, bands: Sequence[str]) -> list[_Sample]:
    """Choose at most so many objects of each band that has a row."""
    limits, files = sample_objects(shards, most)
    return [_Sample(limits[band], files[band]) for band in bands if band in files]


def _apply(
    driver: Driver, function: Callable[[Shared, Task], Result], tasks: Sequence[Task], *shared: Shared
) -> Iterator[Result]:
    """Call a function for each task, in the processes of a driver, and yield the results in order."""
    with closing(driver.run(Work(function, _share, shared), tasks, ordered=True)) as results:
        for _, result in results:
            if isinstance(result, WorkerDiedError):
                raise LumosError(f"{result}; run again with smaller prior_galaxies and repeat_galaxies") from result
            yield result


@contextmanager
def _share(shared: Shared) -> Iterator[Shared]:
    yield shared


def _repeats_of(shared: _Shared, sample: _Sample) -> tuple[tuple[FloatArray, FloatArray], set[str], FloatArray]:
    """Return pairs of repeats, exposures that the catalogue was made from, and how much brighter objects are there."""
    reader, context = shared
    rows = _read(reader, sample)
    marked = (rows.flags & int(Flag.CATALOG_EXPOSURE)) > 0
    exposures = {context.calibration.exposure_id[unit] for unit in np.unique(rows.unit[marked])}
    return coadd_pairs(rows, context), exposures, _catalog_excess(rows, context)


def _likelihoods_of(shared: _Shared, sample: _Sample) -> tuple[GaussianMixture, FloatArray, IntArray]:
    """Return coadded likelihoods, magnitudes and bands."""
    reader, context = shared
    return coadd_likelihoods(_alone(_read(reader, sample)), context)


def _fit_band(_: None, sample: BandSample) -> BandFit:
    return fit_band(sample)


def _read(reader: ShardReader, sample: _Sample) -> Rows:
    """Read the rows of the objects of a sample."""
    choose = partial(_is_sampled, limit=sample.limit)
    return join_rows([reader.read(path, choose) for path in sample.paths])


def _warn_of_catalog(exposures: Sequence[str], excess: FloatArray) -> None:
    """Say that the catalogue was made from an exposure of the run, and how much higher its faint fluxes are."""
    size = "by how much this run cannot tell"
    if len(excess) >= _FEWEST_EXCESSES:
        error = 1.2533 * np.std(excess) / len(excess) ** 0.5
        size = f"by {np.median(excess):+.2f} +- {error:.2f} of their errors (median of {len(excess)} with S/N below 5)"
    logger.warning(
        "exposure %s: the catalogue was made from it, so that it holds faint objects where this exposure's noise made "
        "them bright; against the others its faint fluxes differ %s and make coadds too bright; to leave it out add "
        "CATALOG_EXPOSURE to coadd.excluded_flags",
        *(", ".join(exposures), size),
    )


def _catalog_excess(rows: Rows, context: CoaddContext) -> FloatArray:
    """Return how much brighter faint objects are in the exposure that the catalogue was made from than in the others.

    In errors of that exposure; none where no exposure is marked.
    """
    parts = [np.zeros(0)]
    for groups in grouped(rows, context.calibration):
        marked = (groups.rows.flags & int(Flag.CATALOG_EXPOSURE)) > 0
        if not marked.any():
            continue
        made = prepare(groups, context)
        low, median, high = made.pdf.quantile(np.array([SUMMARY_LEVELS])).T
        error, n = (high - low) / 2, len(groups)
        others, whole = (
            inverse_variance(np.where(some, median, np.nan), error, groups.index, n)[:2]
            for some in (made.usable & ~marked, made.usable)
        )
        which = np.flatnonzero(made.usable & marked & np.isfinite(others[0])[groups.index])
        of = groups.index[which]
        # The mean of all exposures is not correlated with their differences.
        faint = whole[0][of] < _FAINT * error[which]
        parts.append(((median[which] - others[0][of]) / error[which])[faint])
    return np.concatenate(parts)


def find_sky(shards: Sequence[Path], reader: ShardReader, context: CoaddContext) -> SkyLevels:
    """Coadd the empty positions of the sky run, or as many as a sample holds, and find the levels.

    Parameters
    ----------
    shards : sequence of Path
        Files of the sky run.
    reader : ShardReader
        Reads their rows.
    context : CoaddContext
        Calibration and settings.

    Returns
    -------
    SkyLevels
        By estimator and band.

    Raises
    ------
    LumosDataError
        If a band has no empty position.
    """
    limits, files = sample_objects(shards, context.settings.prior_galaxies)
    bands = sorted(set(context.calibration.band))
    parts = []
    for band in bands:
        if band not in files:
            raise LumosDataError(f"sky: no exposure of band {band}")
        choose = partial(_is_sampled, limit=limits[band])
        parts.append(coadd_rows(join_rows([reader.read(path, choose) for path in files[band]]), context))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return sky_levels(columns, bands, reader.estimators)


def make_prior(shards: Sequence[Path], reader: ShardReader, context: CoaddContext, driver: Driver) -> FluxPrior | None:
    """Return the prior that the settings ask for: none, one from a file, or one that is learned from the run.

    Parameters
    ----------
    shards : sequence of Path
        Files of the run.
    reader : ShardReader
        Reads their rows.
    context : CoaddContext
        Calibration and settings.
    driver : Driver
        Works on the bands.

    Returns
    -------
    FluxPrior or None
        None also where the run has too few galaxies to learn one, which is a warning.

    Raises
    ------
    LumosDataError
        If the prior of the file lacks a band, or the fluxes are nowhere near those of the catalogue's magnitudes.
    """
    asked, bands = context.settings.prior, sorted(set(context.calibration.band))
    if asked == "none" or (context.is_posterior and context.settings.product == "naive"):
        return None
    if asked != "catalog":
        prior = FluxPrior.from_dict(read_json(Path(asked)))
        missing = [band for band in bands if band not in prior.bands]
        if missing:
            raise LumosDataError(f"{asked}: no prior of band {missing[0]!r}; it has: {', '.join(prior.bands)}")
        return prior
    samples = _samples(shards, context.settings.prior_galaxies, bands)
    parts = list(_apply(driver, _likelihoods_of, samples, (reader, context)))
    logger.debug("prior: %s likelihoods", [len(part[1]) for part in parts])
    names = ("weights", "means", "stds")
    likelihoods = GaussianMixture(*(np.concatenate([getattr(part[0], name) for part in parts]) for name in names))
    mags, number = (np.concatenate([part[place] for part in parts]) for place in (1, 2))
    usable = np.isfinite(mags) & np.isfinite(likelihoods.means[:, 0])
    counts = np.bincount(number[usable], minlength=len(bands))
    n, band = int(counts.min()), bands[int(counts.argmin())]
    few = f"{n} usable galaxies in band {band}"
    if n < FEWEST_FOR_PRIOR:
        if context.settings.product == "naive":
            raise LumosDataError(f"prior: {few}, needed to learn one: {FEWEST_FOR_PRIOR}; give the path of a prior")
        logger.warning(
            "prior: %s, needed to learn one: %d; the coadds have no prior, as with --prior none (for one, coadd "
            "more of the sky or give the path of a prior from another run)",
            *(few, FEWEST_FOR_PRIOR),
        )
        return None
    if n < _ENOUGH_FOR_PRIOR:
        logger.warning(
            "prior: learned from %s, fewer than %d make it uncertain; where it matters compare with --prior none, or "
            "give the path of a prior from a larger run",
            *(few, _ENOUGH_FOR_PRIOR),
        )
    try:
        return FluxPrior.fit_noisy(
            likelihoods, mags, number, bands, apply=lambda _, tasks: _apply(driver, _fit_band, tasks, None)
        )
    except LumosDataError as error:
        raise LumosDataError(f"{error}; give --prior none, or the path of a prior") from error


def _alone(rows: Rows) -> Rows:
    """Return the rows of objects without a neighbour, whose light would widen the prior; all where these are few."""
    crowded = np.isin(rows.object_id, rows.object_id[(rows.flags & int(Flag.NEIGHBOUR)) > 0])
    enough = len(np.unique(rows.object_id[~crowded])) >= _FEWEST_ALONE
    return rows.take(np.flatnonzero(~crowded)) if enough else rows


def _is_sampled(table: pa.Table, limit: int) -> BoolArray:
    return np.asarray(object_hash(table) <= limit)
