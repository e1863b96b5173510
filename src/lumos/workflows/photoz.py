"""What ``lumos photoz`` does: models or networks, redshifts, a picture, and figures where redshifts are known."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from lumos.conventions import FloatArray
from lumos.errors import LumosConfigError, LumosDataError, LumosError
from lumos.files import write_json
from lumos.photoz.bcnz.search import fit_at
from lumos.photoz.fluxes import Photometry, light_of, read_photometry
from lumos.photoz.inputs import check_place
from lumos.photoz.models import ModelGrid, build_grid
from lumos.photoz.run import Tables, match_redshifts, photoz_run, read_redshifts
from lumos.photoz.settings import PhotozSettings
from lumos.photoz.shards import PhotozReport, Progress
from lumos.photoz.templates import ModelSettings, load_models
from lumos.report.page import write_page
from lumos.report.redshifts import RedshiftExhibit, draw_redshifts
from lumos.runs.driver import Driver
from lumos.spectra.curves import Curve, read_curve
from lumos.validate.known_redshifts import read_known_redshifts, redshift_table
from lumos.validate.redshifts import format_redshifts
from lumos.workflows.redshifts import redshift_page

__all__ = ["PhotozInputs", "make_redshifts", "pretrain_network"]

#: Galaxies in the picture.
_SHOWN = 6
_PICTURE = "redshifts.png"


@dataclass(frozen=True)
class PhotozInputs:
    """Files of ``lumos photoz``.

    Parameters
    ----------
    table : Path
        Coadd, or table of fluxes.
    templates : str, optional
        Shipped set of model runs, or a YAML file; needed to fit templates.
    data : Path, optional
        Folder from which the paths of that set start.
    curves : Path, optional
        Folder of response curves, one file BAND.SUFFIX for each, that replace those of the set.
    spectra : Path, optional
        Table of known redshifts.
    model : Path, optional
        Folder of networks; needed by Deepz.
    exposures : Path, optional
        Fluxes of single exposures, to train Deepz.
    """

    table: Path
    templates: str | None = None
    data: Path | None = None
    curves: Path | None = None
    spectra: Path | None = None
    model: Path | None = None
    exposures: Path | None = None

    def check(self, settings: PhotozSettings) -> None:
        """Refuse files that a method lacks, and files and settings that it does not use.

        Parameters
        ----------
        settings : PhotozSettings
            Settings, the method among them.

        Raises
        ------
        LumosConfigError
            If there is one.
        """
        own = {"bcnz": ("templates", "data", "curves"), "deepz": ("model", "exposures")}
        method, needed = settings.method, own[settings.method][0]
        if getattr(self, needed) is None:
            raise LumosConfigError(f"--method {method} needs --{needed}")
        for other, names in own.items():
            for name in names:
                if other != method and getattr(self, name) is not None:
                    raise LumosConfigError(f"--{name} is for --method {other}, got --method {method}")
        for name, default in (("likelihood", "gaussian"), ("calibrate", "none")):
            if method == "deepz" and getattr(settings, name) != default:
                text = f"got {getattr(settings, name)!r}, allowed with --method deepz: {default}"
                raise LumosConfigError(f"photoz.{name}: {text}")


def make_redshifts(
    inputs: PhotozInputs,
    out: Path,
    settings: PhotozSettings,
    *,
    workers: int | Driver = 1,
    progress: Progress | None = None,
) -> str:
    """Find redshifts; write ``redshifts.png`` (templates), and ``metrics.json`` and ``report.html`` (known redshifts).

    Parameters
    ----------
    inputs : PhotozInputs
        Files.
    out : Path
        Folder to write.
    settings : PhotozSettings
        Settings.
    workers : int or Driver, optional
        Number of processes.
    progress : callable, optional
        Told after each shard.

    Returns
    -------
    str
        What was done, for the terminal.

    Raises
    ------
    LumosError
        If an input cannot be used, ``out`` holds something else, or galaxies could not be fitted.
    """
    inputs.check(settings)
    make = _fit_templates if settings.method == "bcnz" else _use_networks
    report, text = make(inputs, out, settings, workers, progress)
    if report.failed:
        raise LumosError(f"{len(report.failed)} shards failed: {report.failed[0]}")
    text += f"{out}: {report.n_rows} galaxies" + ("" if report.n_new else ", finished before")
    if inputs.spectra is None:
        return text
    known = read_known_redshifts(out, inputs.spectra)
    figures = redshift_table(known)
    write_json(out / "metrics.json", {name: asdict(one) for name, one in figures.items()})
    write_page(out / "report.html", redshift_page(out, known, inputs.spectra))
    return f"{format_redshifts(figures)}\n{text}"


def _fit_templates(
    inputs: PhotozInputs, out: Path, settings: PhotozSettings, workers: int | Driver, progress: Progress | None
) -> tuple[PhotozReport, str]:
    assert inputs.templates is not None
    models = load_models(inputs.templates)
    # Fluxes are cheap to check, models are not.
    bands = tuple(band for source in models.bands for band in source.names)
    photometry = read_photometry(inputs.table, bands, settings)
    grid = build_grid(models, inputs.data, _curves(inputs.curves, models)).in_bands(photometry.bands)
    report = photoz_run(Tables(inputs.table, inputs.spectra), grid, out, settings, workers=workers, progress=progress)
    if not report.failed and (report.n_new or not (out / _PICTURE).exists()):
        _draw(out / _PICTURE, photometry, grid, settings, _known(inputs, photometry))
    return report, ""


def _known(inputs: PhotozInputs, photometry: Photometry) -> FloatArray:
    if inputs.spectra is None:
        return np.full(len(photometry), np.nan)
    return match_redshifts(inputs.spectra, photometry.object_id)


def _use_networks(
    inputs: PhotozInputs, out: Path, settings: PhotozSettings, workers: int | Driver, progress: Progress | None
) -> tuple[PhotozReport, str]:
    # torch is slow to import.
    from lumos.photoz.deepz.run import deepz_run  # noqa: PLC0415

    assert inputs.model is not None
    tables = Tables(inputs.table, inputs.spectra, inputs.exposures)
    _, report, text = deepz_run(tables, inputs.model, out, settings, workers=workers, progress=progress)
    return report, f"{text}\n"


def pretrain_network(
    templates: str, out: Path, settings: PhotozSettings, *, data: Path | None = None, progress: Progress | None = None
) -> str:
    """Train a network of Deepz on mixtures of templates.

    Parameters
    ----------
    templates : str
        Shipped set of model runs, or a YAML file.
    out : Path
        Folder of the network to write.
    settings : PhotozSettings
        Settings; if ``bands`` chooses any, the network is for these.
    data : Path, optional
        Folder from which the paths of the set start.
    progress : callable, optional
        Told after each epoch.

    Returns
    -------
    str
        What was done, for the terminal.

    Raises
    ------
    LumosError
        If an input cannot be used, or ``out`` is there.
    """
    from lumos.photoz.deepz.model import save_deepz  # noqa: PLC0415
    from lumos.photoz.deepz.pretrain import pretrain  # noqa: PLC0415

    if out.exists():
        raise LumosConfigError(f"{out}: is there already, allowed: a new folder")
    models = load_models(templates)
    known = [band for source in models.bands for band in source.names]
    unknown = [band for band in settings.bands.values() if band not in known]
    if unknown:
        raise LumosConfigError(f"photoz.bands: {unknown[0]!r} is none of the models, allowed: {', '.join(known)}")
    grid = build_grid(models, data)
    if settings.bands:
        grid = grid.in_bands([band for band in known if band in settings.bands.values()])
    model = save_deepz(pretrain(grid, models.lines, settings.deepz, out.name, told=progress), out)
    n, held = settings.deepz.pretrain.galaxies, model.config.training["held_nll"]
    return f"{out}: {len(grid.bands)} bands, {n} mixtures of templates; loss of mixtures that were kept back {held}"


def _curves(folder: Path | None, models: ModelSettings) -> Mapping[str, Curve] | None:
    """Read the curves of a folder."""
    if folder is None:
        return None
    if not folder.is_dir():
        raise LumosDataError(f"{folder}: no such folder (response curves)")
    bands = [band for source in models.bands for band in source.names]
    paths = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    files = {path.stem: path for path in paths}
    if len(files) < len(paths):
        twice = next(path for path in paths if files[path.stem] != path)
        raise LumosConfigError(f"{folder}: {twice.name} and {files[twice.stem].name}, allowed: one curve for each band")
    unknown = [name for name in files if name not in bands]
    if unknown or not files:
        what = f"{files[unknown[0]].name} is the curve of no band" if unknown else "no curve in it"
        raise LumosConfigError(f"{folder}: {what}, allowed: BAND.SUFFIX with {', '.join(bands)}")
    curves = {band: read_curve(path) for band, path in files.items()}
    for band, curve in curves.items():
        check_place(files[band], band, curve)
    return curves


def _draw(path: Path, photometry: Photometry, grid: ModelGrid, settings: PhotozSettings, known: FloatArray) -> None:
    """Draw galaxies spread over brightness; first those with known redshifts, if there are any."""
    table, pdf = read_redshifts(path.parent)
    if settings.calibrate != "none":
        photometry = photometry.scaled(pq.read_table(path.with_name("zeropoints.parquet"))["factor"].to_numpy())
    names = table["object_name" if "object_name" in table.column_names else "object_id"]
    zb = table["zb"].to_numpy()
    candidates = np.flatnonzero(np.isfinite(zb) & (np.isfinite(known) | ~np.isfinite(known).any()))
    if not len(candidates):
        candidates = np.flatnonzero(np.isfinite(zb))
    if not len(candidates):
        return
    usable = photometry.usable(settings.min_snr)
    snr = np.where(usable, photometry.flux, 0) / np.where(usable, photometry.flux_err, 1)
    order = candidates[np.argsort(-snr[candidates].sum(axis=1), kind="stable")]
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(_SHOWN, len(order))).astype(int))]
    some = photometry.take(chosen)
    light, _, unit = light_of(some, settings)
    best = fit_at(grid, light, grid.nearest(zb[chosen]), settings)
    exhibits = []
    for number, row in enumerate(chosen.tolist()):
        flux = np.where(usable[row], some.flux[number], np.nan)
        title = f"{names[row]}: z = {zb[row]:.4f}, chi2 {best.chi2[number]:.0f}, {grid.runs[best.run[number]]}"
        exhibits.append(
            RedshiftExhibit(
                title=title,
                bands=grid.bands,
                flux=flux,
                flux_err=np.where(usable[row], some.flux_err[number], np.nan),
                model=best.fluxes[:, number] * unit[number],
                narrow=grid.narrow,
                redshifts=pdf.redshifts,
                density=pdf.density[row],
                known=float(known[row]),
            )
        )
    draw_redshifts(path, exhibits)
