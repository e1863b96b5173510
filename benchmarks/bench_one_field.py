"""Galaxies of known flux on one field that many exposures share: coadds, and the place on the CCD.

One simulated field, in eight bands and ten exposures each, half before and half after the camera's intervention. The
galaxies are put at the same place of the sky into every exposure of a band, so that each exposure has the same
neighbours, and the same scattered light in the same state, as a camera has. They are measured as ``lumos measure``
does; the product of their likelihoods gets the prior once. What a coadd cannot average is in these figures.

Run: ``python benchmarks/bench_one_field.py --folder /somewhere`` (the folder keeps exposures and prior)
"""

import argparse
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scipy.spatial import cKDTree

from limit_stamps import MAG_RANGE, learn_priors
from lumos.catalogs.parent import ParentCatalog, read_parent
from lumos.conventions import AB_ZEROPOINT_NJY, AnyArray, FloatArray, IntArray
from lumos.images import read_exposure, sky_to_pixel
from lumos.images.exposure import Exposure
from lumos.nets.checkpoint import load_model, shipped_models
from lumos.pdf import FluxPdf, GaussianMixture, product
from lumos.photometry.exposure import measure_exposure
from lumos.photometry.objects import PlacedObjects, place_objects
from lumos.photometry.settings import MeasureSettings
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.simulate.inject import inject
from lumos.simulate.population import Galaxies, load_population
from lumos.spectra.passbands import PAUCAM_PASSBANDS
from lumos.statistics import pit_ks, sigma68
from lumos.surveys import load_survey
from lumos.validate.calibration import pdf_metrics

_BANDS = tuple(PAUCAM_PASSBANDS)[2::5]
_SURVEY = (
    f"bands=[{','.join(_BANDS)}]",
    "exposures_per_band=10",
    "camera.detectors=1",
    "camera.shape=[2048,1024]",
    "seeing.variation=0",
)
#: Galaxies lie on a grid of this step, each off its node by up to so much along x and y; pixels.
_STEP, _OFF = 90, 15
#: Exposures of a coadd, and distances from the nearest edge in pixels.
_COUNTS, _EDGES = (1, 2, 5, 10), (0, 40, 100, 200, 520)


@dataclass(frozen=True)
class _Rows:
    """All measurements of one method, one row per galaxy and exposure, nJy."""

    likelihood: GaussianMixture
    galaxy: IntArray
    order: IntArray
    edge: FloatArray
    before: AnyArray


@dataclass(frozen=True)
class _Sample:
    """The galaxies, each in one band: n true fluxes (nJy) and bands, and what neighbours add in units of the error."""

    galaxies: Galaxies
    band: IntArray
    flux: FloatArray
    neighbours: FloatArray


