"""One folder of a pool of backgrounds: its files, checked, and the CCDs that its stamps come from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from lumos.background.correlation import CorrelatedNoise
from lumos.conventions import AnyArray
from lumos.errors import LumosDataError, foreign_reader
from lumos.files import read_json
from lumos.pools.facts import CcdFacts
from lumos.pools.writer import ARRAYS, FORMAT, INDEX, INDEX_SCHEMA, METADATA

__all__ = ["PoolExposure", "PoolPart"]


@dataclass(frozen=True)
class PoolExposure:
    """One CCD from which stamps of a pool were cut.

    Parameters
    ----------
    exposure_id, detector, survey, band, state : str
        Which it is.
    wavelength : float
        Centre of the band in nm; NaN where unknown.
    width : float
        Full width of the band at half maximum in nm; NaN where unknown.
    gain : float
        Electrons per image unit; NaN where unknown.
    zeropoint : float
        AB magnitude of 1 image unit; NaN where unknown.
    exposure_time : float
        Seconds; NaN where unknown.
    pixel_scale : float
        Arcsec per pixel.
    noise_source : str
        ``variance``, ``gain`` or ``scatter``.
    correlation : CorrelatedNoise or None
        Excess scatter of blank apertures; None where it was not measured.
    """

    exposure_id: str
    detector: str
    survey: str
    band: str
    state: str
    wavelength: float
    width: float
    gain: float
    zeropoint: float
    exposure_time: float
    pixel_scale: float
    noise_source: str
    correlation: CorrelatedNoise | None


class PoolPart:
    """One folder of a pool, checked.

    Parameters
    ----------
    path : Path
        Folder of the part.

    Raises
    ------
    LumosDataError
        If it is no pool, is empty, damaged or lacks a file.
    """

    def __init__(self, path: Path) -> None:
        with foreign_reader(f"{path}: damaged pool of backgrounds"):
            self._read(path)

    def _read(self, path: Path) -> None:
        if not (path / METADATA).is_file():
            what = "no such folder" if not path.is_dir() else f"no {METADATA} in it"
            raise LumosDataError(f"{path}: not a pool of backgrounds ({what})")
        self.path = path
        metadata = read_json(path / METADATA)
        if metadata.get("format") != FORMAT:
            raise LumosDataError(f"{path / METADATA}: format {metadata.get('format')!r}, allowed: {FORMAT!r}")
        self.side = int(metadata["side"])
        try:
            table = pq.read_table(path / INDEX, schema=INDEX_SCHEMA)
        except (OSError, ValueError) as error:
            raise LumosDataError(f"{path / INDEX}: missing or damaged ({' '.join(str(error).split())})") from error
        if len(table) == 0 or len(table) != metadata["n_stamps"]:
            raise LumosDataError(f"{path}: {len(table)} stamps in the index, {metadata['n_stamps']} in {METADATA}")
        self.columns: dict[str, AnyArray] = {name: table[name].to_numpy() for name in table.column_names}
        self.exposures = tuple(_exposure(facts) for facts in metadata["exposures"])
        for name, missing in (("variance", "variance_row"), ("psf", "psf_offset")):
            if not (path / f"{name}.npy").is_file() and (self.columns[missing] >= 0).any():
                raise LumosDataError(f"{path / f'{name}.npy'}: no such file")
        if int(self.columns["row"].max()) >= min(len(self._open("data")), len(self._open("mask"))):
            raise LumosDataError(f"{path}: the index has more stamps than data.npy and mask.npy")
        self._arrays: dict[str, AnyArray] = {}

    def _open(self, name: str) -> AnyArray:
        """Return one of the array files as a memory map."""
        path = self.path / f"{name}.npy"
        with foreign_reader(f"{path}: missing or damaged"):
            array: AnyArray = np.load(path, mmap_mode="r")
        expected = (len(array),) if name == "psf" else (len(array), self.side, self.side)
        if array.shape != expected or array.dtype != ARRAYS[name]:
            raise LumosDataError(f"{path}: {array.dtype} {array.shape}, allowed: {ARRAYS[name]} {expected}")
        return array

    def mapped(self, name: str) -> AnyArray:
        """Return one of the array files as a memory map.

        Parameters
        ----------
        name : str
            ``data``, ``mask``, ``variance`` or ``psf``.

        Returns
        -------
        array
            Read-only; pixels are read when they are asked for.

        Raises
        ------
        LumosDataError
            If the file is missing, damaged or of another shape.
        """
        if name not in self._arrays:
            self._arrays[name] = self._open(name)
        return self._arrays[name]


def _exposure(facts: CcdFacts) -> PoolExposure:
    """Bring the metadata of one CCD to its class; JSON has null for NaN."""

    def number(value: float | None) -> float:
        return np.nan if value is None else float(value)

    found = facts["correlation"]
    correlation = None
    if found is not None:
        areas, factors = (np.array(found[name], dtype=np.float64) for name in ("areas", "factors"))
        n_apertures = np.array(found["n_apertures"], dtype=np.int64)
        correlation = CorrelatedNoise(areas, factors, n_apertures, str(found["reason"]))
    return PoolExposure(
        exposure_id=str(facts["exposure_id"]),
        detector=str(facts["detector"]),
        survey=str(facts["survey"]),
        band=str(facts["band"]),
        state=str(facts["state"]),
        wavelength=number(facts.get("wavelength")),
        width=number(facts.get("width")),
        gain=number(facts.get("gain")),
        zeropoint=number(facts.get("zeropoint")),
        exposure_time=number(facts.get("exposure_time")),
        pixel_scale=number(facts.get("pixel_scale")),
        noise_source=str(facts["noise_source"]),
        correlation=correlation,
    )
