"""Whether coadds are true, and what they cost.

Simulates a survey of ten exposures in each of four bands, measures it with a network, coadds 2, 5 and 10 exposures in
several ways, and compares them with the truth: PIT, pulls, bias, scatter. Draws ``coadds.png`` in the folder. With
``--rows`` it also writes synthetic runs of that many rows and a tenth of it, and tells time and memory of their coadds;
with ``--only-cost`` it does nothing else.

Run: ``python benchmarks/bench_coadd.py --folder /somewhere --side 4096 --rows 10000000``
"""

import argparse
import json
import multiprocessing
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from lumos.catalogs.parent import ParentCatalog, read_parent, write_parent
from lumos.catalogs.schema import SCHEMA_VERSION, list_column, measure_schema, to_arrow
from lumos.catalogs.tables import write_table
from lumos.coadds.read import read_coadd
from lumos.coadds.run import coadd_run
from lumos.coadds.settings import CoaddSettings
from lumos.coadds.sky import sky_catalog
from lumos.files import file_sha256, read_json, write_json
from lumos.flags import Flag
from lumos.pdf import FluxPdf, FluxPrior, GaussianMixture, posterior
from lumos.photometry.run import measure_run
from lumos.photometry.settings import MeasureSettings
from lumos.report.coadds import CoaddPanel, draw_coadds
from lumos.runs.shards import read_shards
from lumos.settings import load_simulation
from lumos.simulate.exposures import simulate_survey
from lumos.surveys import load_survey
from lumos.validate.accuracy import look_up_truth
from lumos.validate.calibration import PdfMetrics, binned_pdf_metrics, metrics_table, pdf_metrics

#: Exposures of each band, by their places in the survey: both camera states in each choice.
CHOICES = {2: (2, 9), 5: (1, 3, 6, 8, 10), 10: tuple(range(1, 11))}
MAGS = np.array([19.0, 20.0, 21.0, 22.0, 23.0])
#: Galaxies of a band that a prior is learned from.
PRIOR_SIZES = (1500, 6000, 24000)
ESTIMATORS = ("aperture", "optimal")
OURS, NAIVE = "likelihoods × prior once", "product of posteriors"


def build(folder: Path, model: str, side: int, seed: int) -> dict[str, Path]:
    """Simulate and measure the survey and its empty positions; return the runs."""
    overrides = ("exposures_per_band=10", f"seed={seed}", f"camera.shape=[{side},{side}]")
    simulation = load_simulation("paucam-mini", overrides)
    exposures = simulate_survey(simulation, folder, workers=2).exposures
    survey, settings = load_survey("paucam"), MeasureSettings(estimators=ESTIMATORS, model=model)
    if not (folder / "sky.parquet").exists():
        parent = read_parent(folder / "parent.parquet")
        write_parent(sky_catalog(parent, len(parent), 3.0, np.random.default_rng(1)), folder / "sky.parquet")
    runs = {}
    for name, catalog in (("run", "parent"), ("sky_run", "sky")):
        runs[name] = folder / name
        report = measure_run(exposures, folder / f"{catalog}.parquet", runs[name], survey, settings, workers=2)
        assert not report.failed, report.failed
    return runs


def subset(run: Path, numbers: tuple[int, ...]) -> Path:
    """Return a run of some exposures of each band, the shards of which are copies of those of the whole run."""
    out = run.with_name(f"{run.name}_{len(numbers)}")
    (out / "shards").mkdir(parents=True, exist_ok=True)
    entries = {
        name: entry
        for name, entry in read_json(run / "manifest.json")["exposures"].items()
        if int(name.rsplit("_", 1)[1]) in numbers
    }
    for entry in entries.values():
        copyfile(run / entry["shard"], out / entry["shard"])
    write_json(out / "manifest.json", {"exposures": entries})
    (out / "settings.yaml").write_bytes((run / "settings.yaml").read_bytes())
    return out


def coadd(run: Path, name: str, sky: Path | None = None, **settings: object) -> tuple[pa.Table, FluxPdf]:
    """Coadd a run anew; return the table and its PDFs."""
    out = run / f"{name}.parquet"
    out.unlink(missing_ok=True)
    coadd_run([run], out, CoaddSettings.model_validate(settings), sky=sky, workers=2)
    return read_coadd(out)


