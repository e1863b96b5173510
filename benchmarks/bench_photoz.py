"""Photometric redshifts of mock galaxies: scatter by signal-to-noise ratio, flux PDFs, appendix D, speed, and Deepz.

Run: ``python benchmarks/bench_photoz.py DATA [CASE ...]``; cases are snr, appendix, outliers, zeropoints, speed, all by
default, and deepz, which takes a quarter of an hour (``--of`` chooses among bcnz, published and compact). DATA is the
folder that ``eriksen2019`` needs, with ``brown2014/brown2014_900_12000A.npz``. The galaxies have the real spectra of
Brown et al. 2014, none of which is in the models; their magnitudes and redshifts are those of the simulated population.
Times are of the processor, on one core.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np

from lumos.conventions import AnyArray, FloatArray
from lumos.photoz.deepz.inputs import Exposures
from lumos.photoz.deepz.model import DeepzModel, load_deepz, save_deepz
from lumos.photoz.deepz.pretrain import pretrain
from lumos.photoz.deepz.rows import DeepzRows
from lumos.photoz.deepz.settings import DeepzSettings, DeepzSizes, PretrainSettings
from lumos.photoz.deepz.train import Fold, make_sample, train_fold, train_network
from lumos.photoz.estimates import RedshiftPdf
from lumos.photoz.fluxes import Photometry
from lumos.photoz.mock import MockCatalog, TemplateSpectra, draw_mock
from lumos.photoz.mock_noise import APPENDIX_D, depth_errors, observe
from lumos.photoz.models import ModelGrid, build_grid
from lumos.photoz.rows import redshift_rows
from lumos.photoz.settings import PhotozSettings
from lumos.photoz.templates import load_models
from lumos.photoz.zeropoints import fit_factors
from lumos.simulate.population import load_population
from lumos.spectra.templates import list_templates, read_template
from lumos.validate.redshifts import RedshiftMetrics, redshift_metrics

CASES = ("snr", "appendix", "outliers", "zeropoints", "speed")
#: What the case deepz compares.
METHODS = ("bcnz", "published", "compact")
#: Depths at 5 sigma of narrow and broad bands: the SNR of narrow bands is then that of Lumos on PAUS.
DEPTHS = (22.4, 25.0)


def make_mock(data: Path, n: int, *, own: bool = False, seed: int = 5, mixed: bool = False) -> MockCatalog:
    """Return galaxies with real spectra, as they are or mixed, or with spectra mixed of the models' own templates."""
    rng = np.random.default_rng(seed)
    archive = data / "brown2014" / "brown2014_900_12000A.npz"
    real = {name: read_template(archive, "Angstrom", "air", name=name) for name in list_templates(archive)}
    galaxies = load_population().draw(2 * n, rng, (18.0, 22.5))
    galaxies = galaxies.take((galaxies.redshift > 0.05) & (galaxies.redshift < 1.1)).take(slice(0, n))
    models = load_models("eriksen2019")
    curves = models.curves(data)
    if own:
        templates = {name: one for name, one in models.spectra(data).items() if not name.startswith("BC03")}
        return draw_mock(galaxies, curves, rng, TemplateSpectra(templates, law=models.laws["SB_calzetti"].read(data)))
    return draw_mock(galaxies, curves, rng, TemplateSpectra(real, mixed=mixed, lines=False))


def measure(name: str, photometry: Photometry, grid: ModelGrid, settings: PhotozSettings, z: FloatArray) -> float:
    """Fit, print a line, and return seconds of the processor for each galaxy."""
    start = process_time()
    rows = redshift_rows(photometry, grid, settings)
    seconds = (process_time() - start) / len(z)
    pdf = RedshiftPdf(grid.redshifts, np.asarray(rows["pz"]))
    half = rows["qz"] <= np.nanmedian(rows["qz"])
    print(line(name, redshift_metrics(rows["zb"], pdf, z), best_half(rows, pdf, z, half), seconds), flush=True)
    return seconds


def best_half(rows: dict[str, AnyArray], pdf: RedshiftPdf, z: FloatArray, half: AnyArray) -> RedshiftMetrics:
    """Return the figures of the better half by Qz."""
    return redshift_metrics(rows["zb"][half], RedshiftPdf(pdf.redshifts, pdf.density[half]), z[half])


def line(name: str, every: RedshiftMetrics, half: RedshiftMetrics, seconds: float) -> str:
    """Return one line of the table."""
    return (
        f"{name:<26}{every.n:>6}{every.sigma68:>9.4f}{half.sigma68:>9.4f}{every.bias:>+9.5f}{every.outliers:>9.2%}"
        f"{half.outliers:>9.2%}{every.pit_ks:>8.3f}{seconds:>9.3f}"
    )


