"""Units of pixels, by the names that headers give them."""

import re

__all__ = ["unit_of"]

#: Units of pixels: how they begin (small letters, without spaces), what one is called, and its zero point or the rule.
_UNITS: tuple[tuple[str, str, float | str], ...] = (
    (r"mjy/?(sr|ster)|megajansk", "MJy/sr", "mjysr"),
    (r"njy$|nanojansk", "nJy", 31.4),
    (r"(u|µ|micro)jy$|microjansk", "uJy", 23.9),
    (r"mjy$|millijansk", "mJy", 16.4),
    (r"jy$|jansky", "Jy", 8.9),
    (r"nanomagg|nmgy", "nanomaggy", 22.5),
    (r"(e-?|electrons?)(/s|s-1|/sec|persec|\*\*-1)|e-?ps$", "electron/s", "per second"),
    (r"(adu|dn|counts?|cts?)(/s|s-1|/sec|persec)|cps$|dn/s", "ADU/s", "per second"),
    (r"e-?$|electrons?$|photoelec", "electron", "counts"),
    (r"adu|dn$|counts?$|cts$|du$", "ADU", "counts"),
    (r"erg", "erg/s/cm2/Angstrom", "flam"),
)


def unit_of(text: str | None) -> tuple[str, float | str]:
    """Return the name of a pixel's unit and what its zero point is made of.

    Parameters
    ----------
    text : str or None
        Value of BUNIT.

    Returns
    -------
    name : str
        As in a survey file; ``unknown`` where it tells nothing.
    rule : float or str
        AB magnitude of one unit, or ``mjysr``, ``flam``, ``counts``, ``per second``, ``unknown``; ``other`` is a unit
        that is none of these.
    """
    written = re.sub(r"[\s()]", "", str(text or ""))
    plain = written.lower()
    # mJy and MJy differ by their case alone: neither mJy/sr nor MJy is a unit of pixels, each would be off by 1e9.
    if re.match(r"mJy/|MJ[yY]$", written):
        return "unknown", "other"
    for pattern, name, rule in _UNITS:
        if plain and re.match(pattern, plain):
            return name, rule
    return "unknown", "unknown"
