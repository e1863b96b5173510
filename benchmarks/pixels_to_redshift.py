"""One mock survey from pixels to redshifts: 40 narrow bands simulated, measured, coadded, and p(z) of every galaxy.

Run: ``python benchmarks/pixels_to_redshift.py OUT [--data DATA] [--side 960] [--exposures 3] [--until STAGE]``. With
DATA, the folder that ``eriksen2019`` needs with ``brown2014/brown2014_900_12000A.npz``, galaxies have the real spectra
of Brown et al. 2014, none of which is in the models, in the measured response curves of PAUS. Without it they have the
spectra of the simulated population, and the fits the ``analytic`` templates that come with Lumos. Positions, shapes,
magnitudes and redshifts are the population's in both. The field of ``--full`` is 4096 x 2048 pixels.

Each step is the command of ``lumos`` that it prints, and is continued where it was stopped. Broad bands have no images:
their fluxes are the true ones with noise, 5 sigma at 25 mag, as a deep survey would give them.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lumos.catalogs.tables import write_table
from lumos.conventions import AnyArray, BoolArray, FloatArray
from lumos.photoz.deepz.model import load_deepz
from lumos.photoz.deepz.rows import DeepzRows
from lumos.photoz.estimates import RedshiftPdf
from lumos.photoz.fluxes import Photometry, read_photometry
from lumos.photoz.mock import MockCatalog, TemplateSpectra, draw_mock
from lumos.photoz.mock_noise import depth_errors
from lumos.photoz.models import ModelGrid, build_grid
from lumos.photoz.rows import redshift_rows
from lumos.photoz.settings import PhotozSettings
from lumos.photoz.templates import load_models
from lumos.simulate.field import Field, draw_field
from lumos.simulate.plan import plan_exposures
from lumos.simulate.settings import load_simulation
from lumos.spectra.templates import list_templates, read_template
from lumos.statistics import sigma68
from lumos.validate.redshifts import OUTLIER, redshift_metrics

#: Depth of broad bands, AB magnitude at 5 sigma.
BROAD_DEPTH = 25.0
#: Galaxies of the field that the catalogue holds; those of a magnitude more are in the images alone.
SKY = ("sky.galaxies=230", "sky.catalog_limit=22.5", "sky.mag_range=[17.5,23.5]")
#: Usable fluxes of 46 that a galaxy needs.
FEWEST = 35
#: Galaxies of a group whose figures are printed.
SMALLEST = 20
#: First look at redshifts in steps of so many places of the grid.
COARSE = 3
STAGES = ("measure", "coadd", "photoz")
#: Fluxes that redshifts are made of: coadd, column and likelihood.
FLUXES = {
    "aperture": ("likelihood", "aperture_flux", "gaussian"),
    "aperture, neighbours left": ("apart", "aperture_flux", "gaussian"),
    "optimal weights": ("likelihood", "optimal_flux", "gaussian"),
    "optimal, neighbours left": ("apart", "optimal_flux", "gaussian"),
    "joint fit": ("likelihood", "scene_flux", "gaussian"),
    "Lumos": ("likelihood", "flux", "gaussian"),
    "Lumos, PDFs": ("likelihood", "flux", "pdf"),
    "Lumos with prior": ("posterior", "flux", "gaussian"),
    "true, noise of Lumos": ("true", "flux", "gaussian"),
}


@dataclass(frozen=True)
class Chain:
    """Where things are, and what they are made of."""

    out: Path
    data: Path | None
    settings: tuple[str, ...]

    @property
    def templates(self) -> str:
        """Return the set of model runs."""
        return "analytic" if self.data is None else "eriksen2019"

    def lumos(self, *words: object) -> None:
        """Run a command, and say so."""
        print(shlex.join(["lumos", *map(str, words)]), flush=True)
        subprocess.run([sys.executable, "-m", "lumos", *map(str, words)], check=True)  # noqa: S603


@dataclass(frozen=True)
class Found:
    """Redshifts of one method from one set of fluxes."""

    method: str
    fluxes: str
    rows: dict[str, AnyArray]
    redshifts: FloatArray


def put_galaxies(chain: Chain, step: float) -> tuple[Field, MockCatalog, ModelGrid]:
    """Draw the galaxies of the field with their fluxes in all bands; write true fluxes and those of broad bands."""
    settings = load_simulation("paucam-field", chain.settings)
    field = draw_field(settings, plan_exposures(settings)[0])
    models, data = load_models(chain.templates, [f"redshifts.step={step}"]), chain.data or Path()
    grid, spectra = build_grid(models, data), None
    if chain.data is not None:
        archive = chain.data / "brown2014" / "brown2014_900_12000A.npz"
        real = {name: read_template(archive, "Angstrom", "air", name=name) for name in list_templates(archive)}
        spectra = TemplateSpectra(real, mixed=False, lines=False)
    mock = draw_mock(field.galaxies, models.curves(data), np.random.default_rng(5), spectra)
    names = [f"flux_{band}" for band in mock.bands]
    write_table(
        [pa.table({"object_id": field.object_id} | dict(zip(names, mock.flux.T, strict=True)))],
        chain.out / "fluxes.parquet",
    )
    broad = [number for number, narrow in enumerate(grid.narrow) if not narrow]
    error = depth_errors(mock.flux[:, broad], np.full(len(broad), BROAD_DEPTH))
    seen = mock.flux[:, broad] + error * np.random.default_rng(6).standard_normal(error.shape)
    columns = {"object_id": field.object_id}
    for place, number in enumerate(broad):
        columns |= {f"flux_{mock.bands[number]}": seen[:, place], f"flux_{mock.bands[number]}_err": error[:, place]}
    write_table([pa.table(columns)], chain.out / "broad.parquet")
    return field, mock, grid


def measured(chain: Chain) -> None:
    """Simulate and measure: with the joint fit of the scene, and without."""
    out, given = chain.out, [] if chain.data is None else [f"sky.fluxes={chain.out / 'fluxes.parquet'}"]
    sets = [word for setting in (*chain.settings, *given) for word in ("--set", setting)]
    chain.lumos("simulate", "paucam-field", *sets, "--out", out / "survey")
    # The noise of these images is white.
    how = ("--catalog", out / "survey/parent.parquet", "--survey", "paucam", "--set", "measure.noise.correlation=none")
    names = "measure.estimators=[aperture,optimal,scene]"
    chain.lumos(
        "measure", out / "survey/exposures", *how, "--model", "paucam-mock", "--set", names, "--out", out / "joint"
    )
    # Networks are not for stamps with neighbours.
    apart = ("--set", "measure.estimators=[aperture,optimal]", "--set", "measure.scene=off")
    chain.lumos("measure", out / "survey/exposures", *how, *apart, "--out", out / "apart")


def coadded(chain: Chain) -> None:
    """Coadd: likelihoods, with a prior that is learned, and without the joint fit."""
    for run, prior, name in (
        ("joint", "none", "likelihood"),
        ("joint", "catalog", "posterior"),
        ("apart", "none", "apart"),
    ):
        chain.lumos("coadd", chain.out / run, "--prior", prior, "--out", chain.out / f"{name}.parquet")


def photometry(chain: Chain, name: str, grid: ModelGrid, mock: MockCatalog, field: Field) -> Photometry:
    """Return the fluxes of a set, narrow bands from pixels with broad bands, of galaxies with all narrow bands."""
    table, column, likelihood = FLUXES[name]
    path = chain.out / f"{'likelihood' if table == 'true' else table}.parquet"
    settings = PhotozSettings(flux=column, likelihood=likelihood, others=str(chain.out / "broad.parquet"))
    seen = read_photometry(path, grid.bands, settings)
    if table != "true":
        return seen
    order = np.searchsorted(field.object_id, seen.object_id)
    noise = seen.flux_err * np.random.default_rng(7).standard_normal(seen.flux.shape)
    flux = np.where(grid.narrow, mock.flux[order] + noise, seen.flux)
    return Photometry(seen.object_id, flux, seen.flux_err, bands=seen.bands)


def redshifts(chain: Chain, networks: list[Path], field: Field, mock: MockCatalog, grid: ModelGrid) -> Iterator[Found]:
    """Yield method, name of the fluxes and rows; those of fits are kept."""
    for name in FLUXES:
        seen = photometry(chain, name, grid, mock, field)
        kept = chain.out / f"rows_{name.replace(',', '').replace(' ', '_')}.npz"
        if not kept.exists():
            start = process_time()
            settings = PhotozSettings(likelihood=FLUXES[name][2], coarse=COARSE)
            rows = redshift_rows(seen, grid, settings)
            print(f"{name}: {process_time() - start:.0f} s", flush=True)
            np.savez(kept, **{key: rows[key].astype(str) if key == "best_run" else rows[key] for key in rows})
        yield Found("bcnz", name, dict(np.load(kept)), grid.redshifts)
        for path in networks if FLUXES[name][2] == "gaussian" else ():
            models = load_deepz(path)
            yield Found(path.name, name, DeepzRows(models, PhotozSettings())(seen), models[0].redshifts)


def groups(field: Field, objects: AnyArray, whole: BoolArray) -> dict[str, BoolArray]:
    """Return groups of galaxies: magnitude, size, index, redshift, neighbours."""
    at = np.searchsorted(field.object_id, objects)
    galaxies = field.galaxies.take(at)
    mag, z = galaxies.ref_mag, galaxies.redshift
    good = whole & (z > 0.05) & (z < 1.1)
    x, y = (field.ra * np.cos(np.deg2rad(field.dec)))[:, None] * 3600, field.dec[:, None] * 3600
    apart = np.hypot(x[at] - x.T, y[at] - y.T)
    apart[np.arange(len(at)), at] = np.inf
    # A neighbour counts if it is at most a magnitude fainter.
    apart[field.galaxies.ref_mag[None, :] > mag[:, None] + 1] = np.inf
    close = apart.min(axis=1) < 3
    radius, index = galaxies.half_light_radius, galaxies.sersic_n
    return {
        "all": good,
        "i < 20.5": good & (mag < 20.5),
        "20.5-21.5": good & (mag >= 20.5) & (mag < 21.5),
        "21.5-22": good & (mag >= 21.5) & (mag < 22),
        "22-22.5": good & (mag >= 22),
        "i > 20.5": good & (mag >= 20.5),
        "neighbour within 3 arcsec": good & close,
        "none": good & ~close,
        "r50 > 0.5 arcsec": good & (radius > 0.5),
        "r50 < 0.5 arcsec": good & (radius <= 0.5),
        "n < 1.5": good & (index < 1.5),
        "n > 1.5": good & (index >= 1.5),
        "z < 0.5": good & (z < 0.5),
        "z > 0.5": good & (z >= 0.5),
    }


def changes(one: FloatArray, first: FloatArray) -> tuple[float, float, float]:
    """Return the change of sigma68, its error from galaxies drawn again, and the change of the outliers."""
    draws = np.random.default_rng(3).integers(0, len(one), (400, len(one)))
    again = [sigma68(one[rows]) / sigma68(first[rows]) for rows in draws]
    outliers = [float((np.abs(dx) > OUTLIER).mean()) for dx in (one, first)]
    return sigma68(one) / sigma68(first) - 1, float(np.std(again)), outliers[0] / max(outliers[1], 1e-9) - 1


def show(found: list[Found], field: Field, common: BoolArray, redshift: FloatArray) -> None:
    """Print figures, group by group."""
    head = f"{'sigma68':>9}{'change':>13}{'outliers':>10}{'change':>8}{'bias':>9}{'PIT-KS':>8}{'CRPS':>8}"
    for group, rows in groups(field, found[0].rows["object_id"], common).items():
        if rows.sum() < SMALLEST:
            continue
        print(f"{group}, {rows.sum()} galaxies\n{'':<11}{'':<27}{head}")
        first: dict[str, FloatArray] = {}
        for one in found:
            pdf, known = RedshiftPdf(one.redshifts, one.rows["pz"][rows]), redshift[rows]
            some = redshift_metrics(one.rows["zb"][rows], pdf, known)
            dx = (one.rows["zb"][rows] - known) / (1 + known)
            change, error, outliers = changes(dx, first.setdefault(one.method, dx))
            print(
                f"{one.method:<11}{one.fluxes:<27}{some.sigma68:>9.4f}{change:>+7.0%} ±{error:>4.0%}"
                f"{some.outliers:>10.1%}{outliers:>+8.0%}{some.bias:>+9.4f}{some.pit_ks:>8.3f}{some.crps:>8.4f}"
            )


def compared(chain: Chain, networks: list[Path], field: Field, mock: MockCatalog, grid: ModelGrid) -> None:
    """Make all redshifts and print the table, of galaxies with all fluxes."""
    found = list(redshifts(chain, networks, field, mock, grid))
    for one in found:
        order = np.argsort(one.rows["object_id"])
        one.rows.update({key: values[order] for key, values in one.rows.items()})
    common = np.all([np.isfinite(one.rows["zb"]) & (one.rows["n_bands"] >= FEWEST) for one in found], axis=0)
    show(found, field, common, mock.redshift[np.searchsorted(field.object_id, found[0].rows["object_id"])])


def accuracy(chain: Chain, field: Field, mock: MockCatalog) -> None:
    """Print how true the coadded fluxes are, all narrow bands together."""
    print(f"{'':<27}{'i':>12}{'n':>7}{'error':>8}{'scatter':>9}{'pull':>7}{'> 5':>8}")
    for name, (coadd, column, likelihood) in FLUXES.items():
        path = chain.out / f"{coadd}.parquet"
        if likelihood != "gaussian" or not path.exists():
            continue
        table = pq.read_table(path, columns=["object_id", "band", column, f"{column}_err"])
        row = np.searchsorted(field.object_id, table["object_id"].to_numpy())
        band = np.array([mock.bands.index(one) for one in table["band"].to_pylist()])
        true, flux, error = mock.flux[row, band], *(table[one].to_numpy() for one in (column, f"{column}_err"))
        mag, pull = field.galaxies.ref_mag[row], (flux - true) / error
        for low, high in ((17.5, 20.5), (20.5, 21.5), (21.5, 22.5)):
            rows = np.isfinite(pull) & (mag >= low) & (mag < high)
            typical, scatter = np.median(error[rows] / true[rows]), sigma68(flux[rows] / true[rows])
            print(
                f"{name:<27}{low:>7}-{high}{rows.sum():>6}{typical:>8.3f}{scatter:>9.3f}{sigma68(pull[rows]):>7.2f}"
                f"{(np.abs(pull[rows]) > 5).mean():>8.2%}"
            )


def main() -> None:
    """Do all stages, or those until one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--side", type=int, default=960, help="pixels")
    parser.add_argument("--exposures", type=int, default=3, help="of each band")
    parser.add_argument("--full", action="store_true", help="a field of 4096 x 2048 pixels")
    parser.add_argument("--networks", type=Path, nargs="*", default=[], help="of Deepz, on the same redshifts")
    parser.add_argument("--step", type=float, default=0.002, help="of the redshifts")
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1])
    options = parser.parse_args()
    shape = [4096, 2048] if options.full else [options.side, options.side]
    sizes = (f"camera.shape={shape}", "camera.detectors=1", f"exposures_per_band={options.exposures}")
    chain = Chain(options.out, options.data, (*sizes, *SKY))
    options.out.mkdir(parents=True, exist_ok=True)
    field, mock, grid = put_galaxies(chain, options.step)
    measured(chain)
    if options.until != "measure":
        coadded(chain)
    if options.until == "photoz":
        accuracy(chain, field, mock)
        compared(chain, options.networks, field, mock, grid)


if __name__ == "__main__":
    main()
