"""Finished runs of `lumos measure` with fluxes that tests choose."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from lumos.catalogs.schema import SCHEMA_VERSION, measure_schema, to_arrow
from lumos.catalogs.tables import write_table
from lumos.files import file_sha256, write_json
from lumos.photometry.settings import MeasureSettings

#: Where the objects of these runs lie, degrees: over several cells of a partition.
FIELD = (150.0, 2.0)
SIDE = 0.3


def positions(object_id):
    """Return positions that depend on the identifier alone."""
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(0, SIDE, (2, 200_000))
    return FIELD[0] + ra[object_id], FIELD[1] + dec[object_id]


def exposure(name, object_id, flux, flux_err, *, band="i", zeropoint=25.0, zeropoint_err=0.01, flags=0, detector="1"):
    """Return the columns of one shard; each PDF is a Gaussian."""
    n = len(object_id)
    object_id, flux = np.asarray(object_id), np.asarray(flux, dtype=float)
    flux_err = np.broadcast_to(np.asarray(flux_err, dtype=float), (n,))
    ra, dec = positions(object_id)
    nothing = np.full(n, np.nan)
    columns = {
        "object_id": object_id,
        "exposure_id": np.full(n, name, dtype=object),
        "detector": np.full(n, detector, dtype=object),
        "band": np.full(n, band, dtype=object),
        "state": np.full(n, "", dtype=object),
        "ra": ra,
        "dec": dec,
        "zeropoint": np.full(n, zeropoint),
        "zeropoint_err": np.full(n, zeropoint_err),
        "flux": flux,
        "flux_err": flux_err,
        "flux_q50": flux,
        "pdf_weights": np.ones((n, 1)),
        "pdf_means": flux[:, None],
        "pdf_stds": flux_err[:, None],
        "optimal_flux": flux,
        "optimal_flux_err": flux_err,
        "lumos_flux": flux,
        "lumos_flux_err": flux_err,
        "flags": np.broadcast_to(np.asarray(flags, dtype=np.int64), (n,)),
    }
    rest = ("x", "y", "flux_q16", "flux_q84", "flux_peak", "background", "background_err", "psf_fwhm", "ood_score")
    rest += ("blendedness", "contamination", "neighbour_distance", "neighbour_correlation")
    return columns | dict.fromkeys(rest, nothing) | {"neighbour_id": np.full(len(nothing), -1)}


def write_run(folder: Path, exposures, ref_mag=None, *, model=None, n_objects=1000):
    """Write a run with these exposures, in this order, and its catalogue."""
    (folder / "shards").mkdir(parents=True)
    entries = {}
    for columns in exposures:
        name = str(columns["exposure_id"][0])
        calibrated = np.isfinite(columns["zeropoint"][0])
        n_components = columns["pdf_weights"].shape[1]
        names = ["optimal"] if model is None else ["optimal", "lumos"]
        with_names = "object_name" in columns
        schema = measure_schema(names, "nJy" if calibrated else "image unit", n_components, with_names=with_names)
        path = folder / "shards" / f"{name}.parquet"
        write_table([to_arrow(columns, schema)], path)
        entries[name] = {
            "status": "done",
            "file": str(folder / f"{name}.fits"),
            "shard": f"shards/{name}.parquet",
            "sha256": file_sha256(path),
        }
    write_json(folder / "manifest.json", {"exposures": entries})
    catalog = folder.parent / "parent.parquet"
    if not catalog.exists():
        write_catalog(catalog, np.full(n_objects, 22.0) if ref_mag is None else ref_mag)
    settings = {
        "schema_version": SCHEMA_VERSION,
        "catalog": {"path": str(catalog), "sha256": file_sha256(catalog)},
        "model": model,
        "measure": MeasureSettings(
            estimators=("optimal",), model=model["name"] if isinstance(model, dict) else model
        ).model_dump(mode="json"),
    }
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    return folder


def write_catalog(path, ref_mag):
    n = len(ref_mag)
    ra, dec = positions(np.arange(n))
    one = np.ones(n)
    shape = {"half_light_radius": one, "sersic_n": one, "axis_ratio": one, "position_angle": 0 * one}
    columns = {"object_id": np.arange(n), "ra": ra, "dec": dec, **shape, "ref_mag": np.asarray(ref_mag, dtype=float)}
    pq.write_table(pa.table(columns), path)
