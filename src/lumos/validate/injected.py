"""What injected galaxies say of the fluxes and errors of a survey."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lumos.catalogs.schema import list_column
from lumos.conventions import AnyArray, BoolArray, FloatArray
from lumos.errors import LumosDataError
from lumos.flags import UNUSABLE
from lumos.pdf import GaussianMixture
from lumos.runs.shards import read_shards
from lumos.statistics import pit_ks, sigma68

__all__ = ["InjectionFigures", "format_injections", "injection_figures"]

#: Fewer galaxies than this give no figures.
FEWEST = 30
#: Bins of the true flux over its measured error.
_SIGNALS = (-np.inf, 3.0, 10.0, 30.0, np.inf)


@dataclass(frozen=True)
class InjectionFigures:
    """Figures of some injected galaxies and one estimator.

    Parameters
    ----------
    n, n_lost : int
        Galaxies, and those of them without a usable flux.
    bias : float
        Median of (flux - truth) over the error.
    pull : float
        σ68 of the same, 1 where errors are true.
    within68, within95 : float
        Share of galaxies whose truth lies inside the central 68 and 95 per cent of the PDF.
    ks : float
        Kolmogorov-Smirnov distance of the PIT from uniform.
    beyond5 : float
        Share of galaxies that are off by more than five errors.

    Notes
    -----
    All but the counts are NaN for fewer than 30 galaxies.
    """

    n: int
    n_lost: int
    bias: float
    pull: float
    within68: float
    within95: float
    ks: float
    beyond5: float


def injection_figures(runs: Sequence[Path], truth: Path) -> dict[str, dict[str, InjectionFigures]]:
    """Compare the fluxes of injected galaxies with what was injected.

    Parameters
    ----------
    runs : sequence of Path
        Runs of the rounds.
    truth : Path
        Table that ``lumos inject`` wrote.

    Returns
    -------
    dict
        By estimator and kind of galaxies: all, by place, by signal-to-noise ratio.

    Raises
    ------
    LumosDataError
        If no run holds a galaxy of the table.
    """
    known = pq.read_table(truth)
    tables = []
    for run in runs:
        table = read_shards(run)
        joined = table.append_column("row", pa.array(np.arange(len(table)))).select(["object_id", "band", "row"])
        joined = joined.join(known, ["object_id", "band"], join_type="inner", use_threads=False).sort_by("row")
        if len(joined):
            tables.append((table.take(joined["row"]), joined))
    if not tables:
        raise LumosDataError(f"{truth}: none of its galaxies was measured")
    rows = pa.concat_tables([table for table, _ in tables], promote_options="default")
    facts = pa.concat_tables([joined for _, joined in tables])
    flux_true, place = facts["flux"].to_numpy(), np.array(facts["place"].to_pylist())
    flagged = (rows["flags"].to_numpy() & int(UNUSABLE)) > 0
    names = [name.removesuffix("_flux_err") for name in rows.column_names if name.endswith("_flux_err")]
    return {name: _by_kind(name, rows, flux_true, place, flagged) for name in names}


def _by_kind(
    name: str, rows: pa.Table, truth: FloatArray, place: AnyArray, flagged: BoolArray
) -> dict[str, InjectionFigures]:
    flux, error = (rows[f"{name}_{part}"].to_numpy().astype(np.float64) for part in ("flux", "flux_err"))
    usable = ~flagged & np.isfinite(flux) & (error > 0)
    if name == "lumos":
        parts = [list_column(rows, f"pdf_{part}") for part in ("weights", "means", "stds")]
        usable &= np.isfinite(parts[1]).all(axis=1)
    else:
        parts = [np.ones((len(flux), 1)), flux[:, None], error[:, None]]
    pit = np.full(len(flux), np.nan)
    pit[usable] = GaussianMixture(*(part[usable] for part in parts)).cdf(truth[usable])
    signal = truth / np.where(usable, error, np.nan)
    kinds = {"all": np.ones(len(flux), dtype=np.bool_)}
    kinds |= {f"place: {one}": place == one for one in sorted(set(place.tolist()))}
    for low, high in pairwise(_SIGNALS):
        text = f"S/N {low:g}-{high:g}"
        text = text.replace("-inf-", "< ") if low == -np.inf else text
        kinds[text.replace(f"{low:g}-inf", f"> {low:g}")] = (signal >= low) & (signal < high)
    pull = (flux - truth) / error
    return {kind: _figures(pull[members], pit[members], usable[members]) for kind, members in kinds.items()}


def _figures(pull: FloatArray, pit: FloatArray, usable: BoolArray) -> InjectionFigures:
    n, lost = len(pull), int((~usable).sum())
    if n - lost < FEWEST:
        return InjectionFigures(n, lost, *[float("nan")] * 6)
    good, uniform = pull[usable], pit[usable]
    inside = [float(np.mean(np.abs(uniform - 0.5) < share / 2)) for share in (0.6827, 0.95)]
    return InjectionFigures(
        n=n,
        n_lost=lost,
        bias=float(np.median(good)),
        pull=sigma68(good),
        within68=inside[0],
        within95=inside[1],
        ks=pit_ks(uniform)[0],
        beyond5=float(np.mean(np.abs(good) > 5)),
    )


def format_injections(results: Mapping[str, Mapping[str, InjectionFigures]]) -> str:
    """Return the figures as a table.

    Parameters
    ----------
    results : mapping
        As :func:`injection_figures` returns them.

    Returns
    -------
    str
        Lines of text; ``-`` stands for too few galaxies.
    """
    heads = f"{'n':>7}{'lost':>6}{'bias/σ':>9}{'pull':>7}{'in 68 %':>9}{'in 95 %':>9}{'PIT-KS':>8}{'> 5σ':>8}"
    lines = [f"{'estimator':<13}{'galaxies':<18}{heads}"]
    for name, by_kind in results.items():
        for kind, one in by_kind.items():
            values = f"{one.bias:>+9.3f}{one.pull:>7.3f}{one.within68:>9.1%}{one.within95:>9.1%}"
            values += f"{one.ks:>8.3f}{one.beyond5:>8.2%}"
            text = values if np.isfinite(one.pull) else "".join(f"{'-':>{width}}" for width in (9, 7, 9, 9, 8, 8))
            lines.append(f"{name:<13}{kind:<18}{one.n:>7}{one.n_lost:>6}{text}")
    return "\n".join(lines)