def main() -> None:
    """Make the exposures, or read them again, measure, and print coadds and places on the CCD."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where exposures are kept")
    parser.add_argument("--models", nargs="+", default=list(shipped_models()), help="names or folders")
    parser.add_argument("--seed", type=int, default=22)
    options = parser.parse_args()
    torch.set_num_threads(1)
    models, folder, seed = options.models, options.folder, options.seed
    priors = learn_priors(tuple(sorted(PAUCAM_PASSBANDS)), folder)
    settings = load_simulation("paucam-field", [*_SURVEY, f"seed={seed}"])
    home = folder / f"one-field-{seed}"
    paths = simulate_survey(settings, home).exposures
    sample, rows = _measured(paths, home, models, seed)
    n, scale = len(sample.flux), settings.camera.pixel_scale[0]
    order = np.array([priors.exact.discs.bands.index(band) for band in _BANDS])[sample.band]
    shape = (sample.galaxies.half_light_radius, sample.galaxies.sersic_n, sample.galaxies.axis_ratio)
    prior = priors.exact.given(order, sample.galaxies.ref_mag, *shape)
    light = np.abs(sample.neighbours)
    groups = {"all": light >= 0, "neighbours < 0.3": light < 0.3, "neighbours 0.3-1": (light >= 0.3) & (light < 1)}
    edge = np.bincount(rows["optimal"].galaxy, rows["optimal"].edge, n) / np.bincount(rows["optimal"].galaxy)
    groups |= {"neighbours > 1": light >= 1, "edge < 100 px": edge < 100}
    print(
        f"\nOne field of {scale:g} arcsec per pixel, {n} galaxies in eight bands, coadds; likelihoods times the prior"
    )
    print("once, of posteriors the naive product: PIT-KS, p; then bias, median and sigma68 of the pulls; of medians")
    print(f"{'':33}" + "".join(f"{f'{group} ({chosen.sum()})':>34}" for group, chosen in groups.items()))
    posteriors = {name for name in models if load_model(name).config.kind == "posterior"}
    for name, of in rows.items():
        for count in _COUNTS:
            used = of.order < count
            some, index = of.likelihood.take(np.flatnonzero(used)), of.galaxy[used]
            pdf, _ = product(some, index, n) if name in posteriors else product(some, index, n, *prior)
            cells = [_figures(pdf, sample.flux, chosen) for chosen in groups.values()]
            bands = [pit_ks(pdf.pit(sample.flux)[sample.band == number]) for number in range(len(_BANDS))]
            worst = max(range(len(_BANDS)), key=lambda number, bands=bands: bands[number][0])
            cells.append(f"worst band {_BANDS[worst]}: {bands[worst][0]:.3f} {bands[worst][1]:.1g}")
            print(f"{f'{name}, {count} exp.':33}" + "".join(f"{cell:>34}" for cell in cells), flush=True)
    _print_places(sample, {name: of for name, of in rows.items() if name not in posteriors})


def _figures(pdf: FluxPdf, flux: FloatArray, chosen: AnyArray) -> str:
    rows = np.flatnonzero(chosen)
    found = pdf_metrics(pdf.take(rows), flux[rows], "median")
    return f"{found.pit_ks:.3f} {found.pit_p:6.1g} {found.bias:+.3f} {found.pull_median:+.2f} {found.pull_sigma68:.3f}"


def _print_places(sample: _Sample, rows: dict[str, _Rows]) -> None:
    """Print pulls of likelihoods of single exposures by the distance from the edge and the camera's state."""
    print(
        "\nPixels alone, single exposures, by pixels from the edge: n, median and sigma68 of the pulls, no neighbours"
    )
    quiet = np.abs(sample.neighbours) < 0.3
    for name, of in rows.items():
        truth = sample.flux[of.galaxy]
        pull = (of.likelihood.quantile(0.5) - truth) / of.likelihood.sigma68()
        for state, chosen in (("before", of.before), ("after", ~of.before)):
            cells = []
            for low, high in pairwise(_EDGES):
                here = chosen & quiet[of.galaxy] & (of.edge >= low) & (of.edge < high) & np.isfinite(pull)
                cells.append(f"{low}-{high}: {here.sum():5d} {np.median(pull[here]):+.2f} {sigma68(pull[here]):.3f}")
            print(f"  {name:14}{state:8}" + "   ".join(cells), flush=True)


def _measured(paths: tuple[Path, ...], home: Path, models: list[str], seed: int) -> tuple[_Sample, dict[str, _Rows]]:
    """Put the galaxies into every exposure of their band and measure them."""
    survey, samples = load_survey("paucam"), []
    found: dict[str, list[tuple[pa.Table, int, bool, tuple[int, int]]]] = {name: [] for name in ("optimal", *models)}
    first = 0
    for number, band in enumerate(_BANDS):
        rng = np.random.default_rng([seed, number])
        exposures = [next(read_exposure(path, survey)) for path in sorted(paths) if path.name.startswith(f"{band}_")]
        # One of each state in turn.
        exposures = [exposures[row] for row in np.arange(10).reshape(2, 5).T.ravel()]
        catalog, galaxies = _catalog(exposures[0], rng, first)
        flux = galaxies.band_flux([PAUCAM_PASSBANDS[band]])[:, 0]
        for order, exposure in enumerate(exposures):
            placed = place_objects(exposure, catalog, MeasureSettings())
            rows = placed.catalog.object_id - first
            units = flux[rows] * 10 ** (0.4 * (exposure.zeropoint - AB_ZEROPOINT_NJY))
            full = inject(exposure, placed, units, rng)
            for name in models:
                table = measure_exposure(full, catalog, MeasureSettings(model=name))
                found[name].append((table, order, exposure.state == "before", exposure.shape))
            # Every run has the classical estimators beside the model.
            found["optimal"].append((table, order, exposure.state == "before", exposure.shape))
            if order == 0:
                errors = np.full(len(flux), np.nan)
                errors[rows] = table["optimal_flux_err"].to_numpy()
                light = np.full(len(flux), np.nan)
                light[rows] = _neighbour_light(exposure, placed, home, band)
        samples.append(_Sample(galaxies, np.full(len(flux), number), flux, light / errors))
        first += len(flux)
    joined = {name: _join(name, parts) for name, parts in found.items()}
    arrays = {name: np.concatenate([getattr(one, name) for one in samples]) for name in ("band", "flux", "neighbours")}
    return _Sample(_concatenate([one.galaxies for one in samples]), **arrays), joined