def gaussian(table: pa.Table, name: str) -> GaussianMixture:
    """Return a classical coadd as Gaussians."""
    flux, error = (table[f"{name}_{part}"].to_numpy().astype(np.float64)[:, None] for part in ("flux", "flux_err"))
    return GaussianMixture(np.ones_like(flux), flux, error)


def compare(runs: dict[str, Path], folder: Path) -> dict[int, dict[str, PdfMetrics]]:
    """Print the figures for each number of exposures; return those of the two products."""
    kept: dict[int, dict[str, PdfMetrics]] = {}
    ranges: dict[int, dict[str, PdfMetrics]] = {}
    for n, numbers in CHOICES.items():
        run, sky = (subset(runs[name], numbers) for name in ("run", "sky_run"))
        ours, pdf = coadd(run, "ours", sky)
        truth = look_up_truth(ours, folder / "truth.parquet")
        given = FluxPrior.from_dict(read_json(population_prior(folder)))
        write_json(run / "given.json", given.to_dict())
        pdfs: dict[str, FluxPdf] = {OURS: pdf}
        pdfs["… prior of the simulation"] = coadd(run, "given", sky, prior=str(run / "given.json"))[1]
        pdfs["… without --sky"] = coadd(run, "no_sky")[1]
        pdfs["… rows as independent"] = coadd(run, "independent", repeat_errors=False)[1]
        pdfs[NAIVE] = coadd(run, "naive", sky, product="naive")[1]
        pdfs["likelihoods, no prior"] = coadd(run, "likelihood", sky, prior="none")[1]
        pdfs |= {f"inverse variance, {name}": gaussian(ours, name) for name in (*ESTIMATORS, "lumos")}
        results = {name: pdf_metrics(pdf, truth, "median") for name, pdf in pdfs.items()}
        print(f"\nCoadds of {n} exposures")
        print(metrics_table(results), flush=True)
        print(f"\n{OURS}")
        by_group = groups(ours, pdf, truth)
        ranges[n] = {"all": results[OURS], **by_group}
        print(metrics_table(by_group))
        print("… prior of the simulation")
        print(metrics_table(groups(ours, pdfs["… prior of the simulation"], truth)), flush=True)
        kept[n] = {name: results[name] for name in (OURS, NAIVE)}
        print_zeropoints(run, folder)
        print_shares(ours)
    print_ranges(ranges)
    return kept


def print_ranges(results: dict[int, dict[str, PdfMetrics]]) -> None:
    """Print in one line how far the PIT departs from uniform, over all numbers of exposures."""

    def text(names: list[str]) -> str:
        found = [metrics[name] for metrics in results.values() for name in names]
        distance, chance = [one.pit_ks for one in found], [one.pit_p for one in found]
        return f"{min(distance):.3f}-{max(distance):.3f} (p {min(chance):.0e} to {max(chance):.0e})"

    neighbours = ["isolated", "with a neighbour"]
    names = list(next(iter(results.values())))
    bands = [name for name in names if name not in {"all", *neighbours} and not name.endswith(" mag")]
    parts = {"all": ["all"], "by band": bands} | {name: [name] for name in neighbours}
    counts = ", ".join(map(str, results))
    print(
        f"\nPIT-KS over N = {counts}: " + "; ".join(f"{name} {text(some)}" for name, some in parts.items()), flush=True
    )


def groups(table: pa.Table, pdf: FluxPdf, truth: np.ndarray) -> dict[str, PdfMetrics]:
    """Return the figures by true magnitude, by band, and with and without a neighbour in the catalogue."""
    names, band = np.unique(table["band"].to_pylist(), return_inverse=True)
    close = ((table["flags"].to_numpy() & int(Flag.NEIGHBOUR)) > 0).astype(int)
    by = {
        tuple(f"{low:g}-{low + 1:g} mag" for low in MAGS[:-1]): (31.4 - 2.5 * np.log10(truth), MAGS),
        tuple(names): (band, np.arange(len(names) + 1)),
        ("isolated", "with a neighbour"): (close, np.arange(3)),
    }
    return {
        name: metrics
        for labels, (values, edges) in by.items()
        for name, metrics in zip(labels, binned_pdf_metrics(pdf, truth, values, edges, "median"), strict=True)
    }


