"""What a finished run of ``lumos measure`` was made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lumos.catalogs.parent import ParentCatalog
from lumos.catalogs.schema import SCHEMA_VERSION
from lumos.config import read_yaml, validated
from lumos.conventions import FloatArray, IntArray
from lumos.errors import LumosConfigError, LumosDataError
from lumos.files import file_sha256
from lumos.photometry.settings import NETWORK, MeasureSettings
from lumos.runs.folder import Entry, read_manifest
from lumos.surveys import Survey

__all__ = ["MeasuredRun", "open_run"]


@dataclass(frozen=True)
class MeasuredRun:
    """A finished run of ``lumos measure``.

    Parameters
    ----------
    path : Path
        Its folder.
    settings : MeasureSettings
        How it was measured.
    model : mapping or None
        Name, kind of PDFs, digest and cut of the model that ran in it.
    catalog_path : Path
        The parent catalogue, where the run found it.
    catalog_sha256 : str
        Digest of that file.
    content : mapping
        All that its ``settings.yaml`` holds.
    """

    path: Path
    settings: MeasureSettings
    model: Mapping[str, Any] | None
    catalog_path: Path
    catalog_sha256: str
    content: Mapping[str, Any]

    @cached_property
    def survey(self) -> Survey:
        """Return how its exposures are read."""
        return validated(Survey, self.content["survey"], f"{self.path / 'settings.yaml'}: survey")

    @property
    def psf_dir(self) -> Path | None:
        """Return the folder with PSF models, if there was one."""
        psf = self.content["psf"]
        return None if psf is None else Path(psf)

    @property
    def pdf_model(self) -> Mapping[str, Any] | None:
        """Return the model whose PDFs the run holds: None where they are those of a classical estimator."""
        return self.model if self.settings.default_estimator == NETWORK else None

    @cached_property
    def finished(self) -> dict[str, Entry]:
        """Return what the manifest says of the finished exposures, by name in alphabetical order."""
        entries = read_manifest(self.path)
        return {name: entries[name] for name in sorted(entries) if entries[name]["status"] == "done"}

    def read_catalog(self, moved_to: Path | None = None) -> ParentCatalog:
        """Read the parent catalogue.

        Parameters
        ----------
        moved_to : Path, optional
            Its file, where it is no longer where the run found it.

        Returns
        -------
        ParentCatalog
            The objects that were measured.

        Raises
        ------
        LumosDataError
            If the file is missing or not the one that was measured.
        """
        path, columns = moved_to or self.catalog_path, self.settings.catalog
        if not path.is_file():
            text = f"no such parent catalogue, which {self.path} was measured with"
            raise LumosDataError(f"{path}: {text}; put it back (`lumos coadd` takes --catalog where it moved)")
        if file_sha256(path) != self.catalog_sha256:
            raise LumosDataError(f"{path}: changed since {self.path} was measured, its sha256 differs; measure again")
        return columns.read(path)

    def read_magnitudes(self, moved_to: Path | None = None) -> tuple[IntArray, FloatArray]:
        """Read the reference magnitudes of the parent catalogue.

        Parameters
        ----------
        moved_to : Path, optional
            As of :meth:`read_catalog`.

        Returns
        -------
        object_id : int array, shape (n,)
            Sorted.
        ref_mag : float array, shape (n,)
            Of these objects.

        Raises
        ------
        LumosDataError
            As of :meth:`read_catalog`.
        """
        catalog = self.read_catalog(moved_to)
        order = np.argsort(catalog.object_id)
        return catalog.object_id[order], catalog.ref_mag[order]


def open_run(path: Path) -> MeasuredRun:
    """Read what a run was made of.

    Parameters
    ----------
    path : Path
        Folder that ``lumos measure`` wrote.

    Returns
    -------
    MeasuredRun
        Settings, model, catalogue.

    Raises
    ------
    LumosDataError
        If it is no run, its settings are damaged, or it is of another schema version.
    """
    file = path / "settings.yaml"
    try:
        content = read_yaml(file)
        version, catalog = content["schema_version"], content["catalog"]
        if version != SCHEMA_VERSION:
            raise LumosDataError(f"{file}: schema version {version}, this version reads {SCHEMA_VERSION}")
        return MeasuredRun(
            path=path,
            settings=validated(MeasureSettings, content["measure"], file),
            model=content["model"],
            catalog_path=Path(catalog["path"]),
            catalog_sha256=catalog["sha256"],
            content=content,
        )
    except (LumosConfigError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        if (path / "run" / file.name).is_file():
            reason = f"that of `lumos run` is {path / 'run'}"
        raise LumosDataError(f"{path}: not a run of `lumos measure`, or damaged ({reason})") from error
