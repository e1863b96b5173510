"""Maps of the CCD: where on it fluxes are off."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from lumos.conventions import FloatArray
from lumos.validate.evidence.chart import MapChart
from lumos.validate.evidence.known import KnownFluxes

__all__ = ["ccd_map", "pull_map"]

#: Most cells along an axis, and rows that a cell needs.
_CELLS, _FEWEST = 8, 10


def pull_map(known: KnownFluxes, names: Sequence[str]) -> list[MapChart]:
    """Map the median pull of known fluxes.

    Parameters
    ----------
    known : KnownFluxes
        Rows.
    names : sequence of str
        Estimators.

    Returns
    -------
    list of MapChart
        One map for each estimator, all CCDs and exposures together; empty where too few fluxes are known.
    """
    values = {name: known.estimators[name].pull for name in names}
    text = "Median of (flux - truth) / error by place on the CCD, all exposures and CCDs together, one map for each "
    text += "estimator. Blue: too faint, red: too bright. A pattern that several maps share is in the images: "
    text += "scattered light, a wrong flat field or PSF. "
    places = known.by["x"], known.by["y"]
    return ccd_map(MapChart("pull_map", "Pulls on the CCD", text, "median pull", 0.0), places, values, np.median)


def ccd_map(
    empty: MapChart,
    places: tuple[FloatArray, FloatArray],
    values: Mapping[str, FloatArray],
    figure: Callable[[FloatArray], float],
) -> list[MapChart]:
    """Map a figure over the CCD.

    Parameters
    ----------
    empty : MapChart
        Without maps.
    places : tuple of two float array, each of shape (n,)
        x and y, pixels.
    values : mapping of float array, each of shape (n,)
        Values by name of the map; NaN counts nowhere.
    figure : callable
        Takes the values of a cell.

    Returns
    -------
    list of MapChart
        One, or none where no cell holds 10 values.
    """
    x, y = places
    most = max((int((np.isfinite(one) & np.isfinite(x) & np.isfinite(y)).sum()) for one in values.values()), default=0)
    # About 40 rows in a cell: its median is known to a fifth of an error.
    n = min(_CELLS, int(np.sqrt(most / 40)))
    if n < 2:
        return []
    x_edges, y_edges = (np.linspace(np.nanmin(one), np.nanmax(one), n + 1) for one in (x, y))
    column, row = (np.searchsorted(edges[1:-1], np.nan_to_num(one)) for edges, one in ((x_edges, x), (y_edges, y)))
    maps, found, numbers = {}, [], []
    for name, one in values.items():
        good = np.isfinite(one) & np.isfinite(x) & np.isfinite(y)
        cells = []
        for j in range(n):
            parts = [one[good & (row == j) & (column == i)] for i in range(n)]
            cells.append(tuple(float(figure(part)) if len(part) >= _FEWEST else None for part in parts))
            found += [value for value in cells[-1] if value is not None]
            numbers += [len(part) for part in parts if len(part) >= _FEWEST]
        maps[name] = tuple(cells)
    if not found:
        return []
    reach = max(0.2, float(np.quantile(np.abs(np.array(found) - empty.middle), 0.98)))
    many = float(np.median(numbers))
    text = f"{empty.text}Cells hold about {many:.0f} values, so that by chance alone they scatter by about "
    text += f"{many**-0.5:.2f}; grey ones hold fewer than {_FEWEST}."
    edges = (tuple(x_edges.tolist()), tuple(y_edges.tolist()))
    return [replace(empty, text=text, x_edges=edges[0], y_edges=edges[1], maps=maps, reach=reach)]
