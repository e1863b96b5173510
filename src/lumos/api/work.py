"""Work through images one by one; one bad file does not stop the others."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from lumos.api.arguments import Image
from lumos.errors import LumosError, one_line
from lumos.images.exposure import Exposure

__all__ = ["refuse_all", "work_through"]

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
#: Most failures that a message names.
_MOST_NAMED = 5


def work_through(
    images: Sequence[Image], work: Callable[[Exposure], Result], *, by_ccd: bool = False
) -> tuple[dict[str, list[Result]], dict[str, str]]:
    """Do something with every CCD of every image.

    Parameters
    ----------
    images : sequence of Image
        What :func:`give_images` returned.
    work : callable
        Takes an exposure.
    by_ccd : bool, optional
        Keep the other CCDs of a file of which one fails; else the file is left out.

    Returns
    -------
    results : dict
        By image, what came of its CCDs.
    failed : dict
        Reason by file, or CCD of a file; an object in memory that fails raises.
    """
    results: dict[str, list[Result]] = {}
    failed: dict[str, str] = {}
    for image in images:
        done: list[Result] = []
        try:
            for exposure in image.read():
                try:
                    done.append(work(exposure))
                except LumosError as error:
                    if not (by_ccd and image.is_file):
                        raise
                    failed[f"{image.name}, detector {exposure.detector}"] = str(error)
            results[image.name] = done
        except Exception as error:
            if not image.is_file:
                raise
            # A foreseen error names the file; another one gets the file and its type.
            reason = one_line(error)
            failed[image.name] = reason if isinstance(error, LumosError) else f"{image.name}: {reason}"
    return results, failed


def refuse_all(failed: Mapping[str, str], *, all_failed: bool) -> None:
    """Refuse a call of which nothing is left; what failed of another is logged.

    Parameters
    ----------
    failed : mapping
        Reason by file.
    all_failed : bool
        Whether nothing is left.

    Raises
    ------
    LumosError
        If all failed; the first reasons are named.
    """
    if not all_failed:
        for reason in failed.values():
            logger.warning("failed: %s", reason)
        return
    reasons = list(failed.values())
    more = [f"and {len(reasons) - _MOST_NAMED} more"] if len(reasons) > _MOST_NAMED else []
    raise LumosError("; ".join([*reasons[:_MOST_NAMED], *more]))
