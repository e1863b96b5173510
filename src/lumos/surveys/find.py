"""Which files are meant: names, folders, patterns and lists; masks and weights are left out."""

import glob
import logging
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from lumos.errors import LumosDataError
from lumos.files import read_text
from lumos.remote import is_remote, list_remote, local_copy, remote_name, remote_sibling
from lumos.surveys.header import Substitution
from lumos.surveys.model import Survey

__all__ = ["find_exposures", "find_files"]

logger = logging.getLogger(__name__)

#: How the name of a FITS file ends.
_FITS = re.compile(r"\.(fits?|fts)(\.(fz|gz|bz2|xz|z))?$", re.IGNORECASE)
#: Largest list of files, bytes.
_MAX_LIST = 100_000_000


def find_exposures(arguments: Sequence[Path | str], survey: Survey) -> list[Path]:
    """Return the exposures that are meant by the arguments of a command.

    Parameters
    ----------
    arguments : sequence of Path or str
        FITS files; folders, of which every FITS file is meant, but not those of folders below; patterns
        (``night1/*.fits``); each of these on this machine or elsewhere (``https://...``, ``s3://...``), of which a copy
        is made; and ``@list``, a text file with one of these a line, blank lines and ``#`` comments apart.
    survey : Survey
        What its ``mask``, ``variance``, ``sky`` and ``psf`` entries name as the companion of another of the files is
        left out.

    Returns
    -------
    list of Path
        Each once, in the order of the arguments, those of a folder or a pattern by name.

    Raises
    ------
    LumosDataError
        If a folder holds no FITS file, nothing matches a pattern, or all that is left is nothing.
    LumosConfigError
        If a list cannot be read.
    """
    found = _found(arguments)
    for name in (one for one in found if is_remote(one)):
        for companion in _companions(Path(remote_name(name)), survey):
            # A stamp is the PSF of the whole image, and smaller than a cutout.
            is_stamp = survey.psf.kind == "stamp" and companion in _renamed(Path(remote_name(name)), survey.psf.sidecar)
            local_copy(remote_sibling(name, companion.name), required=False, whole=is_stamp)
    files = [local_copy(one) for one in found]
    companions = {name for path in files for name in _companions(path, survey)}
    exposures = [path for path in files if path not in companions and not _is_psf(path, survey)]
    if len(exposures) < len(files):
        logger.info("%d masks, weights and other companions of exposures left out", len(files) - len(exposures))
    return exposures


def find_files(arguments: Sequence[Path | str]) -> list[Path]:
    """Return all files that are meant, companions among them.

    Parameters
    ----------
    arguments : sequence of Path or str
        As of :func:`find_exposures`.

    Returns
    -------
    list of Path
        Each once.

    Raises
    ------
    LumosDataError, LumosConfigError
        As of :func:`find_exposures`.
    """
    return [local_copy(one) for one in _found(arguments)]


def _found(arguments: Sequence[Path | str]) -> list[str | Path]:
    return list(dict.fromkeys(path for argument in arguments for path in _expand(str(argument))))


def _expand(argument: str) -> Iterator[Path | str]:
    """Yield the files that one argument means; remote ones are text."""
    path = Path(argument)
    if is_remote(argument):
        yield from list_remote(argument, _FITS)
    elif argument.startswith("@") and not path.exists():
        lines = (line.strip() for line in read_text(Path(argument[1:]), _MAX_LIST).splitlines())
        names = [line for line in lines if line and not line.startswith("#")]
        if not names:
            raise LumosDataError(f"{argument[1:]}: names no file")
        for name in names:
            if name.startswith("@"):
                raise LumosDataError(f"{argument[1:]}: {name}: allowed: files, folders and patterns, no list in a list")
            yield from _expand(name)
    elif path.is_dir():
        found = sorted(file for file in path.iterdir() if _FITS.search(file.name) and not file.name.startswith("."))
        if not found:
            text = f"{path}: no FITS file in this folder (.fits .fit .fts, with .fz .gz .bz2 .xz or not)"
            raise LumosDataError(f"{text}; for those of the folders in it give '{path}/**/*.fits*'")
        yield from found
    elif glob.has_magic(argument) and not path.exists():
        found = sorted(map(Path, glob.glob(argument, recursive=True)))  # noqa: PTH207 (Path.glob takes no absolute one)
        if not found:
            raise LumosDataError(f"{argument}: no file matches")
        yield from found
    else:
        yield path


def _is_psf(path: Path, survey: Survey) -> bool:
    """Return whether a file's name is that of a PSF by a pattern of the survey that can mean nothing else."""
    patterns = [re.sub(r"\{\w+\}", "*", Path(name).name) for name in survey.psf.files]
    bare = re.sub(r"\.(fz|gz|bz2|xz)$", "", path.name)
    return any("psf" in name.lower() and fnmatch(bare, name) for name in patterns)


def _companions(path: Path, survey: Survey) -> Iterator[Path]:
    """Yield the files that would be the mask, variance, sky or PSF of an exposure at ``path``."""
    sources = (*survey.mask, *survey.variance, *survey.sky, *survey.noise)
    yield from _renamed(path, [*(item for source in sources for item in source.sidecar), *survey.psf.sidecar])


def _renamed(path: Path, substitutions: Sequence[Substitution]) -> Iterator[Path]:
    for substitution in substitutions:
        name = re.sub(substitution.find, substitution.replace, path.name)
        if name != path.name and Path(name).name == name:
            yield path.with_name(name)
