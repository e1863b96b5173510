"""Fig. 5 and 17: PDFs of single exposures and of their coadd."""

import numpy as np
import pyarrow as pa

from lumos.catalogs.parent import read_parent
from lumos.coadds.read import read_coadd
from lumos.conventions import FloatArray, IntArray
from lumos.pdf import FluxPdf, GaussianMixture
from lumos.runs.shards import read_shards
from lumos.validate.accuracy import look_up_truth
from lumos.validate.calibration import pdf_metrics
from lumos.validate.evidence.chart import Chart, Panel, Series
from lumos.validate.evidence.metrics import Metric
from lumos.validate.evidence.pdfs import pdf_columns
from lumos.validate.paper.entry import Entry, Table
from lumos.validate.paper.rows import SurveyRows, pit_ks_err
from lumos.validate.studies.survey import StudySurvey

__all__ = ["pdf_entries"]

#: Magnitudes of the galaxies of Fig. 5, and of that of Fig. 17.
_SHOWN, _COADDED = (20.0, 22.0), 22.0
_POINTS = 120
_FIVE = "PDFs of two galaxies and of their simulated twins; those of faint galaxies are not Gaussian."
_FIVE_OURS = (
    "Two galaxies of the simulated survey, i = 20 and 22, over their true fluxes: the network's likelihood and its "
    "product with the prior. Without the prior PDFs are near to Gaussians and reach below 0; what is not Gaussian is "
    "the prior's, which is that of all galaxies of the magnitude."
)
_SEVENTEEN = "PDFs of single exposures, calibrated, and their normalised product. η = σ95/σ68 − 1 is 1 for a Gaussian."
_SEVENTEEN_OURS = (
    "Likelihoods of the exposures are multiplied with the prior once; the paper multiplies posteriors, which hold it "
    "as often as there are exposures. The table judges all coadds of the survey. η is 0.96 for a Gaussian."
)


def pdf_entries(survey: StudySurvey, rows: SurveyRows) -> list[Entry]:
    """Return Fig. 5 and 17.

    Parameters
    ----------
    survey : StudySurvey
        Where the rows are from.
    rows : SurveyRows
        Single exposures.

    Returns
    -------
    list of Entry
        Two.
    """
    return [_five(rows), _seventeen(survey)]


def _five(rows: SurveyRows) -> Entry:
    series = []
    for magnitude in _SHOWN:
        row = int(np.argmin(np.abs(rows.known.by["ref_mag"] - magnitude)))
        truth = rows.known.truth[row]
        for name, pdf in (("likelihood", rows.likelihood), ("with prior", rows.posterior)):
            label = f"i = {rows.known.by['ref_mag'][row]:.1f}, {rows.known.band[row]}, {name}"
            series.append(_curve(label, pdf.take(np.array([row])), float(truth)))
    text = "Densities over their largest value."
    chart = Chart("fig05", "Fig. 5: flux PDFs", text, "flux over the true flux", (Panel("density", tuple(series)),))
    return Entry(("Fig. 5",), "flux PDFs", len(_SHOWN), _FIVE, _FIVE_OURS, (), (chart,))


def _curve(name: str, pdf: FluxPdf, truth: float) -> Series:
    low, high = pdf.quantile(np.array([[0.001, 0.999]]))[0]
    flux: FloatArray = np.linspace(low, high, _POINTS)
    density = pdf.pdf(flux[None])[0]
    return Series(name, tuple((flux / truth).tolist()), tuple((density / density.max()).tolist()))


def _seventeen(survey: StudySurvey) -> Entry:
    coadd, pdf = read_coadd(survey.coadd)
    truth = look_up_truth(coadd, survey.truth)
    all_of_them, eta = pdf_metrics(pdf, truth, "median"), coadd["eta"].to_numpy()
    pit = pdf.pit(truth)
    good = np.isfinite(pit)
    error = pit_ks_err(pit[good], coadd["object_id"].to_numpy()[good], np.random.default_rng(0))
    table = Table(
        ("coadds", "PIT-KS", "bias", "scatter", "pull", "median η", "η of 95 %"),
        ((
            str(all_of_them.n), f"{all_of_them.pit_ks:.3f} ± {error:.3f}", f"{all_of_them.bias:+.1%}",
            f"{all_of_them.scatter:.3f}", f"{all_of_them.pull_sigma68:.3f}",
            f"{np.nanmedian(eta):.2f}", f"{np.nanquantile(eta, 0.95):.2f}",
        ),),
    )  # fmt: skip
    # A galaxy that is seen on all its exposures.
    magnitude = _magnitudes(survey, coadd["object_id"].to_numpy())
    whole = coadd["n_exposures"].to_numpy() == coadd["n_exposures"].to_numpy().max()
    shown = int(np.argmin(np.where(whole, np.abs(magnitude - _COADDED), np.inf)))
    series = [_curve("coadd", pdf.take(np.array([shown])), float(truth[shown]))]
    run = read_shards(survey.run)
    same = run["object_id"].to_numpy() == coadd["object_id"][shown].as_py()
    single = run.filter(pa.array(same & (np.array(run["band"].to_pylist()) == coadd["band"][shown].as_py())))
    pdfs = GaussianMixture(*pdf_columns(single))
    for row, name in enumerate(single["exposure_id"].to_pylist()):
        if np.isfinite(pdfs.means[row]).all():
            series.append(_curve(name, pdfs.take([row]), float(truth[shown])))
    chart = Chart(
        "fig17", f"Fig. 17: coadd of {coadd['band'][shown].as_py()}", "Densities over their largest value.",
        "flux over the true flux", (Panel("density", tuple(series)),),
    )  # fmt: skip
    metric = Metric(
        "coadd_pit", "coadds: PIT, distance from uniform", all_of_them.pit_ks, error, 0, 0.03, all_of_them.n
    )
    galaxies = len(np.unique(coadd["object_id"].to_numpy()))
    return Entry(("Fig. 17",), "coadded PDFs", galaxies, _SEVENTEEN, _SEVENTEEN_OURS, (table,), (chart,), (metric,))


def _magnitudes(survey: StudySurvey, objects: IntArray) -> FloatArray:
    parent = read_parent(survey.folder / "parent.parquet")
    order = np.argsort(parent.object_id)
    return parent.ref_mag[order[np.searchsorted(parent.object_id[order], objects)]]
