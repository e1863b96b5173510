"""Fig. 16: photometry against spectra."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from lumos.coadds.read import read_coadd
from lumos.photometry.settings import NETWORK
from lumos.simulate.plan import passband_of
from lumos.statistics import sigma68
from lumos.validate.accuracy import look_up_truth
from lumos.validate.evidence.chart import Chart, Panel, Series
from lumos.validate.paper.entry import Entry, Table, percent
from lumos.validate.studies.spectra import against_spectra, mock_spectra
from lumos.validate.studies.survey import StudySurvey

__all__ = ["spectra_entries"]

#: Faintest galaxies with spectra, as in the paper.
_FAINTEST = 20.5
_PAPER = (
    "SDSS spectra of galaxies of i < 20.5 times the bands' curves, scaled by eq. 20 (scale: median 1.64, σ68 1.01). "
    "σ68 of the relative difference: Lumos 0.24, MEMBA 0.22; bias 5 % and 10 %; beyond 5σ 1.5 % and 3 %."
)
_OURS = (
    "Simulated galaxies have known spectra: pixels of 0.5 nm with the noise of SDSS, a fibre that loses 39 % of the "
    "light (with a scatter of 0.3 in its logarithm), g, r and i with errors as those of SDSS, and eq. 20. So the test "
    "itself can be tried: the line *true fluxes* is what spectra and scale scatter by themselves. *Pull* is σ68 of the "
    "difference over the errors of photometry, spectrum and scale. The paper's scatter is that of real spectra, curves "
    "and zero points as well. Scale here: median {median:.2f}, σ68 {width:.2f}; over what it should be {ratio:.3f} ± "
    "{ratio_err:.3f}."
)


def spectra_entries(survey: StudySurvey, model: str, *, seed: int = 0) -> list[Entry]:
    """Return Fig. 16.

    Parameters
    ----------
    survey : StudySurvey
        Measured with a model.
    model : str
        Name of the model.
    seed : int, optional
        Of the noise of the spectra.

    Returns
    -------
    list of Entry
        One.
    """
    field, name = survey.field(), Path(model).name
    bright = np.flatnonzero(field.in_catalog & (field.galaxies.ref_mag < _FAINTEST))
    bands = survey.simulation.bands
    mock = mock_spectra(
        field.galaxies.take(bright),
        [passband_of(survey.simulation, band) for band in bands],
        np.random.default_rng(seed),
    )
    coadd, pdf = read_coadd(survey.coadd)
    objects = field.object_id[bright]
    order = np.argsort(objects)
    known = np.flatnonzero(np.isin(coadd["object_id"].to_numpy(), objects))
    coadd, pdf = coadd.take(known), pdf.take(known)
    owner = order[np.searchsorted(objects[order], coadd["object_id"].to_numpy())]
    band = np.array([bands.index(one) for one in coadd["band"].to_pylist()], dtype=np.intp)
    synthetic, synthetic_err = mock.flux[owner, band], mock.flux_err[owner, band]
    truth = look_up_truth(coadd, survey.truth)
    fluxes = {"true fluxes": (truth, np.zeros_like(truth))}
    for one in ("aperture", "optimal", NETWORK):
        flux, error = (coadd[f"{one}_{part}"].to_numpy().astype(float) for part in ("flux", "flux_err"))
        fluxes[name if one == NETWORK else one] = flux, error
    fluxes[f"{name} × prior"] = pdf.quantile(0.5), pdf.sigma68()
    figures = {one: against_spectra(*values, synthetic, synthetic_err, owner) for one, values in fluxes.items()}
    rows = tuple(
        (
            one, str(f.n), percent(f.bias, f.bias_err), f"{f.scatter:.3f} ± {f.scatter_err:.3f}",
            f"{f.outliers:.1%}", f"{f.pull:.2f}",
        )
        for one, f in figures.items()
    )  # fmt: skip
    table = Table(("estimator", "fluxes", "scale − 1", "scatter", "beyond 5σ68", "pull"), rows)
    edges = np.linspace(-1, 1, 41)
    series = tuple(
        Series(one, tuple(((edges[1:] + edges[:-1]) / 2).tolist()), tuple(_density(values[0] / synthetic - 1, edges)))
        for one, values in fluxes.items()
    )
    text = "Coadds over scaled synthetic fluxes, minus 1."
    panel = Panel("density", series)
    chart = Chart("fig16", "Fig. 16: photometry against spectra", text, "f / f_syn - 1", (panel,), steps=True)
    ratio = mock.scale.value / mock.fibre
    ours = _OURS.format(
        median=np.nanmedian(mock.scale.value),
        width=sigma68(mock.scale.value[np.isfinite(mock.scale.value)]),
        ratio=np.nanmedian(ratio),
        ratio_err=1.2533 * sigma68(ratio[np.isfinite(ratio)]) / np.sqrt(max(np.isfinite(ratio).sum(), 1)),
    )
    data = {one: asdict(f) for one, f in figures.items()}
    return [Entry(("Fig. 16",), "photometry against spectra", len(bright), _PAPER, ours, (table,), (chart,), (), data)]


def _density(values: np.ndarray, edges: np.ndarray) -> list[float]:
    counts = np.histogram(values[np.isfinite(values)], edges)[0]
    total = max(int(counts.sum()), 1)
    return [float(value) for value in counts / total / np.diff(edges)]
