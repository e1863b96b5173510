"""Fig. 15: what spoils pixels."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lumos.photometry.settings import NETWORK
from lumos.validate.paper.entry import Entry, Table
from lumos.validate.studies.artefact_figures import ArtefactFigures

__all__ = ["artefact_entries"]

_PAPER = (
    "Two observations, one with scattered light and one with a cosmic ray, on which the aperture fails and Lumos does "
    "not."
)
_OURS = (
    "One kind of artefact at a time on simulated exposures, each much more frequent than in the survey; so shares of "
    "flagged rows are those of the kind, not of a survey. *Flagged*: rows without a usable flux. Of the others: σ68 of "
    "the pulls, share beyond 5 errors. *Told*: of fluxes that are off by more than 5 errors, those with some flag; "
    "*not told*: share beyond 5 errors of rows without a flag; *doubted*: usable rows that are called unlike the "
    "training, too bright for the catalogue, or hiding a source; *false*: the same of good rows above S/N 10."
)


def artefact_entries(found: Sequence[ArtefactFigures], model: str) -> list[Entry]:
    """Return Fig. 15.

    Parameters
    ----------
    found : sequence of ArtefactFigures
        Of the study.
    model : str
        Name of the model.

    Returns
    -------
    list of Entry
        One.
    """
    rows = []
    for one in found:
        told = f"{one.told:.0%} of {one.n_off}" if one.n_off else "none"
        false = f"{one.false:.1%}" if np.isfinite(one.false) else "–"
        shares = (f"{one.not_told:.3%}", f"{one.doubted:.1%}", false)
        figures = (f"{one.flagged:.1%}", f"{one.pull:.2f}", f"{one.beyond5:.2%}", told, *shares)
        name = Path(model).name if one.estimator == NETWORK else one.estimator
        rows.append((one.kind, name, str(one.rows), *figures))
    head = ("artefact", "estimator", "rows", "flagged", "pull", "beyond 5σ", "told", "not told", "doubted", "false")
    galaxies = max((one.galaxies for one in found), default=0)
    data = {"figures": [asdict(one) for one in found]}
    table = Table(head, tuple(rows))
    return [Entry(("Fig. 15",), "artefacts", galaxies, _PAPER, _OURS, (table,), data=data)]
