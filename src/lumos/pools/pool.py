"""Pools of background stamps on disk: opened lazily, read stamp by stamp through a memory map.

A pool is a folder that ``lumos backgrounds`` writes: ``data.npy``, ``mask.npy``, where there are any
``variance.npy`` and ``psf.npy``, one line per stamp in ``index.parquet``, and ``pool.json`` with every CCD that was
used or refused, and why.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from lumos.conventions import AnyArray, FloatArray, IntArray
from lumos.errors import LumosDataError, LumosValueError
from lumos.pools.background_stamps import BackgroundStamps
from lumos.pools.part import PoolExposure, PoolPart
from lumos.pools.writer import ARRAYS, INDEX_SCHEMA
from lumos.psfs import MoffatPsf, PixelPsf, Psf
from lumos.surveys import Survey

__all__ = ["BackgroundPool", "BackgroundStamps"]


class BackgroundPool:
    """A pool of background stamps; made by :meth:`open`.

    Parameters
    ----------
    parts : list of PoolPart
        Folders of the pool, opened.
    """

    def __init__(self, parts: list[PoolPart]) -> None:
        self._parts = parts
        self.side = parts[0].side
        self.exposures = tuple(exposure for part in parts for exposure in part.exposures)
        first = np.cumsum([0, *(len(part.exposures) for part in parts)])
        self._columns = {
            name: np.concatenate([part.columns[name] for part in parts])
            for name in (*INDEX_SCHEMA.names,)
            if name != "exposure"
        }
        #: Entry of ``exposures`` of each stamp, int array of shape (n,).
        self.exposure: IntArray = np.concatenate(
            [part.columns["exposure"].astype(np.int64) + start for part, start in zip(parts, first, strict=False)]
        )
        self._part_of = np.repeat(np.arange(len(parts)), [len(part.columns["row"]) for part in parts])
        used = [self.exposures[number] for number in np.unique(self.exposure)]
        self.bands = tuple(sorted({exposure.band for exposure in used}))
        self.states = tuple(sorted({exposure.state for exposure in used}))
        self.surveys = tuple(sorted({exposure.survey for exposure in used}))
        #: Entries of ``bands`` and ``states`` of each stamp, int arrays of shape (n,).
        self.band = self._per_exposure(lambda exposure: _position(self.bands, exposure.band))[self.exposure]
        self.state = self._per_exposure(lambda exposure: _position(self.states, exposure.state))[self.exposure]
        self._facts = {
            name: np.array([getattr(exposure, name) for exposure in self.exposures])
            for name in ("gain", "zeropoint", "exposure_time", "pixel_scale")
        }

    def _per_exposure(self, value: Callable[[PoolExposure], int]) -> IntArray:
        return np.array([value(exposure) for exposure in self.exposures], dtype=np.int64)

    @classmethod
    def open(cls, path: Path, *others: Path, mixed: bool = False) -> Self:
        """Open a pool, or several as one; pixels are read when they are asked for.

        Parameters
        ----------
        path : Path
            Folder written by ``lumos backgrounds``.
        *others : Path
            Further pools with stamps of the same side.
        mixed : bool
            Allow pools of different surveys or pixel scales.

        Returns
        -------
        BackgroundPool
            All stamps, in the order of the folders.

        Raises
        ------
        LumosDataError
            If a folder is no pool, is empty, damaged or lacks a file; or the pools do not go together.
        """
        parts = [PoolPart(Path(item)) for item in (path, *others)]
        if len({part.side for part in parts}) > 1:
            sides = {str(part.path): part.side for part in parts}
            raise LumosDataError(f"pools of different stamp sides: {sides}, allowed: one")
        pool = cls(parts)
        scales = np.array([pool.exposures[number].pixel_scale for number in np.unique(pool.exposure)])
        if not mixed and (len(pool.surveys) > 1 or scales.max() > 1.03 * scales.min()):
            text = f"surveys {list(pool.surveys)}, pixel scales {scales.min():.4g} to {scales.max():.4g} arcsec"
            raise LumosDataError(f"{path}: {text}; a pool has one survey and scale (within 3 %) unless mixed=True")
        return pool

    def __len__(self) -> int:
        return len(self.exposure)

    def __reduce__(self) -> tuple[Callable[..., "BackgroundPool"], tuple[list[Path]]]:
        # Worker processes open the files again instead of receiving the pixels.
        return _reopen, ([part.path for part in self._parts],)

    @property
    def psf_fwhm(self) -> FloatArray:
        """Return the FWHM of every stamp's PSF in pixels, shape (n,)."""
        return self._columns["psf_fwhm"]

    @property
    def zeropoint(self) -> FloatArray:
        """Return the zero point of every stamp, AB magnitude of 1 image unit, shape (n,)."""
        return np.asarray(self._facts["zeropoint"][self.exposure])

    def rows(self, *, band: str | None = None, state: str | None = None) -> IntArray:
        """Return the stamps of a band and a camera state.

        Parameters
        ----------
        band, state : str, optional
            By default any.

        Returns
        -------
        int array
            Ascending numbers of stamps.

        Raises
        ------
        LumosValueError
            If the pool has no such band or state.
        """
        chosen = np.ones(len(self), dtype=np.bool_)
        for what, name, names, of in (
            ("band", band, self.bands, self.band),
            ("state", state, self.states, self.state),
        ):
            if name is not None:
                if name not in names:
                    raise LumosValueError(f"{what} of the pool", name, ", ".join(names))
                chosen &= of == names.index(name)
        return np.flatnonzero(chosen).astype(np.int64)

    def sample(self, rng: np.random.Generator, n: int, rows: IntArray | None = None) -> BackgroundStamps:
        """Draw stamps at random, with replacement.

        Parameters
        ----------
        rng : numpy.random.Generator
            The same state gives the same stamps.
        n : int
            Number of stamps to draw.
        rows : int array, optional
            Draw from these only (see :meth:`rows`).

        Returns
        -------
        BackgroundStamps
            The n stamps.

        Raises
        ------
        LumosValueError
            If ``rows`` is empty.
        """
        if rows is None:
            return self.take(rng.integers(len(self), size=n))
        if len(rows) == 0:
            raise LumosValueError("background stamps to draw from", 0, "at least one")
        return self.take(rows[rng.integers(len(rows), size=n)])

    def take(self, rows: AnyArray) -> BackgroundStamps:
        """Read stamps by number.

        Parameters
        ----------
        rows : int array, shape (n,)
            Numbers of stamps, any order, repeats allowed.

        Returns
        -------
        BackgroundStamps
            The n stamps.

        Raises
        ------
        LumosValueError
            If a number is not one of the pool's.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if rows.ndim != 1 or (len(rows) and not (rows.min() >= 0 and rows.max() < len(self))):
            raise LumosValueError("numbers of background stamps", rows, f"0 to {len(self) - 1}")
        columns = {name: values[rows] for name, values in self._columns.items()}
        exposure = self.exposure[rows]
        has_map = columns["variance_row"] >= 0
        return BackgroundStamps(
            data=self._gather("data", rows, columns["row"]),
            mask=self._gather("mask", rows, columns["row"]),
            variance=self._gather("variance", rows, columns["variance_row"]) if has_map.any() else None,
            sky_variance=columns["sky_variance"],
            **{name: values[exposure] for name, values in self._facts.items()},
            psf_fwhm=columns["psf_fwhm"],
            psfs=tuple(self._psfs(rows, columns)),
            exposure=exposure,
            band=self.band[rows],
            state=self.state[rows],
            ccd_x=columns["x"],
            ccd_y=columns["y"],
            ccd_x_norm=columns["x_norm"],
            ccd_y_norm=columns["y_norm"],
        )

    def _gather(self, name: str, rows: IntArray, lines: IntArray) -> AnyArray:
        """Read lines of an array file of each part; NaN where a stamp has none."""
        if len(self._parts) == 1 and (lines >= 0).all():
            return np.asarray(self._parts[0].mapped(name)[lines])
        fill = np.nan if ARRAYS[name].kind == "f" else 0
        values: AnyArray = np.full((len(rows), self.side, self.side), fill, dtype=ARRAYS[name])
        for number, part in enumerate(self._parts):
            here = np.flatnonzero((self._part_of[rows] == number) & (lines >= 0))
            if len(here):
                values[here] = part.mapped(name)[lines[here]]
        return values

    def _psfs(self, rows: IntArray, columns: dict[str, AnyArray]) -> Iterator[tuple[IntArray, Psf]]:
        """Yield the PSFs of stamps by kind."""
        moffat = np.flatnonzero(columns["psf_offset"] < 0)
        if len(moffat):
            yield moffat, MoffatPsf(columns["psf_fwhm"][moffat], columns["psf_beta"][moffat])
        images = np.flatnonzero(columns["psf_offset"] >= 0)
        names = ("psf_height", "psf_width", "psf_sampling", "psf_includes_pixel")
        kinds = np.column_stack([self._part_of[rows], *(columns[name] for name in names)])[images]
        for kind in np.unique(kinds, axis=0):
            here = images[(kinds == kind).all(axis=1)]
            height, width = int(kind[1]), int(kind[2])
            samples = columns["psf_offset"][here][:, None] + np.arange(height * width)
            pixels = self._parts[int(kind[0])].mapped("psf")[samples].reshape(-1, height, width)
            yield here, PixelPsf(pixels, float(kind[3]), includes_pixel=bool(kind[4]))

    @cached_property
    def _factors(self) -> tuple[FloatArray, FloatArray]:
        """Logarithms of areas and factors of every exposure's correlation, padded to one length."""
        curves = [exposure.correlation for exposure in self.exposures]
        longest = max((len(curve.areas) for curve in curves if curve is not None), default=1)
        areas, factors = np.zeros((len(curves), longest)), np.ones((len(curves), longest))
        for row, curve in enumerate(curves):
            if curve is not None:
                pad = (0, longest - len(curve.areas))
                areas[row] = np.pad(np.log(curve.areas), pad, mode="edge")
                factors[row] = np.pad(curve.factors, pad, mode="edge")
        return areas, factors

    def noise_factor(self, exposure: IntArray, noise_area: AnyArray) -> FloatArray:
        """Return how much larger than for independent pixels the noise of a weighted sum is.

        Parameters
        ----------
        exposure : int array, shape (n,)
            Entries of ``exposures``.
        noise_area : float array, shape (n,)
            Noise-equivalent areas of the weights in pixels, greater than 0.

        Returns
        -------
        float array, shape (n,)
            Factors of the sky's part of the error; 1 where the correlation was not measured.
        """
        areas, factors = (values[exposure] for values in self._factors)
        log_area = np.log(np.asarray(noise_area, dtype=np.float64))[:, None]
        above = np.clip((areas < log_area).sum(axis=1), 1, max(areas.shape[1] - 1, 1))[:, None]
        above = np.minimum(above, areas.shape[1] - 1)
        low, high = (np.take_along_axis(areas, index, 1) for index in (np.maximum(above - 1, 0), above))
        share = np.clip((log_area - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0)
        below, beyond = (np.take_along_axis(factors, index, 1) for index in (np.maximum(above - 1, 0), above))
        return np.asarray((below + share * (beyond - below))[:, 0])

    def check_survey(self, survey: Survey) -> None:
        """Refuse a survey whose stamps these are not.

        Parameters
        ----------
        survey : Survey
            What the pool shall be used for.

        Raises
        ------
        LumosDataError
            If the pool has a band or a state that the survey lacks, or another pixel scale.
        """
        path = self._parts[0].path
        unknown = sorted(band for band in self.bands if survey.band(band) is None)
        if unknown:
            raise LumosDataError(f"{path}: bands {unknown} are not of survey {survey.name}: {', '.join(survey.bands)}")
        strange = sorted(set(self.states) - {"", *survey.states.names})
        if strange:
            raise LumosDataError(f"{path}: states {strange} are not of survey {survey.name}: {survey.states.names}")
        scale = self._facts["pixel_scale"][np.unique(self.exposure)]
        wanted, tolerance = survey.pixel_scale, survey.pixel_scale_tolerance
        if wanted is not None and np.any(np.abs(scale / wanted - 1) > tolerance):
            worst = scale[np.argmax(np.abs(scale / wanted - 1))]
            allowed = f"{wanted} within {100 * tolerance:.3g} % (survey {survey.name})"
            raise LumosDataError(f"{path}: pixel scale {worst:.4g} arcsec, allowed: {allowed}")


def _position(names: tuple[str, ...], name: str) -> int:
    """Return the place of a name, -1 for a name of refused exposures."""
    return names.index(name) if name in names else -1


def _reopen(paths: list[Path]) -> BackgroundPool:
    return BackgroundPool([PoolPart(path) for path in paths])