def by_snr(mock: MockCatalog, grid: ModelGrid, settings: PhotozSettings) -> None:
    """Narrow bands alone, the same signal-to-noise ratio in all."""
    narrow = [band for band, is_narrow in zip(grid.bands, grid.narrow, strict=True) if is_narrow]
    alone = grid.in_bands(narrow)
    flux = mock.flux[:, grid.narrow]
    for snr in (30, 10, 5):
        rng = np.random.default_rng(snr)
        error = flux / snr
        seen = Photometry(np.arange(len(flux)), flux + error * rng.normal(size=flux.shape), error, bands=alone.bands)
        measure(f"narrow bands, SNR {snr}", seen, alone, settings, mock.redshift)
        if snr == 10:
            evidence = settings.model_copy(update={"weighing": "evidence"})
            measure("  runs weighed by evidence", seen, alone, evidence, mock.redshift)


def observed(mock: MockCatalog, grid: ModelGrid, name: str, *, honest: bool = True) -> Photometry:
    """Return fluxes of a catalogue of appendix D, with flux PDFs."""
    rng = np.random.default_rng(11)
    errors = depth_errors(mock.flux, np.where(grid.narrow, *DEPTHS))
    seen = observe(mock.flux, errors, grid.narrow, rng, APPENDIX_D[name])
    pdfs = seen.pdfs(honest=honest)
    shape = (*seen.flux.shape, -1)
    mixture = np.stack([getattr(pdfs, part).reshape(shape) for part in ("weights", "means", "stds")], axis=2)
    return Photometry(np.arange(len(mock)), seen.flux, seen.flux_err, mixture, bands=grid.bands)


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("cases", nargs="*", default=CASES, choices=[*CASES, "deepz", []])
    parser.add_argument("--own", action="store_true", help="spectra mixed of the templates of the models")
    parser.add_argument("--n", type=int, default=1000, help="galaxies")
    parser.add_argument("--of", nargs="*", default=METHODS, choices=METHODS, help="what the case deepz compares")
    parser.add_argument("--train", type=int, help="galaxies with known redshifts beside those that are tested")
    parser.add_argument("--ensemble", type=int, default=2, help="networks that are trained on these")
    parser.add_argument("--start", type=Path, help="pretrained network, for one of the kinds; else it is pretrained")
    parser.add_argument("--keep", type=Path, help="folder for the networks that were trained on others")
    options = parser.parse_args()
    mock, grid = (
        make_mock(options.data, options.n, own=options.own),
        build_grid(load_models("eriksen2019"), options.data),
    )
    settings = PhotozSettings()
    print(
        f"{'':<26}{'n':>6}{'sigma68':>9}{'best 50%':>9}{'bias':>9}{'outliers':>9}{'best 50%':>9}{'PIT-KS':>8}"
        f"{'s/galaxy':>9}"
    )
    if "snr" in options.cases:
        # At equal signal-to-noise ratios errors are what they are said to be.
        by_snr(mock, grid, settings.model_copy(update={"floor": 0.0}))
    if "appendix" in options.cases:
        for name in APPENDIX_D:
            measure(f"appendix D, {name}", observed(mock, grid, name), grid, settings, mock.redshift)
    if "outliers" in options.cases:
        for kind in ("gaussian", "student", "pdf"):
            some = settings.model_copy(update={"likelihood": kind})
            measure(f"both faults, {kind}", observed(mock, grid, "both"), grid, some, mock.redshift)
    if "zeropoints" in options.cases:
        zero_points(mock, grid, settings)
    if "deepz" in options.cases:
        networks(mock, grid, settings, options)
    if "speed" in options.cases:
        seconds = measure("speed", observed(mock, grid, "perfect"), grid, settings, mock.redshift)
        print(f"  {1 / seconds:.1f} galaxies per second and core; 10 000 on two: {seconds * 5000 / 60:.1f} minutes")


@dataclass(frozen=True)
class Seen:
    """Galaxies with all faults of appendix D, their exposures and their redshifts."""

    photometry: Photometry
    exposures: Exposures
    redshift: FloatArray

    @classmethod
    def of(cls, mock: MockCatalog, grid: ModelGrid, seed: int) -> "Seen":
        """Draw noise."""
        errors = depth_errors(mock.flux, np.where(grid.narrow, *DEPTHS))
        seen = observe(mock.flux, errors, grid.narrow, np.random.default_rng(seed), APPENDIX_D["both"])
        exposures = Exposures(seen.exposure_flux, seen.exposure_flux_err, grid.bands)
        return cls(
            Photometry(np.arange(len(mock)), seen.flux, seen.flux_err, bands=grid.bands), exposures, mock.redshift
        )


