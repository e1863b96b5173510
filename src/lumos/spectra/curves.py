"""Response curves of bands, and the files that they are in."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lumos.conventions import AnyArray, FloatArray
from lumos.errors import LumosDataError, LumosShapeError, LumosValueError
from lumos.files import read_json
from lumos.spectra.passbands import Passband
from lumos.spectra.tables import read_columns
from lumos.spectra.wavelengths import NANOMETRES, as_vacuum_nm

__all__ = ["Curve", "read_curve"]

#: Mean wavelengths in nm of curves that are believed.
MEAN_RANGE = (90, 30_000)
#: Points at which the closed form of a passband is tabulated.
_POINTS = 400


@dataclass(frozen=True)
class Curve:
    """Response of a band to photons, atmosphere, telescope and detector included.

    Parameters
    ----------
    wavelength : float array, shape (m,)
        nm, increasing.
    response : float array, shape (m,)
        At least 0, in any unit; 0 outside, straight between the points.

    Raises
    ------
    LumosShapeError
        If the shapes are not two equal ones of two points or more.
    LumosValueError
        If wavelengths are not above 0 and increasing, or a response is negative, not finite, or 0 everywhere.
    """

    wavelength: FloatArray
    response: FloatArray

    def __post_init__(self) -> None:
        wavelength, response = (np.array(values, dtype=np.float64) for values in (self.wavelength, self.response))
        if wavelength.ndim != 1 or wavelength.shape != response.shape or len(wavelength) < 2:
            raise LumosShapeError("filter curve", (wavelength.shape, response.shape), "two equal shapes (m,), m > 1")
        if not (np.diff(wavelength) > 0).all() or not 0 < wavelength[0] < np.inf:
            place = int(np.argmin(np.diff(wavelength) > 0))
            near = wavelength[place : place + 2].tolist()
            raise LumosValueError("wavelengths of a filter curve", near, "nm above 0, increasing")
        if not np.isfinite(response).all() or (response < 0).any() or not response.any():
            raise LumosValueError("response of a filter curve", float(response.min()), "at least 0, not 0 everywhere")
        object.__setattr__(self, "wavelength", wavelength)
        object.__setattr__(self, "response", response)

    @classmethod
    def of(cls, band: Passband) -> "Curve":
        """Tabulate a passband.

        Parameters
        ----------
        band : Passband
            In closed form.

        Returns
        -------
        Curve
            Up to where the response is below 1 %.
        """
        wavelength = band.wavelength + np.linspace(-band.half_range, band.half_range, _POINTS)
        return cls(wavelength, band.response(wavelength))

    @property
    def limits(self) -> tuple[float, float]:
        """First and last wavelength in nm between which the response is above 0."""
        above = np.flatnonzero(self.response > 0)
        first, last = max(above[0] - 1, 0), min(above[-1] + 1, len(self.wavelength) - 1)
        return float(self.wavelength[first]), float(self.wavelength[last])

    @cached_property
    def per_log(self) -> float:
        r"""Integral of the response over ln λ."""
        return float(self._log_integral(self.wavelength).sum())

    @cached_property
    def mean_wavelength(self) -> float:
        r"""Mean wavelength of the response in nm, ∫ λ R dλ / ∫ R dλ."""
        return float(self.all_photons / np.trapezoid(self.response, self.wavelength))

    @cached_property
    def pivot_wavelength(self) -> float:
        r"""Pivot wavelength in nm: the root of ∫ λ R dλ / ∫ R / λ dλ."""
        return float(np.sqrt(self.all_photons / self.per_log))

    def at(self, wavelength: FloatArray) -> FloatArray:
        """Return the response.

        Parameters
        ----------
        wavelength : float array, any shape
            nm.

        Returns
        -------
        float array, same shape
            Response; 0 outside the curve.
        """
        return np.asarray(np.interp(wavelength, self.wavelength, self.response, left=0.0, right=0.0))

    def photons(self, wavelength: FloatArray) -> tuple[FloatArray, FloatArray]:
        r"""Return :math:`\int \lambda T\, d\lambda` and its first moment between wavelengths, exact for straight lines.

        Parameters
        ----------
        wavelength : float array, shape (n,)
            Ends of intervals, nm; where they fall, the integral is negative.

        Returns
        -------
        photons, moment : float array, shape (n − 1,)
            :math:`\int \lambda T\, d\lambda` and :math:`\int (\lambda - \lambda_0) \lambda T\, d\lambda`, λ₀ the
            interval's first end.
        """
        within = np.clip(wavelength, self.wavelength[0], self.wavelength[-1])
        piece = np.clip(np.searchsorted(self.wavelength, within, side="right") - 1, 0, len(self.wavelength) - 2)
        before, before_moment = self._cumulative
        middle = sum(self.limits) / 2
        start = self.wavelength[piece]
        more, more_moment = self._of_piece(piece, start, within - start)
        photons = np.diff(before[piece] + more)
        moment = np.diff(before_moment[piece] + (start - middle) * more + more_moment)
        moment -= (wavelength[:-1] - middle) * photons
        # Within one piece there is no need of differences of large numbers.
        same = np.flatnonzero((piece[1:] == piece[:-1]) & (within[:-1] == wavelength[:-1]))
        low = within[same]
        photons[same], moment[same] = self._of_piece(piece[same], low, within[same + 1] - low)
        return photons, moment

    @cached_property
    def _cumulative(self) -> tuple[FloatArray, FloatArray]:
        """Photons up to each point, and their moment about the middle."""
        start = self.wavelength[:-1]
        photons, moment = self._of_piece(np.arange(len(start)), start, np.diff(self.wavelength))
        moment = moment + (start - sum(self.limits) / 2) * photons
        return np.concatenate([[0.0], np.cumsum(photons)]), np.concatenate([[0.0], np.cumsum(moment)])

    def _of_piece(self, piece: AnyArray, start: FloatArray, length: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Photons and their moment about ``start`` over ``length`` nm that lie in one piece each."""
        slope = self._slopes[piece]
        height = self.response[piece] + slope * (start - self.wavelength[piece])
        # λ T is a + b u + c u², u from the start.
        a, b, c = start * height, height + start * slope, slope
        photons = length * (a + length * (b / 2 + length * c / 3))
        return photons, length**2 * (a / 2 + length * (b / 3 + length * c / 4))

    @cached_property
    def _slopes(self) -> FloatArray:
        return np.diff(self.response) / np.diff(self.wavelength)

    @cached_property
    def all_photons(self) -> float:
        r"""Integral of λ times the response over λ."""
        return float(self._cumulative[0][-1])

    def share(self, edges: FloatArray) -> FloatArray:
        r"""Return the share of the response, :math:`\int T / \lambda\, d\lambda`, between edges.

        Parameters
        ----------
        edges : float array, shape (m + 1,)
            Wavelengths in nm, increasing.

        Returns
        -------
        float array, shape (m,)
            Shares of the whole integral: they sum to 1 where the edges hold the whole band.
        """
        # Exact for straight lines: between all points of the curve and all edges, T is straight.
        points = np.unique(np.concatenate([self.wavelength, edges]))
        low, high = points[:-1], points[1:]
        # Between the last point of a curve that ends above 0 and the next edge there is no response.
        inside = (low >= self.wavelength[0]) & (high <= self.wavelength[-1])
        integral = np.where(inside, self._log_integral(points), 0.0)
        cumulative = np.concatenate([[0.0], np.cumsum(integral)])
        return np.asarray(np.diff(np.interp(edges, points, cumulative)) / cumulative[-1])

    def _log_integral(self, points: FloatArray) -> FloatArray:
        """Integral of the response over ln λ between points that hold all those of the curve in their range."""
        height = self.at(points)
        low, high = points[:-1], points[1:]
        slope = np.diff(height) / (high - low)
        return np.asarray((height[:-1] - slope * low) * np.log(high / low) + slope * (high - low))