def learned_priors(runs: dict[str, Path], folder: Path) -> None:
    """Print the figures of posteriors where likelihoods are perfect and priors are learned from few or many of them."""
    run = runs["run"].with_name("run_5")
    prior = FluxPrior.from_dict(read_json(population_prior(folder)))
    table, _ = read_coadd(run / "likelihood.parquet")
    parent = read_parent(folder / "parent.parquet")
    order = np.argsort(parent.object_id)
    mags = parent.ref_mag[order][np.searchsorted(parent.object_id[order], table["object_id"].to_numpy())]
    error = table["flux_sigma68"].to_numpy().astype(np.float64)
    band = np.array(table["band"].to_pylist())
    rng = np.random.default_rng(0)
    for n in PRIOR_SIZES:
        usable = [np.flatnonzero((band == name) & np.isfinite(error)) for name in prior.bands]
        rows = np.concatenate([rng.choice(some, n) for some in usable])
        truth = prior.sample(mags[rows], band[rows], rng)
        flux, std = truth + error[rows] * rng.standard_normal(len(rows)), error[rows]
        perfect = GaussianMixture(np.ones((len(rows), 1)), flux[:, None], std[:, None])
        learned = FluxPrior.fit_noisy(perfect, mags[rows], band[rows], prior.bands)
        pdf = posterior(perfect, learned, mags[rows], band[rows])
        bins = binned_pdf_metrics(
            pdf, truth, np.repeat(np.arange(len(usable)), n), np.arange(len(usable) + 1), "median"
        )
        print(f"\nPerfect likelihoods, prior learned from {n} galaxies of each band")
        print(metrics_table({"all": pdf_metrics(pdf, truth, "median"), **dict(zip(prior.bands, bins, strict=True))}))


def population_prior(folder: Path) -> Path:
    """Return the file of the prior that the simulated galaxies follow, from their true fluxes."""
    out = folder / "population.prior.json"
    if not out.exists():
        table = pq.read_table(folder / "truth.parquet")
        table = table.filter(table["in_catalog"])
        bands = np.array(table["band"].to_pylist())
        prior = FluxPrior.fit(table["flux"], table["ref_mag"], bands, sorted(set(bands)))
        write_json(out, prior.to_dict())
    return out


def print_zeropoints(run: Path, folder: Path) -> None:
    """Print how far zero points are from the truth, before and after the fit."""
    zeropoints = pq.read_table(run / "ours.zeropoints.parquet")
    known = pq.read_table(folder / "exposures.parquet")
    # Errors of the headers' zero points, whatever they are for: an image unit, or one per second.
    wrong = dict(
        zip(
            known["exposure_id"].to_pylist(),
            known["zeropoint"].to_numpy() - known["zeropoint_true"].to_numpy(),
            strict=True,
        )
    )
    stated = np.array([wrong[name] for name in zeropoints["exposure_id"].to_pylist()])
    left = stated + zeropoints["zeropoint"].to_numpy() - zeropoints["zeropoint_stated"].to_numpy()
    error = zeropoints["zeropoint_err"].to_numpy()
    band = np.array(zeropoints["band"].to_pylist())
    within = np.concatenate([left[band == name] - left[band == name].mean() for name in np.unique(band)])
    print(
        f"zero points: stated ones are off by {stated.std():.4f} mag, fitted ones by {left.std():.4f} "
        f"(error {np.median(error):.4f}), against each other by {within.std():.4f}"
    )


def print_shares(table: pa.Table) -> None:
    """Print how much of the PDFs' variance is of each exposure alone, by the PDF's width over the pixels' noise."""
    shares = json.loads(table.schema.metadata[b"lumos.provenance"])["independent_share"]
    pairs = zip(np.exp(shares["excess"]), shares["share"], strict=True)
    print("independent share by width:", ", ".join(f"{width:.2f}: {share:.2f}" for width, share in pairs))


