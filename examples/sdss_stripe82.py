"""Forced photometry of SDSS single-epoch frames against the ten times deeper Stripe 82 coadd.

Usage: ``python examples/sdss_stripe82.py DATA OUT``, where DATA holds frames of bands g and i with their
``fpM``, ``psField``, ``photoField`` and ``photoObj`` files and the coadd catalogue of the same sky.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Table

from lumos.catalogs.parent import ParentCatalog, write_parent
from lumos.flags import UNUSABLE
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.runs.shards import read_shards
from lumos.surveys import load_survey
from lumos.validate.accuracy import Accuracy, accuracy, accuracy_table

EDGES = np.array([17.0, 19.0, 20.0, 21.0, 22.0])
#: The range in which SDSS's own fluxes are judged.
FAINT = np.array([20.0, 22.5])
#: nJy in a nanomaggy.
NANOMAGGY = 10 ** (0.4 * (31.4 - 22.5))
#: Place of the bands in SDSS's five-element columns.
PLACE = {"g": 1, "r": 2, "i": 3}


@dataclass(frozen=True)
class Galaxies:
    """Galaxies of the single epoch, their own fluxes (nJy), and their match in the coadd."""

    catalog: ParentCatalog
    own_flux: dict[str, np.ndarray]
    own_err: dict[str, np.ndarray]
    matched: np.ndarray
    coadd: Table


def load_galaxies(data: Path, *, coadd_shapes: bool = False) -> Galaxies:
    """Read the galaxies of a field; a de Vaucouleurs fit becomes n = 4, an exponential one n = 1."""
    objects = Table.read(next(data.glob("photoObj-*.fits")))
    objects = objects[(objects["MODE"] <= 2) & (objects["OBJC_TYPE"] == 3)]
    coadd = Table.read(next(data.glob("coadd_field_catalog*.fit")))
    here = SkyCoord(objects["RA"], objects["DEC"], unit="deg")
    match, distance, _ = here.match_to_catalog_sky(SkyCoord(coadd["ra"], coadd["dec"], unit="deg"))
    coadd = coadd[match]
    if coadd_shapes:
        steep = np.asarray(coadd["fracdev_r"]) > 0.5
        shape = [np.where(steep, coadd[f"dev{name}_r"], coadd[f"exp{name}_r"]) for name in ("rad", "ab", "phi")]
    else:
        steep = np.asarray(objects["FRACDEV"])[:, 2] > 0.5
        shape = [
            np.where(steep, np.asarray(objects[dev])[:, 2], np.asarray(objects[exp])[:, 2])
            for dev, exp in (("THETA_DEV", "THETA_EXP"), ("AB_DEV", "AB_EXP"), ("PHI_DEV_DEG", "PHI_EXP_DEG"))
        ]
    radius, ratio, angle = (column.astype(np.float64) for column in shape)
    catalog = ParentCatalog(
        object_id=np.arange(len(objects)),
        ra=np.asarray(objects["RA"], dtype=np.float64),
        dec=np.asarray(objects["DEC"], dtype=np.float64),
        half_light_radius=radius,
        sersic_n=np.where(steep, 4.0, 1.0),
        axis_ratio=np.clip(ratio, 0.05, 1),
        position_angle=angle,
        ref_mag=np.asarray(objects["MODELMAG"], dtype=np.float64)[:, 2],
    )
    own = {band: np.asarray(objects["MODELFLUX"], dtype=np.float64)[:, place] for band, place in PLACE.items()}
    ivar = {band: np.asarray(objects["MODELFLUX_IVAR"], dtype=np.float64)[:, place] for band, place in PLACE.items()}
    return Galaxies(
        catalog=catalog,
        own_flux={band: flux * NANOMAGGY for band, flux in own.items()},
        own_err={band: NANOMAGGY / np.sqrt(values) for band, values in ivar.items()},
        matched=np.asarray(distance < 1 * units.arcsec),
        coadd=coadd,
    )


def coadd_flux(galaxies: Galaxies, band: str) -> np.ndarray:
    """Return the coadd's model flux in nJy: the better of the two profiles, as SDSS's own model fluxes."""
    steep = np.asarray(galaxies.coadd["fracdev_r"]) > 0.5
    magnitude = np.where(steep, galaxies.coadd[f"devmag_{band}"], galaxies.coadd[f"expmag_{band}"])
    return 10 ** (0.4 * (31.4 - magnitude.astype(np.float64)))


def compare(
    data: Path, out: Path, edges: np.ndarray, *, coadd_shapes: bool = False, model: str | None = None
) -> dict[str, dict[str, Accuracy]]:
    """Measure both frames and compare every estimator, and SDSS's own fluxes, with the coadd, by band."""
    galaxies = load_galaxies(data, coadd_shapes=coadd_shapes)
    out.mkdir(parents=True, exist_ok=True)
    parent = out / "parent.parquet"
    if not parent.exists():
        write_parent(galaxies.catalog, parent)
    settings = MeasureSettings(model=model)
    frames = sorted(data.glob("frame-[gi]-*.fits.bz2"))
    measure_run(frames, parent, out / "run", load_survey("sdss"), settings, workers=2)
    table = read_shards(out / "run")
    results: dict[str, dict[str, Accuracy]] = {}
    for band in ("g", "i"):
        rows = np.flatnonzero(np.array(table["band"].to_pylist()) == band)
        index = table["object_id"].to_numpy()[rows]
        clean = (table["flags"].to_numpy()[rows] & int(UNUSABLE)) == 0
        rows, index = rows[clean & galaxies.matched[index]], index[clean & galaxies.matched[index]]
        truth, magnitude = coadd_flux(galaxies, band)[index], galaxies.catalog.ref_mag[index]
        own = galaxies.own_flux[band][index], galaxies.own_err[band][index]
        results[band] = {"SDSS's own": accuracy(*own, truth, magnitude, edges)}
        for name in settings.all_estimators:
            flux, error = (table[f"{name}_{part}"].to_numpy()[rows].astype(float) for part in ("flux", "flux_err"))
            results[band][name] = accuracy(flux, error, truth, magnitude, edges)
    return results


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="generic", help="shipped model or model folder")
    arguments = parser.parse_args()
    for title, coadd_shapes in (("shapes of the single epoch", False), ("shapes of the coadd", True)):
        for edges in (EDGES, FAINT):
            out = arguments.out / title.replace(" ", "_")
            made = compare(arguments.data, out, edges, coadd_shapes=coadd_shapes, model=arguments.model)
            for band, results in made.items():
                print(f"\nSDSS {band}, {title}; magnitudes are r of the single epoch")
                print(accuracy_table(results))


if __name__ == "__main__":
    main()
