"""How well could fluxes be measured at all? What methods say of labelled stamps, and the limits, as tables.

The prior of every PDF is the population's density of the flux given band, magnitude, size, index and axis ratio: all
that estimators are told. "shape unknown" marks PDFs whose prior knows band and magnitude alone.

The exact posterior ("background known": the true expected background, contaminants included) has the highest expected
log score, the mean of ln(p(f0) f0), that anything can have which knows no more than it: this is the bound that methods
are ranked by. Each galaxy counts at least -20 (a truth outside the nodes has no probability). Where the level of the
background is free beside its known shape, nothing follows for methods that know other things. No posterior has the
smallest scatter of (f - f0) / f0: a point that is far off costs it nothing, and scatter is no bound.

Without a prior the bound is the error that the flux has where everything else is known ("exact error"): scatter in
units of it is 1 or more for anything unbiased.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from limit_stamps import LimitSet, Priors, log_prior_of
from lumos.conventions import AnyArray, FloatArray
from lumos.estimators import ESTIMATORS
from lumos.pdf import FluxPdf
from lumos.statistics import pit_ks, sigma68
from lumos.validate.limits import LogDensity, grid_posterior, matched_filter_posterior, prior_only

__all__ = ["BOUND", "Prediction", "classical_predictions", "group_tables", "limit_predictions", "table"]

#: Names of the PDF that none has a higher log score than, and of the fluxes that none scatters less than.
BOUND, ALL_KNOWN = "exact, background known", "optimal, background known"
PRIOR = "prior alone"
_LEAST_SCORE = -20.0


@dataclass(frozen=True)
class Prediction:
    """What one method says about the fluxes.

    Parameters
    ----------
    points : dict of float array, shape (n,)
        Point estimates by name, image units.
    pdf : FluxPdf or None
        The PDFs, image units, of what knows a prior.
    error : float array, shape (n,), or None
        Errors of the fluxes, of what knows pixels alone.
    """

    points: dict[str, FloatArray]
    pdf: FluxPdf | None = None
    error: FloatArray | None = None

    @classmethod
    def of_pdf(cls, pdf: FluxPdf) -> "Prediction":
        """Return PDFs with their peaks and medians as point estimates."""
        return cls({"peak": pdf.peak(), "median": pdf.quantile(0.5)}, pdf)


def classical_predictions(made: LimitSet) -> dict[str, Prediction]:
    """Return what every classical estimator measures."""
    batch = made.stamps.to_batch()
    known = replace(
        batch,
        data=batch.data - torch.from_numpy(made.expected),
        sky_variance=torch.from_numpy(made.variance),
        background=torch.zeros_like(batch.background),
        own_light=torch.zeros_like(batch.own_light),
    )
    results = {name: estimator(batch) for name, estimator in ESTIMATORS.items()}
    results[ALL_KNOWN] = ESTIMATORS["optimal"](known)
    return {
        name: Prediction({"flux": result.flux.double().numpy()}, error=result.flux_err.double().numpy())
        for name, result in results.items()
    }


def limit_predictions(made: LimitSet, priors: Priors) -> dict[str, Prediction]:
    """Return the PDFs to compare with, all with the same prior; times are printed."""
    stamps, log_prior = made.stamps, log_prior_of(made, priors)
    blind = log_prior_of(made, priors, shape=False)
    measured = ESTIMATORS["optimal"](stamps.to_batch())
    reference = 10 ** (0.4 * (stamps.zeropoint - stamps.ref_mag))
    pixels = (stamps.stamps.numpy(), stamps.profile.numpy(), made.expected, made.variance, stamps.gain.numpy())

    def exact(density: LogDensity, *, free_level: bool) -> FluxPdf:
        return grid_posterior(*pixels, density, good=made.good, free_level=free_level)

    methods = {
        "prior alone, shape unknown": lambda: prior_only(blind, reference),
        PRIOR: lambda: prior_only(log_prior, reference),
        "optimal x prior": lambda: matched_filter_posterior(
            measured.flux.double().numpy(), measured.flux_err.double().numpy(), log_prior
        ),
        "exact, shape unknown": lambda: exact(blind, free_level=False),
        BOUND: lambda: exact(log_prior, free_level=False),
        "exact, level unknown": lambda: exact(log_prior, free_level=True),
    }
    predictions = {}
    for name, method in methods.items():
        start = time.perf_counter()
        predictions[name] = Prediction.of_pdf(method())
        print(f"  {name}: {time.perf_counter() - start:.1f} s")
    return predictions


def scores(pdf: FluxPdf, truth: FloatArray) -> FloatArray:
    """Return ln(p(f0) f0), at least -20, shape (n,)."""
    return np.asarray(np.maximum(pdf.log_pdf(truth) + np.log(truth), _LEAST_SCORE))


def table(made: LimitSet, predictions: dict[str, Prediction]) -> str:
    """Return the figures of all methods over all stamps as text: pixels alone, then PDFs by their log score."""
    truth, mag = made.truth, made.stamps.ref_mag
    bright = made.groups(predictions[PRIOR].points["median"])["S/N > 5"]
    groups = {"all": mag < np.inf, "i > 22": mag > 22, "i < 20.5": mag < 20.5, "S/N > 5": bright}
    heads = "".join(f"{head:>10}" for head in groups)
    counts = "".join(f"{group.sum():10d}" for group in groups.values())

    def scatters(flux: FloatArray) -> str:
        relative = (flux - truth) / truth
        return "".join(f"{sigma68(relative[np.isfinite(relative) & group]):10.4f}" for group in groups.values())

    lines = [f"\n{made.kind}, pixels alone: scatter of (f - f0) / f0; bias, and the pulls' sigma68, where S/N > 5"]
    lines += [f"{'':34}{heads}{'bias':>10}{'pulls':>10}{'lost':>10}", f"{'number of stamps':34}{counts}"]
    for name, prediction in predictions.items():
        if prediction.error is None:
            continue
        flux = prediction.points["flux"]
        good = np.isfinite(flux)
        bias = np.median(((flux - truth) / truth)[good & bright])
        pulls = sigma68(((flux - truth) / prediction.error)[good & bright])
        lines.append(f"{name:34}{scatters(flux)}{bias:+10.4f}{pulls:10.3f}{np.sum(~good):10d}")
    ranked = {name: scores(each.pdf, truth) for name, each in predictions.items() if each.pdf is not None}
    lines += [f"\n{made.kind}, PDFs by log score; scatter of the medians, which no posterior makes smallest"]
    lines += [f"{'':34}{'score':>10}{'S/N > 5':>10}{'PIT-KS':>10}{'p':>10}{heads}{'bias':>10}"]
    for name in sorted(ranked, key=lambda name: np.nanmean(ranked[name])):
        prediction = predictions[name]
        assert prediction.pdf is not None
        distance, p = pit_ks(prediction.pdf.pit(truth))
        median = prediction.points["median"]
        lines.append(
            f"{name:34}{np.nanmean(ranked[name]):10.4f}{np.nanmean(ranked[name][groups['S/N > 5']]):10.4f}"
            f"{distance:10.4f}{p:10.2g}{scatters(median)}{np.nanmedian((median - truth) / truth):+10.4f}"
        )
    return "\n".join(lines)


def group_tables(made: LimitSet, predictions: dict[str, Prediction]) -> str:
    """Return the figures of all methods in groups of stamps as text."""
    truth, error = made.truth, made.exact_error
    groups = made.groups(predictions[PRIOR].points["median"])
    pixels = {name: each for name, each in predictions.items() if each.error is not None}
    width = max(map(len, groups))

    def lines(title: str, of: Mapping[str, Callable[[AnyArray], str]]) -> list[str]:
        heads = [f"\n{made.kind}, {title}", f"{'':{width}}{'n':>6}" + "".join(f"{name[:25]:>27}" for name in of)]
        return heads + [
            f"{name:{width}}{group.sum():6d}" + "".join(f"{figures(group):>27}" for figures in of.values())
            for name, group in groups.items()
        ]

    def errors(prediction: Prediction) -> Callable[[AnyArray], str]:
        difference = prediction.points["flux"] - truth

        def figures(group: AnyArray) -> str:
            rows = group & np.isfinite(difference)
            middle, scatter = np.median((difference / error)[rows]), sigma68((difference / error)[rows])
            return f"{middle:+.2f} {scatter:.3f} {sigma68((difference / prediction.error)[rows]):.3f}"

        return figures

    def quality(prediction: Prediction) -> Callable[[AnyArray], str]:
        assert prediction.pdf is not None
        own, pit = scores(prediction.pdf, truth), prediction.pdf.pit(truth)

        def figures(group: AnyArray) -> str:
            distance, p = pit_ks(pit[group])
            return f"{np.nanmean((own - best)[group]):+.3f} {distance:.3f} {p:7.1g}"

        return figures

    bound = predictions[BOUND].pdf
    assert bound is not None
    best = scores(bound, truth)
    text = "pixels alone: median and sigma68 of (f - f0) / (exact error), sigma68 of (f - f0) / (own error)"
    found = lines(text, {name: errors(each) for name, each in pixels.items()})
    with_pdf = {name: each for name, each in predictions.items() if each.pdf is not None}
    text = "PDFs: log score minus that of the exact posterior, PIT-KS, p"
    return "\n".join(found + lines(text, {name: quality(each) for name, each in with_pdf.items()}))
