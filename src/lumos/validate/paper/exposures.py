"""Fig. 10 and 12 to 14: two estimators on the same exposures, and repeats."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from lumos.conventions import FloatArray
from lumos.flags import UNUSABLE, Flag, flag_names
from lumos.photometry.settings import NETWORK
from lumos.runs.shards import read_shards
from lumos.validate.comparison import Comparison, compare_estimators
from lumos.validate.evidence.chart import Chart, Panel, Series
from lumos.validate.evidence.known import PullRows
from lumos.validate.evidence.metrics import Metric
from lumos.validate.paper.entry import Entry, Table
from lumos.validate.paper.rows import SurveyRows, with_prior
from lumos.validate.repeats import HISTOGRAM_EDGES, Repeats, repeat_table
from lumos.validate.repeats_table import mean_over_bands
from lumos.validate.studies.survey import StudySurvey

__all__ = ["exposure_entries"]

#: Edges of magnitudes of the catalogue, and of the mean flux.
_MAGNITUDES, _MEANS = np.array([17.5, 19.0, 20.0, 21.0, 22.0, 23.0]), np.array([17.0, 19, 20, 21, 22, 23, 24, 25])
_COMPARED = ("aperture", "optimal", NETWORK)
_TEN = (
    "Lumos over MEMBA (aperture): fluxes 0.99 overall, 0.95–1.02 by magnitude, ≈ 0.9 in NB455–475. Errors 40 % smaller "
    "overall, 60 % beyond i = 22, 30 % at 21, 10 % at 20.5; smaller for 85 % of the observations."
)
_TEN_OURS = (
    "The network's flux here is its likelihood's, without a prior, so that its error cannot be smaller than the noise "
    "of the pixels allows; the lines *× prior* have the prior of the simulation in them, as the paper's PDFs have, and "
    "are what compares with the paper. Such a gain is no better measurement: where fluxes are far fainter than the "
    "noise the prior alone makes it."
)
_TWELVE = "σ68 of D = (f₁ − f₂)/√(σ₁² + σ₂²) is 1 at all magnitudes (Fig. 12); no tails (Fig. 13), which MEMBA has."
_TWELVE_OURS = (
    "Pairs of exposures of one galaxy and band; means over the bands. The PDFs of the network hold what all exposures "
    "share, wrong shapes and neighbours, so that the repeats of bright galaxies agree better than they say."
)
_FOURTEEN = "S/N of Lumos 54 % higher than that of MEMBA on average; × 2.5 beyond i = 22 (× 3 in NB455, × 2 in NB845)."
_FOURTEEN_OURS = (
    "Ratio of the median S/N, by band. The paper's Lumos holds a prior, as the line *× prior* does (all bands "
    "together); the others are of the pixels alone."
)
_FLAGGED = "10 % of the observations are flagged for apertures (72 % of them for scattered light), 2 % for Lumos."
_FLAGGED_OURS = (
    "Rows of the simulated survey without a usable flux, and shares of all flags, of which a row may have several. "
    "Faults are those of the simulation. Half of the exposures have the scattered light of before the intervention, "
    "which sets no flag: estimators measure on it (Fig. 15)."
)


def exposure_entries(survey: StudySurvey, rows: SurveyRows, model: str) -> list[Entry]:
    """Return Fig. 10, 12 with 13, 14, and section 6.1.4.

    Parameters
    ----------
    survey : StudySurvey
        Measured with a model.
    rows : SurveyRows
        Rows of it with the prior.
    model : str
        Name of the model.

    Returns
    -------
    list of Entry
        Four.
    """
    name = Path(model).name
    compared = {
        one: compare_estimators(survey.run, NETWORK, one, edges=_MAGNITUDES, catalog=survey.folder / "parent.parquet")
        for one in ("aperture", "optimal")
    }
    repeats = {name if one == NETWORK else one: repeat_table(survey.run, _MEANS, estimators=[one]) for one in _COMPARED}
    galaxies = rows.galaxies
    prior, aperture = (rows.known.estimators[one] for one in (with_prior(model), "aperture"))
    first = _ten(compared, name, galaxies, _with_prior(prior, aperture, rows.known.by["ref_mag"], with_prior(model)))
    gain = float(np.nanmedian(prior.flux / prior.flux_err) / np.nanmedian(aperture.flux / aperture.flux_err))
    last = _fourteen(compared, name, galaxies, (f"{with_prior(model)} / aperture", f"{gain:.3f}", "", "", ""))
    return [first, _twelve(repeats, name, galaxies), last, _flagged(survey, name)]


def _with_prior(prior: PullRows, aperture: PullRows, magnitude: FloatArray, name: str) -> list[tuple[str, ...]]:
    """Return lines of Fig. 10 for fluxes with the prior."""
    lines: list[tuple[str, ...]] = []
    for low, high in [*pairwise(_MAGNITUDES), (-np.inf, np.inf)]:
        some = (magnitude >= low) & (magnitude < high) & np.isfinite(prior.flux + aperture.flux)
        if not some.any():
            continue
        flux = np.median(prior.flux[some]) / np.median(aperture.flux[some])
        error = prior.flux_err[some] / aperture.flux_err[some]
        label = "all" if np.isinf(high) else f"{low:g}–{high:g}"
        cells = (f"{flux:.3f}", f"{np.median(error):.3f}", f"{np.mean(error < 1):.0%}")
        lines.append((f"{name} / aperture", label, str(int(some.sum())), *cells))
    return lines


def _ten(compared: Mapping[str, Comparison], name: str, galaxies: int, prior: list[tuple[str, ...]]) -> Entry:
    rows: list[tuple[str, ...]] = []
    data = {}
    for other, one in compared.items():
        labels = [f"{low:g}–{high:g}" for low, high in pairwise(one.edges)]
        groups = [*((label, one.by_magnitude, k) for k, label in enumerate(labels)), ("all", one.overall, 0)]
        for label, ratios, k in groups:
            if not ratios.n[k]:
                continue
            n, error = int(ratios.n[k]), ratios.error[k, 1]
            cells = (f"{ratios.flux_of_medians[k]:.3f}", f"{error:.3f}", f"{ratios.lower_error[k]:.0%}")
            rows.append((f"{name} / {other}", label, str(n), *cells))
        data[other] = {
            "edges": one.edges,
            "flux of medians": one.by_magnitude.flux_of_medians,
            "error": one.by_magnitude.error,
        }
    rows += prior
    head = ("", "i", "rows", "ratio of the median fluxes", "median ratio of errors", "smaller error")
    return Entry(
        ("Fig. 10",), "ratios of fluxes and errors", galaxies, _TEN, _TEN_OURS, (Table(head, tuple(rows)),), data=data
    )


def _twelve(repeats: Mapping[str, Sequence[Repeats]], name: str, galaxies: int) -> Entry:
    middles, lines, widths, counts, metrics = (_MEANS[1:] + _MEANS[:-1]) / 2, [], [], [], []
    cells = tuple(((HISTOGRAM_EDGES[1:] + HISTOGRAM_EDGES[:-1]) / 2).tolist())
    for one, bands in repeats.items():
        width, error = mean_over_bands(bands)
        pairs = np.array([band.overall.n_pairs[0] for band in bands], dtype=float)
        figures = {
            part: np.array([getattr(band.overall, part)[0] for band in bands])
            for part in ("sigma68", "sigma68_err", "beyond_5")
        }
        share = pairs / pairs.sum()
        overall, overall_err = float(share @ figures["sigma68"]), float(np.hypot.reduce(share * figures["sigma68_err"]))
        beyond = float(share @ figures["beyond_5"])
        shown = (f"{w:.2f}" if np.isfinite(w) else "–" for w in width)
        lines.append((one, *shown, f"{overall:.3f} ± {overall_err:.3f}", f"{beyond:.2%}"))
        good = np.flatnonzero(np.isfinite(width))
        columns = (tuple(values[good].tolist()) for values in (middles, width, error))
        x, y, bars = columns
        widths.append(Series(one, x, y, bars))
        histogram = np.sum([band.histogram for band in bands], axis=0)
        density = histogram / histogram.sum() / np.diff(HISTOGRAM_EDGES)
        counts.append(Series(one, cells, tuple(np.log10(np.maximum(density, 1e-6)).tolist())))
        if one == name:
            metrics.append(Metric("repeats", f"{name}: width of D", overall, overall_err, 0.9, 1.1, int(pairs.sum())))
    head = ("estimator", *(f"{low:g}–{high:g}" for low, high in pairwise(_MEANS)), "all", "beyond 5")
    text = "Magnitude of the mean flux."
    charts = (
        Chart(
            "fig12",
            "Fig. 12: σ68 of D",
            text,
            "magnitude of the mean flux (AB)",
            (Panel("width of D", tuple(widths), (1.0,)),),
        ),
        Chart(
            "fig13",
            "Fig. 13: D",
            "Ends hold all beyond.",
            "D",
            (Panel("log10 of the density", tuple(counts)),),
            steps=True,
        ),
    )
    return Entry(
        ("Fig. 12", "Fig. 13"), "repeats", galaxies, _TWELVE, _TWELVE_OURS,
        (Table(head, tuple(lines)),), charts, tuple(metrics),
    )  # fmt: skip


def _fourteen(compared: Mapping[str, Comparison], name: str, galaxies: int, prior: tuple[str, ...]) -> Entry:
    aperture, optimal = compared["aperture"], compared["optimal"]
    nanometres = tuple(float(band.removeprefix("NB")) for band in aperture.bands)
    curves = ((name, aperture.snr_first), ("aperture", aperture.snr_second), ("optimal", optimal.snr_second))
    series = tuple(Series(one, nanometres, tuple(snr[:, 1].tolist())) for one, snr in curves)
    rows: list[tuple[str, ...]] = []
    for other, one in compared.items():
        gain = one.gain_of_medians
        ends = (f"{gain[0]:.2f} ({one.bands[0]})", f"{gain[-1]:.2f} ({one.bands[-1]})")
        rows.append(
            (f"{name} / {other}", f"{np.nanmean(gain):.3f}", *ends, f"{np.nanmin(gain):.2f}–{np.nanmax(gain):.2f}")
        )
    rows.append(prior)
    table = Table(("median S/N", "mean over bands", "bluest", "reddest", "range"), tuple(rows))
    panel = Panel("median flux / error", series)
    chart = Chart("fig14", "Fig. 14: median S/N", "Single exposures.", "wavelength, nm", (panel,))
    data = {other: {"bands": one.bands, "gain": one.gain_of_medians} for other, one in compared.items()}
    return Entry(
        ("Fig. 14",), "signal-to-noise ratios", galaxies, _FOURTEEN, _FOURTEEN_OURS, (table,), (chart,), (), data
    )


def _flagged(survey: StudySurvey, name: str) -> Entry:
    run = read_shards(survey.run)
    flags = run["flags"].to_numpy()
    bad = (flags & int(UNUSABLE)) > 0
    rows = [("any that makes it unusable", f"{np.mean(bad):.2%}")]
    for estimator, label in (("aperture", "aperture"), (NETWORK, name)):
        lost = bad | ~np.isfinite(run[f"{estimator}_flux"].to_numpy())
        rows.append((f"no usable flux: {label}", f"{np.mean(lost):.2%}"))
    present = flag_names(int(np.bitwise_or.reduce(flags)))
    shares = {one: float(np.mean((flags & int(Flag[one])) > 0)) for one in present}
    rows += [(f"`{flag}`", f"{share:.2%}") for flag, share in sorted(shares.items(), key=lambda item: -item[1])]
    galaxies = len(np.unique(run["object_id"].to_numpy()))
    table = Table(("", f"share of {len(run)} rows"), tuple(rows))
    return Entry(("Sect. 6.1.4",), "flagged observations", galaxies, _FLAGGED, _FLAGGED_OURS, (table,))