def _join(name: str, parts: list[tuple[pa.Table, int, bool, tuple[int, int]]]) -> _Rows:
    tables = [part[0] for part in parts]

    def column(key: str) -> AnyArray:
        return np.concatenate([np.stack(table[key].to_pylist()).astype(np.float64) for table in tables])

    def constant(position: int) -> AnyArray:
        return np.repeat([part[position] for part in parts], [len(table) for table in tables])

    edge = [
        np.minimum.reduce([x := table["x"].to_numpy(), shape[1] - 1 - x, y := table["y"].to_numpy(), shape[0] - 1 - y])
        for table, *_, shape in parts
    ]
    if name == "optimal":
        flux, error = column("optimal_flux")[:, None], column("optimal_flux_err")[:, None]
        likelihood = GaussianMixture(np.where(np.isfinite(flux), 1.0, np.nan), flux, error)
    else:
        likelihood = GaussianMixture(*(column(f"pdf_{part}") for part in ("weights", "means", "stds")))
    galaxy = np.concatenate([table["object_id"].to_numpy() for table in tables])
    return _Rows(likelihood, galaxy, constant(1), np.concatenate(edge), constant(2).astype(bool))


def _concatenate(parts: list[Galaxies]) -> Galaxies:
    names = [name for name in Galaxies.__dataclass_fields__ if name != "sed"]
    return Galaxies(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}, sed=parts[0].sed
    )


def _catalog(exposure: Exposure, rng: np.random.Generator, first: int) -> tuple[ParentCatalog, Galaxies]:
    """Draw galaxies all over an exposure, up to its edges."""
    rows, columns = exposure.shape
    y, x = (axis.ravel().astype(float) for axis in np.mgrid[20 : rows - 20 : _STEP, 20 : columns - 20 : _STEP])
    x, y = np.array([x, y]) + rng.uniform(-_OFF, _OFF, (2, len(x)))
    galaxies = load_population().draw(len(x), rng, MAG_RANGE)
    ra, dec = exposure.wcs.all_pix2world(x, y, 0)
    catalog = ParentCatalog(
        object_id=np.arange(first, first + len(x)),
        ra=np.asarray(ra),
        dec=np.asarray(dec),
        half_light_radius=galaxies.half_light_radius,
        sersic_n=galaxies.sersic_n,
        axis_ratio=galaxies.axis_ratio,
        position_angle=galaxies.position_angle,
        ref_mag=galaxies.ref_mag,
    )
    return catalog, galaxies


def _neighbour_light(exposure: Exposure, placed: PlacedObjects, home: Path, band: str) -> FloatArray:
    """Return what the field's own objects add to fluxes under optimal weights, nJy: all profiles taken for Gaussians.

    A Gaussian of width s at the distance d adds the share 2 a / (a + b) exp(-d^2 / (2 (a + b))) of its flux to one of
    width w, with a = w^2 and b = s^2.
    """
    truth = pq.read_table(home / "truth.parquet", filters=[("band", "=", band)])
    parent = read_parent(home / "parent.parquet")
    known = dict(zip(parent.object_id.tolist(), parent.half_light_radius.tolist(), strict=True))
    # Stars have no size; galaxies below the catalogue's limit are small.
    radius = np.array([known.get(number, 0.3 if number > 0 else 0.0) for number in truth["object_id"].to_pylist()])
    x, y, near = sky_to_pixel(exposure.wcs, truth["ra"].to_numpy(), truth["dec"].to_numpy(), exposure.shape, 60)
    x, y, flux, radius = x[near], y[near], truth["flux"].to_numpy()[near], radius[near] / exposure.pixel_scale
    star = (float(np.nanmedian(placed.psf_fwhm)) / 2.355) ** 2
    circular = placed.half_light_radius * np.sqrt(placed.axis_ratio)
    others, own = star + (radius / 1.177) ** 2, star + (circular / 1.177) ** 2
    light = np.zeros(len(placed))
    found = cKDTree(np.column_stack([x, y])).query_ball_point(np.column_stack([placed.x, placed.y]), 30.0)
    for row, near_it in enumerate(found):
        d2 = (x[near_it] - placed.x[row]) ** 2 + (y[near_it] - placed.y[row]) ** 2
        both = own[row] + others[near_it]
        light[row] = (flux[near_it] * 2 * own[row] / both * np.exp(-d2 / (2 * both))).sum()
    return light


if __name__ == "__main__":
    main()
