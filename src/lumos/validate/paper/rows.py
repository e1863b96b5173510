"""Rows of the simulated survey with what is known of them, and with the prior."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lumos.conventions import BoolArray, FloatArray, IntArray
from lumos.errors import LumosDataError
from lumos.flags import UNUSABLE
from lumos.pdf import FluxPdf, GaussianMixture, posterior
from lumos.photometry.settings import NETWORK
from lumos.runs.shards import read_shards
from lumos.statistics import pit_ks
from lumos.validate.evidence.again import objects_again
from lumos.validate.evidence.known import KnownFluxes, PullRows, read_known
from lumos.validate.evidence.pdfs import pdf_columns
from lumos.validate.studies.survey import StudySurvey

__all__ = ["SurveyRows", "pit_ks_err", "read_rows", "with_prior"]

#: Most rows that figures are made from, drawn at random: as many as the paper's test galaxies.
_MOST = 10_000


@dataclass(frozen=True)
class SurveyRows:
    """Single exposures of galaxies, m rows.

    Parameters
    ----------
    known : KnownFluxes
        Fluxes, truth, what rows can be sorted by.
    likelihood : GaussianMixture
        PDFs of the model.
    posterior : FluxPdf
        The same times the prior of the simulated population.
    """

    known: KnownFluxes
    likelihood: GaussianMixture
    posterior: FluxPdf

    @property
    def galaxies(self) -> int:
        """Return the number of galaxies."""
        return len(np.unique(self.known.object_id))


def with_prior(model: str) -> str:
    """Return what the model's fluxes with the prior are called.

    Parameters
    ----------
    model : str
        Its name or folder.

    Returns
    -------
    str
        Name in tables.
    """
    return f"{Path(model).name} × prior"


def pit_ks_err(pit: FloatArray, owner: IntArray, rng: np.random.Generator) -> float:
    """Return the error of the distance of PIT values from uniform, from galaxies that are drawn again.

    Parameters
    ----------
    pit : float array, shape (m,)
        Values, finite.
    owner : int array, shape (m,)
        Galaxy of each.
    rng : numpy.random.Generator
        Draws.

    Returns
    -------
    float
        NaN for fewer than 10 galaxies.
    """
    return float(objects_again(owner, lambda drawn: (pit_ks(pit[drawn])[0],), rng, 30)[0])


def read_rows(survey: StudySurvey, model: str, *, most: int = _MOST, seed: int = 0) -> SurveyRows:
    """Read rows of the survey that are usable, at random.

    Parameters
    ----------
    survey : StudySurvey
        Measured with a model.
    model : str
        Its name, under which its fluxes are called.
    most : int, optional
        Rows.
    seed : int, optional
        Of the choice.

    Returns
    -------
    SurveyRows
        The model's fluxes are the medians of its PDFs, without prior and with it.

    Raises
    ------
    LumosDataError
        If no row is usable.
    """
    table, known = read_shards(survey.run), read_known([survey.run], survey.truth)
    if len(table) != len(known):
        raise LumosDataError(f"{survey.truth}: lacks objects that were measured")
    usable: BoolArray = (known.flags & int(UNUSABLE)) == 0
    rows: IntArray = np.flatnonzero(usable & np.isfinite(known.estimators[NETWORK].pit))
    if not len(rows):
        raise LumosDataError(f"{survey.run}: no usable row")
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
    known = known.take(rows)
    likelihood = GaussianMixture(*(part[rows] for part in pdf_columns(table)))
    with_it = posterior(likelihood, survey.prior, known.by["ref_mag"], known.band)
    estimators = dict(known.estimators)
    del estimators[NETWORK]
    estimators |= {Path(model).name: _of(likelihood, known.truth), with_prior(model): _of(with_it, known.truth)}
    return SurveyRows(replace(known, estimators=estimators), likelihood, with_it)


def _of(pdf: FluxPdf, truth: FloatArray) -> PullRows:
    flux, error = pdf.quantile(0.5), pdf.sigma68()
    pull = (flux - truth) / error
    return PullRows(flux, error, pull, pdf.pit(truth), pull)
