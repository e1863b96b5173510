"""What comes with the package, as text: models, surveys, flags."""

from lumos.errors import LumosValueError
from lumos.flags import FLAG_TEXT, Flag
from lumos.surveys import load_survey, read_survey_text, shipped_surveys

__all__ = ["list_flags", "list_models", "list_surveys"]


def list_models(name: str | None) -> str:
    """List the shipped models.

    Parameters
    ----------
    name : str or None
        A model, or a model folder, to show the card of.

    Returns
    -------
    str
        A line for each, or the card.

    Raises
    ------
    LumosConfigError
        If there is no such model.
    """
    from lumos.nets.bkgnet_model import BackgroundConfig  # noqa: PLC0415 (torch)
    from lumos.nets.checkpoint import find_model, read_config, read_description, shipped_models  # noqa: PLC0415

    if name is not None:
        return (find_model(name) / "README.md").read_text(encoding="utf-8")
    lines = []
    for shipped in shipped_models():
        config = read_config(shipped)
        bands = f"{len(config.bands)} bands" if config.bands else "any band"
        lines.append(f"{shipped}: {config.architecture}, {config.kind}, {bands}, PIT-KS {config.metrics['pit_ks']:.3f}")
    for shipped in shipped_models(of="background"):
        background = read_description(shipped, BackgroundConfig, "background")
        bands = f"{len(background.bands)} bands" if background.bands else "any band"
        figures = f"scatter {background.metrics['scatter']:.3f} (annulus {background.metrics['annulus_scatter']:.3f})"
        lines.append(f"{shipped}: {background.architecture}, background, {bands}, {figures} of the pixel noise")
    return "\n".join(lines)


def list_surveys(name: str | None) -> str:
    """List the shipped surveys.

    Parameters
    ----------
    name : str or None
        A survey to show the file of.

    Returns
    -------
    str
        A line for each, or the file.

    Raises
    ------
    LumosConfigError
        If there is no such survey.
    """
    if name is not None:
        return read_survey_text(name).rstrip()
    lines = []
    for shipped in shipped_surveys():
        survey = load_survey(shipped)
        bands = "any band" if survey.other_bands else f"{len(survey.bands)} bands"
        lines.append(f"{shipped}: {survey.text}; {bands}, PSF from {survey.psf.kind}")
    return "\n".join(lines)


def list_flags(value: int | None) -> str:
    """List flags with their bits and meanings.

    Parameters
    ----------
    value : int or None
        Of a ``flags`` column: those set in it; None: all.

    Returns
    -------
    str
        A line for each.

    Raises
    ------
    LumosValueError
        If the value holds bits that are no flag.
    """
    if value is not None and not 0 <= value < 2 * max(Flag):
        raise LumosValueError("flags", value, f"0 to {2 * max(Flag) - 1}")
    chosen = [flag for flag in Flag if value is None or value & flag]
    return "\n".join(f"{int(flag):>8} {flag.name}: {FLAG_TEXT[flag]}" for flag in chosen)
