"""What comes with the package, as text: models, surveys, flags."""

from lumos.errors import LumosValueError
from lumos.exports.formats import RUBIN_FLAGS
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


def list_flags(value: str | None) -> str:
    """List flags with their bits and meanings.

    Parameters
    ----------
    value : str or None
        Number of a ``flags`` column: those set in it. Name of a flag, or of a column of flags that ``lumos export``
        writes with Rubin's names: the flags that set it. None: all.

    Returns
    -------
    str
        A line for each; one that says so where the number is 0.

    Raises
    ------
    LumosValueError
        If the number holds bits that are no flag, or there is no such name.
    """
    chosen = list(Flag) if value is None else list(_flags_of(value))
    if not chosen:
        return "0: no flag is set"
    return "\n".join(f"{int(flag):>8} {flag.name}: {FLAG_TEXT[flag]}" for flag in chosen)


def _flags_of(value: str) -> Flag:
    """Return the flags that a number or a name stands for."""
    # Of a band, as g_cModel_flag.
    exported = next((flag for name, flag in RUBIN_FLAGS.items() if value == name or value.endswith(f"_{name}")), None)
    if exported is not None:
        return exported
    if value.upper() in Flag.__members__:
        return Flag[value.upper()]
    try:
        number = int(value)
    except ValueError:
        names = ", ".join([*Flag.__members__, *RUBIN_FLAGS])
        raise LumosValueError("flags", value, f"a number, or one of {names}") from None
    if not 0 <= number < 2 * max(Flag):
        raise LumosValueError("flags", number, f"0 to {2 * max(Flag) - 1}")
    return Flag(number)
