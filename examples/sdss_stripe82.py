"""Forced photometry of SDSS single-epoch frames against the ten times deeper Stripe 82 coadd.

Usage: ``python examples/sdss_stripe82.py DATA OUT``, where DATA holds frames of bands g and i with their
``fpM``, ``psField``, ``photoField`` and ``photoObj`` files and the coadd catalogue of the same sky.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Table

from lumos.catalogs.parent import ParentCatalog, write_parent
from lumos.flags import UNUSABLE, Flag, has_flag
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.runs.shards import read_shards
from lumos.surveys import load_survey
from lumos.validate.accuracy import Accuracy, accuracy, accuracy_table

EDGES = np.array([17.0, 19.0, 20.0, 21.0, 22.0])
#: The range in which SDSS's own fluxes are judged.
FAINT = np.array([20.0, 22.5])
#: The same for blends; fainter objects than the second one are neighbours that no single frame shows.
BLEND_RANGE, DEEPEST = np.array([17.0, 22.5]), 24.0
#: nJy in a nanomaggy.
NANOMAGGY = 10 ** (0.4 * (31.4 - 22.5))
#: Place of the bands in SDSS's five-element columns.
PLACE = {"g": 1, "r": 2, "i": 3}


@dataclass(frozen=True)
class Galaxies:
    """Objects of the single epoch, their own fluxes (nJy), and the coadd's galaxies that match galaxies among them."""

    catalog: ParentCatalog
    own_flux: dict[str, np.ndarray]
    own_err: dict[str, np.ndarray]
    matched: np.ndarray
    coadd: Table


def load_galaxies(data: Path, *, coadd_shapes: bool = False) -> Galaxies:
    """Read galaxies and stars of a field; a de Vaucouleurs fit becomes n = 4, an exponential one n = 1."""
    objects = Table.read(next(data.glob("photoObj-*.fits")))
    objects = objects[objects["MODE"] <= 2]
    is_galaxy = np.asarray(objects["OBJC_TYPE"]) == 3
    coadd = Table.read(next(data.glob("coadd_field_catalog*.fit")))
    here = SkyCoord(objects["RA"], objects["DEC"], unit="deg")
    match, distance, _ = here.match_to_catalog_sky(SkyCoord(coadd["ra"], coadd["dec"], unit="deg"))
    coadd = coadd[match]
    stated = {}
    if coadd_shapes:
        steep = np.asarray(coadd["fracdev_r"]) > 0.5
        shape = [np.where(steep, coadd[f"dev{name}_r"], coadd[f"exp{name}_r"]) for name in ("rad", "ab", "phi")]
    else:
        steep = np.asarray(objects["FRACDEV"])[:, 2] > 0.5
        shape = [
            np.where(steep, np.asarray(objects[dev])[:, 2], np.asarray(objects[exp])[:, 2])
            for dev, exp in (("THETA_DEV", "THETA_EXP"), ("AB_DEV", "AB_EXP"), ("PHI_DEV_DEG", "PHI_EXP_DEG"))
        ]
        errors = [
            np.where(steep, np.asarray(objects[f"{name}_DEVERR"])[:, 2], np.asarray(objects[f"{name}_EXPERR"])[:, 2])
            for name in ("THETA", "AB")
        ]
        stated = {"half_light_radius_err": errors[0], "axis_ratio_err": errors[1]}
        stated = {name: np.where(is_galaxy & (values > 0), values, 0.0) for name, values in stated.items()}
        # One of two indices, whatever the galaxy has.
        stated["sersic_n_err"] = np.where(is_galaxy, np.where(steep, 1.5, 0.5), 0.0)
        stated["position_err"] = np.hypot(objects["RAERR"], objects["DECERR"]) / np.sqrt(2)
    radius, ratio, angle = (column.astype(np.float64) for column in shape)
    catalog = ParentCatalog(
        object_id=np.arange(len(objects)),
        ra=np.asarray(objects["RA"], dtype=np.float64),
        dec=np.asarray(objects["DEC"], dtype=np.float64),
        half_light_radius=np.where(is_galaxy, radius, 0.0),
        sersic_n=np.where(steep, 4.0, 1.0),
        axis_ratio=np.clip(ratio, 0.05, 1),
        position_angle=angle,
        ref_mag=np.asarray(objects["MODELMAG"], dtype=np.float64)[:, 2],
        **{name: np.asarray(values, dtype=np.float64) for name, values in stated.items()},
    )
    own = {band: np.asarray(objects["MODELFLUX"], dtype=np.float64)[:, place] for band, place in PLACE.items()}
    ivar = {band: np.asarray(objects["MODELFLUX_IVAR"], dtype=np.float64)[:, place] for band, place in PLACE.items()}
    return Galaxies(
        catalog=catalog,
        own_flux={band: flux * NANOMAGGY for band, flux in own.items()},
        own_err={band: NANOMAGGY / np.sqrt(values) for band, values in ivar.items()},
        matched=is_galaxy & np.asarray(distance < 1 * units.arcsec),
        coadd=coadd,
    )


def coadd_flux(galaxies: Galaxies, band: str) -> np.ndarray:
    """Return the coadd's model flux in nJy: the better of the two profiles, as SDSS's own model fluxes."""
    steep = np.asarray(galaxies.coadd["fracdev_r"]) > 0.5
    magnitude = np.where(steep, galaxies.coadd[f"devmag_{band}"], galaxies.coadd[f"expmag_{band}"])
    return 10 ** (0.4 * (31.4 - magnitude.astype(np.float64)))


