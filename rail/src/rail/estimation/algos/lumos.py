"""Photometric redshifts and flux PDFs of Lumos as stages of RAIL."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import qp
import tables_io
from ceci.config import StageParameter as Param
from rail.core.common_params import SharedParams
from rail.core.data import Hdf5Handle, QPHandle, TableLike
from rail.core.enums import DistributionType
from rail.core.stage import RailStage
from rail.estimation.estimator import CatEstimator
from rail.estimation.informer import CatInformer

from lumos.config import apply_override, validated
from lumos.conventions import AB_ZEROPOINT_NJY
from lumos.exports.run import export_table
from lumos.photoz.fluxes import Photometry
from lumos.photoz.models import ModelGrid, build_grid
from lumos.photoz.rows import redshift_rows
from lumos.photoz.settings import PhotozSettings
from lumos.photoz.templates import load_models
from lumos.photoz.zeropoints import fit_factors

__all__ = ["LumosCoadd", "LumosEstimator", "LumosInformer"]

#: Point estimates that go beside p(z).
_BESIDE = ("odds", "qz", "pz_width", "chi2", "scale", "flags")
_COLUMNS: dict[str, Any] = {
    "bands": SharedParams.copy_param("bands"),
    "err_bands": SharedParams.copy_param("err_bands"),
    "nondetect_val": SharedParams.copy_param("nondetect_val"),
    "flux_units": Param(bool, False, msg="columns hold fluxes of one unit, not AB magnitudes"),
}


def _photometry(data: TableLike, config: Any, bands: tuple[str, ...]) -> Photometry:  # noqa: ANN401
    """Return the fluxes of a table in the bands of the models."""
    columns = tables_io.convert(data, tables_io.types.NUMPY_DICT)
    value = np.stack([np.asarray(columns[name], dtype=float) for name in config.bands], axis=1)
    error = np.stack([np.asarray(columns[name], dtype=float) for name in config.err_bands], axis=1)
    if not config.flux_units:
        missing = ~np.isfinite(value) | np.isclose(value, config.nondetect_val) | (np.abs(value) >= 40)
        flux = 10 ** (-0.4 * (np.where(missing, np.nan, value) - AB_ZEROPOINT_NJY))
        value, error = flux, flux * error * np.log(10) / 2.5
    return Photometry(np.arange(len(value)), value, error, bands=bands)


def _grid(model: dict[str, Any]) -> ModelGrid:
    data = Path(model["data"]) if model["data"] else None
    return build_grid(load_models(model["templates"], model["overrides"]), data).in_bands(model["bands"])


class LumosInformer(CatInformer):
    """Choose a set of model runs and find the zero points of its bands."""

    name = "LumosInformer"
    entrypoint_function = "inform"
    config_options = CatInformer.config_options.copy()
    config_options.update(
        **_COLUMNS,
        redshift_col=SharedParams.copy_param("redshift_col"),
        templates=Param(str, "analytic", msg="shipped set of model runs, or a YAML file"),
        data=Param(str, "", msg="folder from which the paths of the set start"),
        model_bands=Param(list, [], msg="names of the bands in the set, in the order of bands; none: the same names"),
        overrides=Param(list, [], msg="changes of the set, as redshifts.step=0.002"),
        settings=Param(list, [], msg="settings of lumos photoz, as floor=0.01"),
        calibrate=Param(str, "none", msg="zero points: none, spectra or photometry"),
    )

    def run(self) -> None:
        """Make the model: what fits need, as plain data."""
        config, data = self.config, self.get_data("input")
        if config.hdf5_groupname:
            data = data[config.hdf5_groupname]
        bands = list(config.model_bands or config.bands)
        changes: dict[str, Any] = {}
        for change in [*config.settings, f"calibrate={config.calibrate}"]:
            apply_override(changes, change)
        settings = validated(PhotozSettings, changes, "settings")
        model = {
            "templates": config.templates,
            "data": config.data,
            "overrides": list(config.overrides),
            "settings": settings.model_dump(mode="json"),
            "bands": bands,
            "factors": np.ones(len(bands)),
        }
        if config.calibrate != "none":
            known = np.asarray(data[config.redshift_col], dtype=float) if config.calibrate == "spectra" else None
            grid = _grid(model)
            model["factors"] = fit_factors(_photometry(data, config, tuple(bands)), grid, settings, known).factor
        self.model = model
        self.add_data("model", self.model)


class LumosEstimator(CatEstimator):
    """Fit sums of templates to fluxes at all redshifts, after BCNz2."""

    name = "LumosEstimator"
    entrypoint_function = "estimate"
    config_options = CatEstimator.config_options.copy()
    config_options.update(**_COLUMNS)

    def open_model(self, **kwargs: Any) -> None:  # noqa: ANN401
        """Compute the model fluxes of the informer's set."""
        super().open_model(**kwargs)
        if self.model is not None:
            self._grid = _grid(self.model)
            self._settings = PhotozSettings.model_validate(self.model["settings"])

    @classmethod
    def default_distribution_type(cls) -> DistributionType:
        """Return that p(z) are posteriors, of a flat prior."""
        return DistributionType.posterior

    def _process_chunk(self, start: int, end: int, data: TableLike, first: bool) -> None:
        seen = _photometry(data, self.config, self._grid.bands).scaled(self.model["factors"])
        rows = redshift_rows(seen, self._grid, self._settings)
        density = np.asarray(rows["pz"])
        # RAIL has a row for each galaxy: without a redshift any is as good.
        density = np.where(np.isfinite(density), density, 1.0)
        found = qp.Ensemble(qp.interp, data={"xvals": self._grid.redshifts, "yvals": density})
        found.set_ancil({"zmode": rows["zb"], **{name: rows[name] for name in _BESIDE}})
        self._do_chunk_output(found, start, end, first, data=data)


class LumosCoadd(RailStage):
    """Read a coadd of Lumos: fluxes as a table, and their PDFs."""

    name = "LumosCoadd"
    entrypoint_function = "__call__"
    config_options = RailStage.config_options.copy()
    config_options.update(coadd=Param(str, required=True, msg="file that lumos coadd wrote"))
    inputs: list[tuple[str, Any]] = []
    outputs = [("output", Hdf5Handle), ("pdfs", QPHandle)]

    def run(self) -> None:
        """Write the coadd as RAIL has it, and hand that on."""
        with TemporaryDirectory() as folder:
            table, pdfs = Path(folder) / "table.hdf5", Path(folder) / "pdfs.hdf5"
            export_table(Path(self.config.coadd), table, "rail")
            export_table(Path(self.config.coadd), pdfs, "qp")
            self.add_data("output", tables_io.read(str(table), tables_io.types.NUMPY_DICT)["photometry"])
            self.add_data("pdfs", qp.read(str(pdfs)))

    def __call__(self) -> tuple[Hdf5Handle, QPHandle]:
        """Return the handles of the table and of the PDFs."""
        self.run()
        self.finalize()
        return self.get_handle("output"), self.get_handle("pdfs")
