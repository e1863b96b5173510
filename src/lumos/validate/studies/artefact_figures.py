"""Figures of artefacts, and their table."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ArtefactFigures", "format_artefacts"]


@dataclass(frozen=True)
class ArtefactFigures:
    """What one kind of artefact does to the fluxes of one estimator.

    Parameters
    ----------
    kind, estimator : str
        Kind of artefact, and whose fluxes.
    galaxies, rows : int
        Galaxies of the catalogue that were measured, and their rows.
    flagged : float
        Share of rows without a usable flux.
    pull, beyond5 : float
        Of the others: σ68 of (f - f0) / σ, and the share with more than 5.
    n_off : int
        Fluxes that are off by more than 5 errors, flagged or not.
    told : float
        Share of these that some flag tells; NaN without any.
    not_told : float
        Share beyond 5 errors of the rows without any flag.
    doubted : float
        Share of usable rows that are called unlike the training, too bright for the catalogue, or hiding a source.
    false : float
        The same of good rows above a signal-to-noise ratio of 10.
    """

    kind: str
    estimator: str
    galaxies: int
    rows: int
    flagged: float
    pull: float
    beyond5: float
    n_off: int
    told: float
    not_told: float
    doubted: float
    false: float


def format_artefacts(found: Sequence[ArtefactFigures]) -> str:
    """Return figures as a table in Markdown.

    Parameters
    ----------
    found : sequence of ArtefactFigures
        As :func:`lumos.validate.studies.artefacts.artefacts` returns them.

    Returns
    -------
    str
        One line per kind and estimator.
    """
    lines = [
        "| artefact | rows | flagged | estimator | pull | beyond 5σ | told | not told | doubted | false |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in found:
        told = f"{one.told:.0%} of {one.n_off}" if one.n_off else "none"
        lines.append(
            f"| {one.kind} | {one.rows} | {one.flagged:.1%} | {one.estimator} | {one.pull:.2f} | {one.beyond5:.2%} "
            f"| {told} | {one.not_told:.3%} | {one.doubted:.1%} | {one.false:.1%} |"
        )
    return "\n".join(lines)
