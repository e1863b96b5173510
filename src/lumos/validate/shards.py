"""What a finished run holds: its bands and its estimators."""

from pathlib import Path

import pyarrow.parquet as pq

from lumos.runs.shards import read_shard, shard_paths

__all__ = ["run_estimators", "shards_by_band"]


def shards_by_band(run: Path) -> dict[str, list[Path]]:
    """Return the finished shards of a run, verified, by their band.

    Parameters
    ----------
    run : Path
        Folder that ``lumos measure`` wrote.

    Returns
    -------
    dict
        Files by band, in the order of the manifest.
    """
    shards: dict[str, list[Path]] = {}
    for path in shard_paths(run):
        # An exposure has one band.
        for band in read_shard(path, ["band"])["band"].unique().to_pylist():
            shards.setdefault(band, []).append(path)
    return shards


def run_estimators(shards: dict[str, list[Path]]) -> tuple[str, ...]:
    """Return the estimators of a run.

    Parameters
    ----------
    shards : dict
        Its files by band.

    Returns
    -------
    tuple of str
        In the order of the columns.
    """
    names = pq.read_schema(next(iter(shards.values()))[0]).names
    return tuple(name.removesuffix("_flux") for name in names if name.endswith("_flux") and f"{name}_err" in names)
