"""Write the survey file of a camera from its files."""

from collections.abc import Sequence
from pathlib import Path

from lumos.cameras.describe import Camera, describe_camera
from lumos.errors import LumosConfigError, LumosDataError
from lumos.files import write_atomic
from lumos.images.reader import read_exposure
from lumos.surveys import find_files, load_survey

__all__ = ["make_survey", "write_survey"]


def make_survey(images: Sequence[Path], out: Path, *, name: str | None = None, overwrite: bool = False) -> str:
    """Describe the camera that made some files, and say what is open.

    Parameters
    ----------
    images : sequence of Path
        Files, folders, patterns, lists; masks and weights may be among them.
    out : Path
        Survey file to write.
    name : str, optional
        Name of the survey.
    overwrite : bool, optional
        Replace the file if it exists.

    Returns
    -------
    str
        What was found and what is asked.

    Raises
    ------
    LumosConfigError
        If ``out`` is no YAML file or exists.
    LumosDataError
        If no file is an exposure, they are of several cameras, the first has no WCS, or cannot be read as described.
    """
    if out.suffix not in {".yaml", ".yml"}:
        raise LumosConfigError(f"{out}: not the name of a survey file, allowed: .yaml or .yml")
    if out.exists() and not overwrite:
        raise LumosConfigError(f"{out}: exists; give a new --out, or --overwrite")
    camera = write_survey(images, out, name=name)
    lines = [f"{out}: {camera.known or 'described'} from {len(camera.exposures)} exposures; read with --survey {out}"]
    lines += [f"  ? {question}" for question in camera.questions]
    return "\n".join(lines)


def write_survey(images: Sequence[Path], out: Path, *, name: str | None = None) -> Camera:
    """Describe a camera, and write the survey file if it reads the first exposure.

    Parameters
    ----------
    images : sequence of Path
        As of :func:`make_survey`.
    out : Path
        Survey file to write.
    name : str, optional
        Name of the survey.

    Returns
    -------
    Camera
        What was written.

    Raises
    ------
    LumosDataError
        As of :func:`make_survey`; nothing is written then.
    """
    camera = describe_camera(find_files(images), name)
    out.parent.mkdir(parents=True, exist_ok=True)
    trial = out.with_name(f".{out.stem}.trial.yaml")
    write_atomic(trial, camera.text)
    try:
        for _ in read_exposure(camera.exposures[0], load_survey(trial)):
            break
    except LumosDataError as error:
        raise LumosDataError(f"{camera.exposures[0]}: not read as its own headers describe it: {error}") from error
    finally:
        trial.unlink()
    write_atomic(out, camera.text)
    return camera
