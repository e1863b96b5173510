"""Coadd a finished run: one row per object and band, in memory that does not grow with the run."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lumos import __version__
from lumos.catalogs.schema import coadd_schema, to_arrow
from lumos.catalogs.tables import check_pages, write_table
from lumos.coadds.calibrate import Calibration, calibrate_run
from lumos.coadds.columns import coadd_rows
from lumos.coadds.learn import find_share, find_sky, make_prior
from lumos.coadds.partition import Partition, partition_sky, sky_cell
from lumos.coadds.read import READ, ShardReader, flux_columns, has_names, join_rows, object_names
from lumos.coadds.repeat_errors import NO_REPEATS
from lumos.coadds.rows import CoaddContext
from lumos.coadds.settings import CoaddSettings
from lumos.coadds.sky import SkyLevels
from lumos.conventions import BoolArray
from lumos.errors import LumosConfigError, LumosDataError, LumosError, LumosValueError, WorkerDiedError
from lumos.files import check_parquet_name, file_sha256, write_json
from lumos.flags import Flag
from lumos.photometry.measured import MeasuredRun, open_run
from lumos.runs.driver import Driver, Work, driver_of
from lumos.runs.locks import clear_unfinished, lock_file, locked
from lumos.runs.outputs import describe_changes, finished_table
from lumos.runs.parts import remove_parts, table_parts
from lumos.runs.shards import check_shards, read_shard, shard_paths

__all__ = ["CoaddReport", "coadd_run"]

logger = logging.getLogger(__name__)

#: Entry of the metadata of the table of zero points: sha256 of the coadd.
_DIGEST = "lumos.coadd_sha256"
#: What a progress display is told: partitions finished, partitions in all, what was finished.
Progress = Callable[[int, int, str], None]
#: What processes share: how shards are read, how rows are coadded, the schema of the table.
_Shared = tuple[ShardReader, CoaddContext, pa.Schema]


@dataclass(frozen=True)
class CoaddReport:
    """What a coadd did.

    Parameters
    ----------
    n_rows : int
        Objects and bands in the table.
    was_finished : bool
        Whether the table was there before.
    """

    n_rows: int
    was_finished: bool


@locked(lock_file)
def coadd_run(
    runs: Sequence[Path],
    out: Path,
    settings: CoaddSettings,
    *,
    catalog: Path | None = None,
    zeropoints: Path | None = None,
    reference: Path | None = None,
    sky: Path | None = None,
    workers: int | Driver = 1,
    progress: Progress | None = None,
) -> CoaddReport:
    """Coadd the exposures of each object and band of one or more runs.

    Parameters
    ----------
    runs : sequence of Path
        Folders that ``lumos measure`` wrote, with the same catalogue, estimators and model; their exposures differ.
    out : Path
        Parquet file. Beside it come ``.zeropoints.parquet``, made again where it was lost, and, where a prior is used,
        ``.prior.json``.
    settings : CoaddSettings
        Settings of ``lumos coadd``.
    catalog : Path, optional
        Parent catalogue, where it is no longer where the run found it.
    zeropoints, reference : Path, optional
        As of :func:`lumos.coadds.calibrate.calibrate_run`.
    sky : Path, optional
        Run of the same exposures at empty positions (see :func:`lumos.coadds.sky.sky_catalog`). Its median fluxes are
        taken off, and the scatter that their errors do not explain is an error that all exposures of an object share.
    workers : int or Driver, optional
        Number of processes; the table does not depend on it.
    progress : callable, optional
        Called after each partition.

    Returns
    -------
    CoaddReport
        What was done.

    Raises
    ------
    LumosDataError
        If the runs do not belong together, a file is missing, changed or lacks a column, zero points are missing or
        contradictory, or a finished coadd has changed.
    LumosConfigError
        If ``out`` holds another coadd, a flag is unknown, or the product needs a prior that is not given.
    LumosValueError
        If there is no run or no worker, or ``out`` does not end in ``.parquet``.
    """
    if not runs:
        raise LumosValueError("runs", 0, "at least one folder")
    driver = driver_of(workers)
    check_parquet_name(out)
    for name in settings.excluded_flags:
        if name not in Flag.__members__:
            raise LumosConfigError(f"excluded_flags: unknown flag {name!r}, allowed: {', '.join(Flag.__members__)}")
    run = _common(runs)
    if sky is not None:
        _common([runs[0], sky], same_catalog=False)
    shards = [path for folder in runs for path in shard_paths(folder)]
    identity = _identity(runs, shards, settings, zeropoints, reference, None if sky is None else sky / "manifest.json")
    companion = out.with_suffix(".zeropoints.parquet")
    finished = _finished(out, companion, identity)
    if finished is not None and companion.exists():
        return finished
    is_posterior = run.pdf_model is not None and run.pdf_model["kind"] == "posterior"
    _check_product(settings, is_posterior=is_posterior)
    if sky is not None and is_posterior:
        raise LumosConfigError(f"{sky}: the PDFs are posteriors, which know that fluxes are positive; no sky for them")
    check_shards(
        [*shards, *([] if sky is None else shard_paths(sky))],
        (*READ, "zeropoint", "zeropoint_err", *flux_columns(run.settings.all_estimators)),
    )
    calibration = calibrate_run(runs, settings.calibrate, zeropoints=zeropoints, reference=reference)
    cut_from = None if run.pdf_model is None else run.pdf_model["cut_from"]
    needed = settings.prior != "none" or is_posterior or cut_from is not None
    mags = run.read_magnitudes(catalog) if needed else (np.zeros(0, dtype=np.int64), np.zeros(0))
    reader = ShardReader(run.settings.all_estimators, calibration, *mags)
    context = CoaddContext(settings, calibration, NO_REPEATS, SkyLevels(), None, is_posterior, cut_from)
    if finished is not None:
        # The table of zero points was lost.
        _write_zeropoints(companion, calibration, out)
        return finished
    context = replace(context, share=find_share(shards, reader, context, driver))
    if sky is not None:
        context = replace(context, sky=find_sky(shard_paths(sky), reader, context))
    context = replace(context, prior=make_prior(shards, reader, context, driver))
    out.parent.mkdir(parents=True, exist_ok=True)
    if context.prior is not None:
        write_json(out.with_suffix(".prior.json"), context.prior.to_dict())
    schema = _schema(run, settings, identity, context, with_names=has_names(shards))
    partitions = partition_sky(shards, settings.rows_at_once)
    work = Work(_coadd_partition, _shared, ((reader, context, schema),))
    with table_parts(out, identity) as parts:
        tasks = [(partition, parts / f"{number}.parquet") for number, partition in enumerate(partitions)]
        results = driver.run(work, tasks)
        with closing(results):
            _finish(results, len(tasks), progress)
        n_rows = write_table((read_shard(path) for _, path in tasks), out)
    _write_zeropoints(companion, calibration, out)
    return CoaddReport(n_rows, was_finished=False)


def _write_zeropoints(path: Path, calibration: Calibration, out: Path) -> None:
    """Write the table of zero points, with the digest of the coadd that is thereby finished."""
    table = calibration.table().replace_schema_metadata({_DIGEST: file_sha256(out)})
    write_table([table], path)


def _common(runs: Sequence[Path], *, same_catalog: bool = True) -> MeasuredRun:
    """Return the first of several runs; refuse those that do not belong together."""
    first, *others = map(open_run, runs)
    wanted = _kind(first, same_catalog=same_catalog)
    for run in others:
        changes = describe_changes(wanted, _kind(run, same_catalog=same_catalog))
        if changes:
            text = f"differs from {first.path} ({changes}); only runs of one kind can be coadded"
            raise LumosDataError(f"{run.path}: {text}")
    return first


def _kind(run: MeasuredRun, *, same_catalog: bool) -> dict[str, object]:
    """Return what runs that are coadded have in common."""
    return {
        "model": run.model,
        "catalog": {"path": str(run.catalog_path), "sha256": run.catalog_sha256} if same_catalog else None,
        "estimators": list(run.settings.estimators),
        "default": run.settings.default,
    }


def _identity(
    runs: Sequence[Path], shards: Sequence[Path], settings: CoaddSettings, *tables: Path | None
) -> dict[str, Any]:
    """Return what a coadd is made from, whatever the order of runs and exposures."""
    digest = hashlib.sha256("".join(sorted(file_sha256(path) for path in shards)).encode())
    return {
        "version": __version__,
        "runs": sorted(str(run) for run in runs),
        "shards": digest.hexdigest(),
        "tables": [None if path is None else file_sha256(path) for path in tables],
        "prior": file_sha256(Path(settings.prior)) if settings.prior not in {"none", "catalog"} else settings.prior,
        "settings": settings.model_dump(mode="json"),
    }


def _finished(out: Path, zeropoints: Path, identity: Mapping[str, Any]) -> CoaddReport | None:
    """Return the report of the coadd that is asked for if it is there and whole; remove what a kill left beside it."""
    for path in (zeropoints, out.with_suffix(".prior.json")):
        clear_unfinished(path)
    # Runs may have moved.
    before = finished_table(out, "coadd", {key: value for key, value in identity.items() if key != "runs"})
    if before is None:
        return None
    if zeropoints.exists():
        try:
            digest = (pq.read_schema(zeropoints).metadata or {}).get(_DIGEST.encode())
        except (OSError, pa.ArrowException) as error:
            raise LumosDataError(f"{zeropoints}: damaged; remove it, then it is made again") from error
        if digest is not None and digest.decode() != file_sha256(out):
            raise LumosDataError(f"{out}: changed since it was written; remove it, then it is made again")
    else:
        check_pages(out)
    remove_parts(out)
    return CoaddReport(before[0], was_finished=True)


def _check_product(settings: CoaddSettings, *, is_posterior: bool) -> None:
    """Refuse what needs a prior that is not given."""
    if is_posterior and settings.product == "likelihood" and settings.prior in {"none", "catalog"}:
        raise LumosConfigError(
            f"prior={settings.prior}: the PDFs of this run are posteriors, each holds the prior; give the prior of "
            "their model (a JSON file), which is then divided out of all but one, or --product naive"
        )
    if not is_posterior and settings.product == "naive" and settings.prior == "none":
        raise LumosConfigError("product=naive: multiplies posteriors and needs a prior, got prior=none")


def _coadd_partition(work: _Shared, task: tuple[Partition, Path]) -> int:
    """Write the coadds of one piece of the sky, unless they are there, and return how many they are."""
    (reader, context, schema), (partition, path) = work, task
    if path.exists():
        return int(pq.read_metadata(path).num_rows)

    def inside(table: pa.Table) -> BoolArray:
        return np.isin(sky_cell(table["ra"].to_numpy(), table["dec"].to_numpy()), partition.cells)

    rows = join_rows([reader.read(path, inside) for path in partition.shards])
    columns = coadd_rows(rows, context)
    if "object_name" in schema.names:
        columns["object_name"] = object_names(partition.shards, columns["object_id"])
    return write_table([to_arrow(columns, schema)], path)


def _schema(
    run: MeasuredRun, settings: CoaddSettings, identity: Mapping[str, Any], context: CoaddContext, *, with_names: bool
) -> pa.Schema:
    share = {name: getattr(context.share, name).tolist() for name in ("excess", "share", "n")}
    scatter = dict(context.calibration.scatter)
    bands = sorted(set(context.calibration.band))
    sky = {
        part: {name: dict(zip(bands, values.tolist(), strict=True)) for name, values in levels.items()}
        for part, levels in (("offset", context.sky.offset), ("excess", context.sky.excess))
    }
    provenance = {
        "coadd": identity,
        "model": run.pdf_model,
        # What was used: a run with few galaxies has none, whatever was asked for.
        "prior": "none" if context.prior is None else settings.prior,
        "relative_scatter": scatter,
        "independent_share": share,
        "sky": sky,
    }
    n = settings.n_components if settings.pdf == "mixture" else settings.n_nodes
    return coadd_schema(run.settings.all_estimators, settings.pdf, n, provenance, with_names=with_names)


@contextmanager
def _shared(work: _Shared) -> Iterator[_Shared]:
    yield work


def _finish(
    results: Iterator[tuple[tuple[Partition, Path], int | WorkerDiedError]], n: int, progress: Progress | None
) -> None:
    """Wait for all partitions and tell the progress."""
    for number, (_, n_rows) in enumerate(results):
        if isinstance(n_rows, WorkerDiedError):
            raise LumosError(f"{n_rows}; run again with a smaller coadd.rows_at_once") from n_rows
        if progress is not None:
            progress(number + 1, n, f"{n_rows} rows")
