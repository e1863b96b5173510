"""Table 1 and Fig. 19: how wrong a catalogue may be."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lumos.photometry.settings import NETWORK
from lumos.validate.paper.entry import Entry, Table
from lumos.validate.studies.robustness import GALAXIES, PAPER, PARAMETERS, Robustness

__all__ = ["catalog_entries"]

_TABLE = (
    "Per cent of a parameter's error that makes 10 % of the flux, by a Fisher forecast, mean of 100 galaxies. In "
    "brackets in the table below."
)
_TABLE_OURS = (
    "Galaxies of i = 19–22.5, alone on a flat sky; the error from the mean absolute derivative, and what was found "
    "with catalogues whose parameter scatters by 10 % (the background by 1 % of the sky): σ68 of the change of f/f₀. "
    "Ellipticity moves the flux of an aperture far less than in the paper, as ours is corrected for the light outside "
    "the ellipse. The network starts from the flux of optimal weights; its PDF widens by what wrong shapes do."
)
_CORRELATIONS = "Correlations of flux and parameters in the forecast, with a prior of 10 % on each; shown as pictures."
_CORRELATIONS_OURS = (
    "Means over the galaxies. With the shapes known to 10 % only an unknown background moves with the flux: "
    "for the network a little less, as it sees the background in the stamp."
)


def catalog_entries(found: Mapping[str, Robustness], model: str) -> list[Entry]:
    """Return Table 1 and Fig. 19.

    Parameters
    ----------
    found : mapping
        Of the study, by estimator.
    model : str
        Name of the model.

    Returns
    -------
    list of Entry
        Two.
    """
    wrong, correlated = [], []
    for estimator, one in found.items():
        name = Path(model).name if estimator == NETWORK else estimator
        paper = dict(zip(PARAMETERS, PAPER.get(estimator, (np.nan,) * len(PARAMETERS)), strict=True))
        cells = (f"{_short(one.for_ten_per_cent[p])} % ({_short(paper[p])}), {one.tried[p]:.3f}" for p in PARAMETERS)
        wrong.append((name, *cells))
        correlated.append((name, *(f"{one.correlation[p]:+.2f}" for p in PARAMETERS)))
    head, data = ("estimator", *PARAMETERS), {name: asdict(one) for name, one in found.items()}
    tables = (Table(head, tuple(wrong)),), (Table(head, tuple(correlated)),)
    return [
        Entry(("Table 1",), "wrong catalogues", GALAXIES, _TABLE, _TABLE_OURS, tables[0], data=data),
        Entry(("Fig. 19",), "correlations with the flux", GALAXIES, _CORRELATIONS, _CORRELATIONS_OURS, tables[1]),
    ]


def _short(value: float) -> str:
    return "–" if not np.isfinite(value) else f"{value:.0f}" if value >= 1 else f"{value:.1g}"