def compare_blends(data: Path, out: Path, model: str | None = None) -> dict[str, dict[str, Accuracy]]:
    """Measure all objects of the coadd in both frames; compare blended and isolated galaxies with the coadd.

    Galaxies with a neighbour within two FWHM, or with more of its light than their error, are blended. The coadd's own
    fluxes come from a pipeline that takes blends apart, with errors of its own.
    """
    coadd = Table.read(next(data.glob("coadd_field_catalog*.fit")))
    steep, is_star = np.asarray(coadd["fracdev_r"]) > 0.5, np.asarray(coadd["probpsf"]) > 0.5
    magnitude = {
        band: np.where(
            is_star, coadd[f"psfmag_{band}"], np.where(steep, coadd[f"devmag_{band}"], coadd[f"expmag_{band}"])
        )
        for band in PLACE
    }
    shape = [np.where(steep, coadd[f"dev{name}_r"], coadd[f"exp{name}_r"]) for name in ("rad", "ab", "phi")]
    radius, ratio, angle = (column.astype(np.float64) for column in shape)
    catalog = ParentCatalog(
        object_id=np.arange(len(coadd)),
        ra=np.asarray(coadd["ra"], dtype=np.float64),
        dec=np.asarray(coadd["dec"], dtype=np.float64),
        half_light_radius=np.where(is_star, 0.0, radius),
        sersic_n=np.where(steep, 4.0, 1.0),
        axis_ratio=np.clip(ratio, 0.05, 1),
        position_angle=angle,
        ref_mag=magnitude["r"].astype(np.float64),
    ).take((magnitude["r"] > BLEND_RANGE[0]) & (magnitude["r"] < DEEPEST))
    settings = MeasureSettings(model=model)
    table = _measured(data, out, catalog, settings)
    index = table["object_id"].to_numpy()
    near = table["neighbour_distance"].to_numpy() < 2 * table["psf_fwhm"].to_numpy()
    blended = near | (np.abs(table["contamination"].to_numpy()) > 1)
    clean = ((table["flags"].to_numpy() & int(UNUSABLE)) == 0) & ~is_star[index]
    band = np.array(table["band"].to_pylist())
    truth = 10 ** (0.4 * (31.4 - np.where(band == "g", magnitude["g"][index], magnitude["i"][index])))
    results: dict[str, dict[str, Accuracy]] = {}
    for kind, members in (("blended", blended), ("isolated", ~blended)):
        rows = np.flatnonzero(clean & members)
        results[kind] = {
            name: accuracy(
                *(table[f"{name}_{part}"].to_numpy()[rows].astype(float) for part in ("flux", "flux_err")),
                truth[rows],
                magnitude["r"][index[rows]].astype(np.float64),
                BLEND_RANGE,
            )
            for name in settings.all_estimators
        }
    return results


def _measured(data: Path, out: Path, catalog: ParentCatalog, settings: MeasureSettings) -> pa.Table:
    """Measure both frames."""
    out.mkdir(parents=True, exist_ok=True)
    parent = out / "parent.parquet"
    if not parent.exists():
        write_parent(catalog, parent)
    frames = sorted(data.glob("frame-[gi]-*.fits.bz2"))
    measure_run(frames, parent, out / "run", load_survey("sdss"), settings, workers=2)
    return read_shards(out / "run")


def compare(
    data: Path, out: Path, edges: np.ndarray, *, coadd_shapes: bool = False, model: str | None = None
) -> dict[str, dict[str, Accuracy]]:
    """Measure both frames and compare every estimator, and SDSS's own fluxes, with the coadd, by band."""
    galaxies = load_galaxies(data, coadd_shapes=coadd_shapes)
    settings = MeasureSettings(model=model)
    table = _measured(data, out, galaxies.catalog, settings)
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


def doubts(data: Path, out: Path) -> str:
    """Return how many objects of a run are said to hold other light, or to be unlike the training."""
    table, is_star = read_shards(out / "run"), load_galaxies(data).catalog.half_light_radius == 0
    flags, star = table["flags"].to_numpy(), is_star[table["object_id"].to_numpy()]
    ratio = table["flux"].to_numpy() / table["flux_err"].to_numpy()
    told = Flag.HIDDEN_SOURCE, Flag.CATALOG_MISMATCH, Flag.OUT_OF_DOMAIN
    lines = ["objects   signal-to-noise     n   HIDDEN_SOURCE   CATALOG_MISMATCH   OUT_OF_DOMAIN"]
    for kind, members in (("galaxies", ~star), ("stars", star)):
        for low, high in ((5, 10), (10, 30), (30, 100), (100, 300)):
            rows = flags[members & ~has_flag(flags, UNUSABLE) & (ratio > low) & (ratio < high)]
            if len(rows):
                shares = [f"{has_flag(rows, flag).mean():16.1%}" for flag in told]
                lines.append(f"{kind:9} {low:5}-{high:<10} {len(rows):6}" + " ".join(shares))
    return "\n".join(lines)


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
        print(f"\nSDSS g and i, {title}: what flags doubt\n{doubts(arguments.data, out)}")
    for kind, results in compare_blends(arguments.data, arguments.out / "blends", arguments.model).items():
        print(f"\nSDSS g and i, all objects of the coadd, {kind} galaxies; magnitudes are r of the coadd")
        print(accuracy_table(results))


if __name__ == "__main__":
    main()