def read_curve(
    path: Path, unit: str | None = None, medium: str = "vacuum", counting: str = "photon", name: str | None = None
) -> Curve:
    """Read a response curve.

    Parameters
    ----------
    path : Path
        Text of two columns; a table in ECSV, CSV, FITS or VOTable with the columns ``wavelength`` and ``response`` (or
        transmission, throughput); or JSON that holds ``{NAME: {wavelength: [...], response: [...], wav_units: nm}}``.
    unit : str, optional
        Of the wavelengths: ``nm``, ``Angstrom`` or ``um``; needed where the file does not say.
    medium : str, optional
        ``vacuum`` or ``air``: what the wavelengths are in.
    counting : str, optional
        ``photon``, or ``energy`` where the response is to the energy of the light: it is divided by the wavelength.
    name : str, optional
        Which curve of a JSON file.

    Returns
    -------
    Curve
        The response to photons.

    Raises
    ------
    LumosDataError
        If the file cannot be read, does not say its unit where none is given, or holds no curve.
    LumosValueError
        If ``counting`` is neither.
    """
    if counting not in {"photon", "energy"}:
        raise LumosValueError("counting of a response curve", counting, "photon, energy")
    if path.suffix.lower() == ".json":
        wavelength, response = _from_json(path, unit, medium, name)
    else:
        wavelength, response = read_columns(path, unit, medium, ("response", "transmission", "throughput"))
    try:
        curve = Curve(wavelength, response)
    except LumosValueError as error:
        raise LumosDataError(f"{path}: {error}") from error
    if not MEAN_RANGE[0] <= curve.mean_wavelength <= MEAN_RANGE[1]:
        mean = f"mean wavelength of a response curve {curve.mean_wavelength:.5g} nm"
        raise LumosDataError(f"{path}: {mean}, allowed: {MEAN_RANGE[0]} to {MEAN_RANGE[1]}; is the unit right?")
    return curve if counting == "photon" else Curve(curve.wavelength, curve.response / curve.wavelength)


@lru_cache(maxsize=2)
def _json_content(path: Path, changed: int) -> dict[str, Any]:  # noqa: ARG001 (part of the key)
    """Read a file once for all its curves."""
    return read_json(path)


def _from_json(path: Path, unit: str | None, medium: str, name: str | None) -> tuple[FloatArray, FloatArray]:
    content = _json_content(path, path.stat().st_mtime_ns if path.is_file() else 0)
    if name not in content:
        raise LumosDataError(f"{path}: has no curve {name!r}, it has {', '.join(sorted(content))}")
    one = content[name]
    stated = one.get("wav_units") if isinstance(one, dict) else None
    if stated is not None and not isinstance(stated, str):
        raise LumosDataError(f"{path}: wav_units of {name} is {stated!r:.100}, allowed: {' or '.join(NANOMETRES)}")
    try:
        wavelength, response = (np.array(one[key], dtype=np.float64) for key in ("wavelength", "response"))
    except (KeyError, TypeError, ValueError) as error:
        raise LumosDataError(f"{path}: {name} has no numbers wavelength and response") from error
    if stated is not None and unit not in {None, stated}:
        raise LumosDataError(f"{path}: wavelengths of {name} are in {stated}, unit: {unit} was given")
    if (stated or unit) is None:
        raise LumosDataError(f"{path}: {name} does not say the unit of its wavelengths")
    try:
        return as_vacuum_nm(wavelength, str(stated or unit), medium), response
    except LumosValueError as error:
        raise LumosDataError(f"{path}: {error}") from error