def panels(runs: dict[str, Path], folder: Path, n: int = 5) -> list[CoaddPanel]:
    """Choose galaxies, a faint one, one with a neighbour and a bright one, with the PDFs of their exposures."""
    run = runs["run"].with_name(f"run_{n}")
    (ours, our_pdf), (_, naive_pdf) = (read_coadd(run / f"{name}.parquet") for name in ("ours", "naive"))
    truth = look_up_truth(ours, folder / "truth.parquet")
    rows = read_shards(run, ["object_id", "band", "flags", "pdf_weights", "pdf_means", "pdf_stds"])
    exposures = GaussianMixture(*(list_column(rows, f"pdf_{part}") for part in ("weights", "means", "stds")))
    width = ours["flux_sigma68"].to_numpy()
    snr = truth / width
    full = ours["n_exposures"].to_numpy() == n
    asymmetry = np.abs(ours["flux_mean"].to_numpy() - ours["flux_peak"].to_numpy()) / width
    # The most lopsided of the faint, the middle of the others: the figure shows what PDFs are for.
    faint = np.flatnonzero(full & (snr > 1) & (snr < 4))
    chosen = [faint[np.argsort(asymmetry[faint])[-3]]]
    for low, high in ((4, 8), (15, 30)):
        some = np.flatnonzero(full & (snr > low) & (snr < high))
        chosen.append(some[len(some) // 2])
    made = []
    for row in chosen:
        identifier, band = ours["object_id"][row].as_py(), ours["band"][row].as_py()
        here = (rows["object_id"].to_numpy() == identifier) & (np.array(rows["band"].to_pylist()) == band)
        coadds = {OURS: our_pdf.take([row]), NAIVE: naive_pdf.take([row])}
        eta = ours["eta"][row].as_py()
        title = f"{band} = {31.4 - 2.5 * np.log10(truth[row]):.1f}, σ68 = {width[row]:.0f} nJy, η = {eta:.2f}"
        made.append(CoaddPanel(title, exposures.take(here), coadds, float(truth[row])))
    return made


def synthetic_exposures(folder: Path, n_rows: int, n_per_exposure: int = 5000) -> Iterator[Path]:
    """Write a run of many exposures of 5 Gaussians per PDF, 5 exposures of a pointing in each of 8 bands."""
    rng = np.random.default_rng(3)
    (folder / "shards").mkdir(parents=True)
    schema = measure_schema(("optimal", "lumos"), "nJy", 5)
    n_pointings = max(1, round(n_rows / n_per_exposure / 40))
    side = 0.15
    n = n_pointings * n_per_exposure
    mags = rng.uniform(19, 23, n)
    ra = 150 + side * (np.arange(n) // n_per_exposure % 40) + rng.uniform(0, side, n)
    dec = side * (np.arange(n) // n_per_exposure // 40) + rng.uniform(0, side, n)
    one = np.ones(n)
    write_parent(ParentCatalog(np.arange(n), ra, dec, one, one, one, 0 * one, mags), folder / "parent.parquet")
    entries = {}
    for pointing in range(n_pointings):
        objects = pointing * n_per_exposure + np.arange(n_per_exposure)
        for band in range(8):
            truth = 10 ** (0.4 * (31.4 - mags[objects])) * np.exp(0.2 * rng.standard_normal(n_per_exposure))
            for number in range(5):
                name = f"p{pointing}_b{band}_{number}"
                columns = {key: np.full(n_per_exposure, np.nan) for key in schema.names}
                columns |= synthetic_rows(rng, truth, name, f"b{band}")
                columns |= {"object_id": objects, "ra": ra[objects], "dec": dec[objects]}
                path = folder / "shards" / f"{name}.parquet"
                write_table([to_arrow(columns, schema)], path)
                entry = {"status": "done", "shard": f"shards/{name}.parquet", "sha256": file_sha256(path)}
                entries[name] = entry
        yield folder
    write_json(folder / "manifest.json", {"exposures": entries})
    catalog = folder / "parent.parquet"
    content = {
        "schema_version": SCHEMA_VERSION,
        "catalog": {"path": str(catalog), "sha256": file_sha256(catalog)},
        "model": {"name": "synthetic", "kind": "likelihood", "sha256": "", "cut_from": None},
        "measure": MeasureSettings(estimators=("optimal",)).model_dump(mode="json"),
    }
    (folder / "settings.yaml").write_text(yaml.safe_dump(content))


def synthetic_rows(rng: np.random.Generator, truth: np.ndarray, name: str, band: str) -> dict[str, np.ndarray]:
    """Return the columns of one exposure: a narrow core and broader, shifted parts, as networks return them."""
    n = len(truth)
    noise = 500.0 + 0.02 * truth
    flux = truth + noise * rng.standard_normal(n)
    weights = rng.dirichlet([8, 4, 2, 1, 0.5], n)
    stds = noise[:, None] * np.array([0.9, 1.0, 1.2, 1.5, 3.0])
    means = flux[:, None] + 0.3 * stds * rng.standard_normal((n, 5))
    facts = {"exposure_id": name, "detector": "1", "band": band, "state": ""}
    columns = {key: np.full(n, value, dtype=object) for key, value in facts.items()}
    fluxes = {"flux": flux, "flux_err": noise, "optimal_flux": flux, "optimal_flux_err": noise, "lumos_flux": flux}
    columns |= fluxes | {"lumos_flux_err": noise, "pdf_weights": weights, "pdf_means": means, "pdf_stds": stds}
    rest = ("x", "y", "flux_q16", "flux_q50", "flux_q84", "flux_peak", "background", "background_err", "psf_fwhm")
    columns |= dict.fromkeys((*rest, "ood_score"), np.full(n, np.nan))
    return columns | {"zeropoint": np.full(n, 25.0), "zeropoint_err": np.full(n, 0.01), "flags": np.zeros(n, int)}


def coadd_in_process(run: Path, workers: int, result) -> None:
    """Coadd a run; report seconds, rows and the peak memory of this process and of its workers, MB."""
    start, peaks = time.perf_counter(), [0.0]

    def look(*_: object) -> None:
        children = Path(f"/proc/{multiprocessing.current_process().pid}/task")
        pids = [pid for task in children.iterdir() for pid in (task / "children").read_text().split()]
        for pid in pids:
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
            if "VmHWM" in status:
                peaks.append(int(status.split("VmHWM:")[1].split()[0]) / 1024)

    report = coadd_run([run], run / "coadd.parquet", CoaddSettings(), workers=workers, progress=look)
    seconds = time.perf_counter() - start
    own = int(Path("/proc/self/status").read_text(encoding="ascii").split("VmHWM:")[1].split()[0]) / 1024
    result.put((seconds, report.n_rows, own, max(peaks)))


def print_cost(folder: Path, n_rows: int, workers: int) -> None:
    """Print time and memory of the coadd of a synthetic run."""
    run = folder / f"synthetic_{n_rows}"
    if not (run / "settings.yaml").exists():
        for _ in synthetic_exposures(run, n_rows):
            pass
    (run / "coadd.parquet").unlink(missing_ok=True)
    context = multiprocessing.get_context("spawn")
    result = context.Queue()
    process = context.Process(target=coadd_in_process, args=(run, workers, result))
    process.start()
    seconds, n, own, children = result.get()
    process.join()
    entries = json.loads((run / "manifest.json").read_text())["exposures"]
    total = len(entries) * 5000
    print(
        f"{total} rows of {len(entries)} exposures, {n} objects and bands, {workers} workers: {seconds:.0f} s, "
        f"{1e6 * seconds / total:.0f} us per row; peak memory {own:.0f} MB, of a worker {children:.0f} MB",
        flush=True,
    )


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where exposures and runs are kept")
    parser.add_argument("--model", default="paucam-mock", help="shipped model or model folder")
    parser.add_argument("--side", type=int, default=2048, help="pixels along a side of the exposures")
    parser.add_argument("--seed", type=int, default=7, help="of the simulated survey")
    parser.add_argument("--rows", type=int, default=0, help="rows of the run that is timed; 0: none")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only-cost", action="store_true")
    options = parser.parse_args()
    if not options.only_cost:
        judge(options)
    for n_rows in (options.rows // 10, options.rows):
        if n_rows:
            print_cost(options.folder, n_rows, options.workers)


def judge(options: argparse.Namespace) -> None:
    """Print how true coadds are."""
    print(f"{platform.machine()}, Python {platform.python_version()}, model {options.model}")
    runs = build(options.folder, options.model, options.side, options.seed)
    kept = compare(runs, options.folder)
    titles = {f"{n} exposures": results for n, results in kept.items()}
    learned_priors(runs, options.folder)
    draw_coadds(options.folder / "coadds.png", panels(runs, options.folder), titles)
    print()


if __name__ == "__main__":
    main()