def networks(mock: MockCatalog, grid: ModelGrid, settings: PhotozSettings, options: argparse.Namespace) -> None:
    """Deepz beside fits of templates, on galaxies that have five exposures per narrow band."""
    tested = Seen.of(mock, grid, 11)
    if "bcnz" in options.of:
        by_magnitude("bcnz", lambda: redshift_rows(tested.photometry, grid, settings), mock, grid)
    lines = load_models("eriksen2019").lines
    for kind in [name for name in METHODS[1:] if name in options.of]:
        sizes = DeepzSizes() if kind == "published" else DeepzSizes(kind="compact", hidden=256, depth=3)
        deepz = DeepzSettings(pretrain=PretrainSettings(network=sizes))
        # The compact network forgets what it has learned from templates at the published rates.
        gentle = {"rates": (5e-4, 5e-5), "epochs": (40, 20), "batch_size": 100}
        deepz = deepz if kind == "published" else deepz.model_copy(update=gentle)
        some = settings.model_copy(update={"deepz": deepz})
        start = pretrain(grid, lines, deepz, kind) if options.start is None else load_deepz(options.start)[0]
        by_magnitude(f"{kind}, pretrained", partial(DeepzRows((start,), some), tested.photometry), mock, grid)
        models = in_folds(tested, start, some) if options.train is None else from_others(start, some, grid, options)
        by_magnitude(f"{kind}, trained", partial(DeepzRows(models, some), tested.photometry), mock, grid)


def in_folds(tested: Seen, start: DeepzModel, settings: PhotozSettings) -> tuple[DeepzModel, ...]:
    """Train on the tested galaxies, each network on four fifths."""
    sample = make_sample(tested.photometry, tested.redshift, tested.exposures, start, settings)
    with TemporaryDirectory() as folder:
        folds = [Fold(0, number, Path(folder) / str(number)) for number in range(settings.deepz.folds)]
        for fold in folds:
            train_fold((sample, start, settings.deepz), fold)
        return tuple(load_deepz(fold.folder)[0] for fold in folds)


def from_others(
    start: DeepzModel, settings: PhotozSettings, grid: ModelGrid, options: argparse.Namespace
) -> tuple[DeepzModel, ...]:
    """Train networks on other galaxies; keep them if a folder is given."""
    others = Seen.of(make_mock(options.data, options.train, own=options.own, seed=17, mixed=True), grid, 19)
    sample = make_sample(others.photometry, others.redshift, others.exposures, start, settings)
    models = []
    for seed in range(options.ensemble):
        model = train_network(start, sample, settings.deepz, seed + 1)
        # The tested galaxies have the same numbers, and are others.
        model = DeepzModel(model.config, model.network, -1 - model.trained_on[::-1])
        models.append(model if options.keep is None else save_deepz(model, options.keep / "networks" / f"fold-{seed}"))
    return tuple(models)


def by_magnitude(name: str, rows_of: Callable[[], dict[str, AnyArray]], mock: MockCatalog, grid: ModelGrid) -> None:
    """Print the figures of all galaxies, of the better half, and by magnitude."""
    start = process_time()
    rows = rows_of()
    seconds = (process_time() - start) / len(mock)
    pdf = RedshiftPdf(grid.redshifts, np.asarray(rows["pz"]))
    half = rows["qz"] <= np.nanmedian(rows["qz"])
    every = redshift_metrics(rows["zb"], pdf, mock.redshift)
    print(line(name, every, best_half(rows, pdf, mock.redshift, half), seconds), flush=True)
    for low, high in ((18, 20), (20, 21), (21, 21.5), (21.5, 22), (22, 22.5)):
        chosen = (mock.ref_mag >= low) & (mock.ref_mag < high)
        some, better = (
            best_half(rows, pdf, mock.redshift, one)
            for one in (chosen, chosen & (rows["qz"] <= np.nanmedian(rows["qz"][chosen])))
        )
        print(line(f"  {low:g}-{high:g} mag", some, better, seconds), flush=True)


def zero_points(mock: MockCatalog, grid: ModelGrid, settings: PhotozSettings) -> None:
    """Zero points that are wrong by 4 % are found again, and what that is worth."""
    right = observed(mock, grid, "perfect")
    wrong = np.exp(0.04 * np.random.default_rng(2).normal(size=len(grid.bands)))
    spoilt = right.scaled(wrong)
    measure("zero points right", right, grid, settings, mock.redshift)
    measure("wrong by 4 %", spoilt, grid, settings, mock.redshift)
    kept = fit_factors(right, grid, settings, mock.redshift).factor
    for name, known in (("with spectra", mock.redshift), ("without spectra", None)):
        found = fit_factors(spoilt, grid, settings, known).factor
        # What templates lack is taken for zero points, too: compared with those of fluxes that are right.
        error = np.log(found * wrong / kept)
        for bands in (grid.narrow, ~grid.narrow):
            error[bands] -= np.median(error[bands])
        measure(f"found {name}", spoilt.scaled(found), grid, settings, mock.redshift)
        print(f"  scatter of what is left: {np.std(error):.4f}")


if __name__ == "__main__":
    main()
