"""Charts of known fluxes: PIT, coverage, bias, scatter and pulls, of all rows and of groups of them."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import ndtr

from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.statistics import pit_distance, sigma68
from lumos.validate.evidence.again import FEWEST, Figure, objects_again
from lumos.validate.evidence.chart import Chart, Panel, Series
from lumos.validate.evidence.groups import Grouping, groupings
from lumos.validate.evidence.known import KnownFluxes, PullRows

__all__ = ["bias_charts", "calibration_charts", "group_charts", "sky_charts"]

#: Central parts of PDFs that truths are counted in.
_SHARES = (0.5, 0.6827, 0.95)
#: What bias and scatter of all estimators are shown against (Fig. 7 and 24 of the paper).
_BIAS_BY = ("magnitude", "band", "half_light_radius", "sersic_n", "axis_ratio", "psf_fwhm")
#: What the pulls and PDFs of the default estimator are shown against.
_PULL_BY = (
    *("band", "magnitude", "signal", "half_light_radius", "psf_fwhm", "x", "y"),
    *("neighbour", "neighbour_mag", "contamination"),
)
#: Times that objects are drawn again for a point of a chart.
_AGAIN = 50
#: A Kolmogorov-Smirnov distance times the root of the number is larger by chance in 1 of 20 cases.
_CHANCE = 1.358
_MANY = "Bins hold equally many fluxes; bars are errors from galaxies drawn again."


def calibration_charts(estimators: Mapping[str, PullRows]) -> list[Chart]:
    """Draw PIT and coverage of all fluxes.

    Parameters
    ----------
    estimators : mapping of PullRows
        The one that is judged first.

    Returns
    -------
    list of Chart
        Without an estimator of fewer than 30 fluxes.
    """
    edges = np.linspace(0, 1, 21)
    middles = tuple(((edges[1:] + edges[:-1]) / 2).tolist())
    pit, coverage = [], []
    shares = np.linspace(0.05, 0.95, 19)
    for name, rows in estimators.items():
        good = rows.pit[np.isfinite(rows.pit)]
        if len(good) < FEWEST:
            continue
        pit.append(Series(name, middles, tuple((np.histogram(good, edges)[0] / len(good) * 20).tolist())))
        inside = [100 * float(np.mean(np.abs(good - 0.5) < share / 2) - share) for share in shares]
        coverage.append(Series(name, tuple((100 * shares).tolist()), tuple(inside)))
    if not pit:
        return []
    text = "How probable the PDF thinks a flux below the true one, counted in 20 bins (eq. 13 of the paper). Where "
    text += "PDFs are true the line is flat at 1. A valley means that errors are too small, a hill that they are too "
    text += "large, a slope that fluxes are biased. Estimators without a PDF count as Gaussians with their error."
    both = "Of the truths, the percentage inside the central part of the PDF, minus what that part promises. 0 is "
    both += "right; below it errors are too small, above it too large."
    return [
        Chart(
            "pit", "PIT", text, "probability of a flux below the true one", (Panel("density", tuple(pit), (1.0,)),),
            steps=True,
        ),
        Chart(
            "coverage", "Coverage", both, "central part of the PDF (%)",
            (Panel("found - promised (percentage points)", tuple(coverage), (0.0,)),),
        ),
    ]  # fmt: skip


def bias_charts(
    known: KnownFluxes, names: Sequence[str], bands: Sequence[str], rng: np.random.Generator
) -> list[Chart]:
    """Draw bias and scatter of all estimators against what galaxies and exposures are.

    Parameters
    ----------
    known : KnownFluxes
        Rows.
    names : sequence of str
        Estimators, the one that is judged first.
    bands : sequence of str
        Bands in their order.
    rng : numpy.random.Generator
        For errors.

    Returns
    -------
    list of Chart
        One for each quantity that the rows fill.
    """
    some = np.any([np.isfinite(known.estimators[name].flux) for name in names], axis=0) & (known.truth > 0)
    charts = []
    for group in groupings(known, some, bands):
        if group.key not in _BIAS_BY:
            continue
        bias, scatter = [], []
        for name in names:
            with np.errstate(divide="ignore", invalid="ignore"):
                relative = 100 * (known.estimators[name].flux / known.truth - 1)

            def figures(rows: IntArray, values: FloatArray = relative) -> tuple[float, float]:
                return float(np.median(values[rows])), sigma68(values[rows])

            places, values, errors = _in_groups(group, np.isfinite(relative), known.object_id, figures, rng)
            if places:
                bias.append(Series(name, places, values[0], errors[0]))
                scatter.append(Series(name, places, values[1], errors[1]))
        text = "Above, the median of (flux - truth) / truth: 0 is right (Fig. 7 and 24 of the paper). Below, half its "
        text += "68 % range: the smaller the better. The bias is drawn logarithmically beyond 10 %. "
        text += _MANY if not group.names else ""
        panels = Panel("bias (%)", tuple(bias), (0.0,), "symlog"), Panel("scatter (%)", tuple(scatter), scale="log")
        charts.append(_chart("bias", f"Bias and scatter by {_quantity(group)}", text, group, panels))
    return charts


def group_charts(known: KnownFluxes, name: str, bands: Sequence[str], rng: np.random.Generator) -> list[Chart]:
    """Draw pulls, coverage and PIT of one estimator in groups.

    Parameters
    ----------
    known : KnownFluxes
        Rows.
    name : str
        Estimator.
    bands : sequence of str
        Bands in their order.
    rng : numpy.random.Generator
        For errors.

    Returns
    -------
    list of Chart
        One for each quantity that the rows fill.
    """
    rows = known.estimators[name]
    good = np.isfinite(rows.pull) & np.isfinite(rows.pit)

    def figures(some: IntArray) -> tuple[float, ...]:
        pull, pit = rows.pull[some], rows.pit[some]
        inside = [100 * float(np.mean(np.abs(pit - 0.5) < share / 2) - share) for share in _SHARES]
        return float(np.median(pull)), sigma68(pull), *inside, pit_distance(pit)

    charts = []
    for group in groupings(known, good, bands):
        if group.key not in _PULL_BY:
            continue
        places, values, errors = _in_groups(group, good, known.object_id, figures, rng)
        chance = [_CHANCE / np.sqrt(len(np.unique(known.object_id[part]))) for part in group.groups]
        pulls = [Series(text, places, values[k], errors[k]) for k, text in enumerate(("median", "width"))]
        inside = [Series(f"{share:.0%}", places, values[2 + k], errors[2 + k]) for k, share in enumerate(_SHARES)]
        distance = (
            Series("found", places, values[5]),
            Series("larger by chance in 1 of 20", places, tuple(chance), plain=True),
        )
        text = f"Of {name}: above, median (0 is right) and width (1 is right) of (flux - truth) / error. Middle, "
        text += "truths inside the central 50, 68 and 95 % of the PDF, minus what is promised (0 is right). Below, how "
        text += f"far the PIT is from uniform. {_MANY if not group.names else ''}"
        panels = (
            Panel("pull", tuple(pulls), (0.0, 1.0)),
            Panel("found - promised\n(% points)", tuple(inside), (0.0,)),
            Panel("PIT distance", distance),
        )
        charts.append(_chart("pull", f"Errors by {_quantity(group)}", text, group, panels))
    return charts


def sky_charts(known: KnownFluxes, names: Sequence[str]) -> list[Chart]:
    """Draw what is measured where nothing is.

    Parameters
    ----------
    known : KnownFluxes
        Rows; those whose true flux is 0 count.
    names : sequence of str
        Estimators.

    Returns
    -------
    list of Chart
        Empty for fewer than 30 such fluxes.
    """
    edges = np.linspace(-5, 5, 21)
    middles = (edges[1:] + edges[:-1]) / 2
    series = []
    for name in names:
        pull = known.estimators[name].pull[known.truth == 0]
        pull = pull[np.isfinite(pull)]
        if len(pull) < FEWEST:
            continue
        # The outermost cells hold all that lies beyond.
        density = np.histogram(pull.clip(-4.99, 4.99), edges)[0] / len(pull) / np.diff(edges)
        series.append(Series(name, tuple(middles.tolist()), tuple(density.tolist())))
    if not series:
        return []
    gauss = np.diff(ndtr(edges)) / np.diff(edges)
    series.append(Series("Gaussian", tuple(middles.tolist()), tuple(gauss.tolist()), plain=True))
    text = "Fluxes that were measured at places where nothing is, over their errors: they should follow the grey "
    text += "Gaussian. A shift is a wrong background, a wider curve means errors that are too small."
    return [Chart("sky", "Where nothing is", text, "flux / error", (Panel("density", tuple(series)),), steps=True)]


def _in_groups(
    group: Grouping, usable: BoolArray, owner: IntArray, figures: Figure, rng: np.random.Generator
) -> tuple[tuple[float, ...], list[tuple[float, ...]], list[tuple[float, ...]]]:
    """Return places, figures and their errors; groups with too few usable rows are left out."""
    places, values, errors = [], [], []
    for place, part in zip(group.places, group.groups, strict=True):
        rows = part[usable[part]]
        if len(rows) < FEWEST:
            continue

        def again(drawn: IntArray, rows: IntArray = rows) -> Sequence[float]:
            return figures(rows[drawn])

        places.append(place)
        values.append(figures(rows))
        errors.append(objects_again(owner[rows], again, rng, _AGAIN))
    turned = ([tuple(map(float, column)) for column in zip(*table, strict=True)] for table in (values, errors))
    return tuple(places), next(turned), next(turned)


def _chart(kind: str, title: str, text: str, group: Grouping, panels: tuple[Panel, ...]) -> Chart:
    return Chart(f"{kind}_{group.key}", title, text.strip(), group.label, panels, log_x=group.log, ticks=group.names)


def _quantity(group: Grouping) -> str:
    """Return the label without its unit."""
    return group.label.split(" (")[0]
