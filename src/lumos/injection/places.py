"""Places for injected galaxies: anywhere, where nothing is, and beside objects; and for none, to measure the sky."""

import numpy as np

from lumos.conventions import FloatArray, IntArray
from lumos.flags import good_pixels
from lumos.images.exposure import Exposure
from lumos.injection.settings import InjectSettings
from lumos.photometry.objects import PlacedObjects
from lumos.simulate.inject import draw_positions, far_apart

__all__ = ["PLACES", "SKY", "draw_places"]

#: Kinds of places; at the last, which are empty too, the flux is 0.
PLACES = ("anywhere", "empty", "beside", "sky")
SKY = PLACES.index("sky")
#: Places tried for each that is wanted.
_TRIES = 6


def draw_places(
    exposure: Exposure,
    objects: PlacedObjects,
    taken: tuple[FloatArray, FloatArray],
    n: int,
    settings: InjectSettings,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray, IntArray, FloatArray]:
    """Draw places on a CCD.

    Parameters
    ----------
    exposure : Exposure
        With a PSF.
    objects : PlacedObjects
        Of the catalogue.
    taken : tuple of two float array
        x and y of galaxies that are there already.
    n : int
        How many are wanted.
    settings : InjectSettings
        Kinds of places, and how far they are apart.
    rng : numpy.random.Generator
        The same state gives the same places.

    Returns
    -------
    x, y : float array, shape (k,)
        Usable pixels; k is at most n.
    place : int array, shape (k,)
        Entries of ``PLACES``.
    distance : float array, shape (k,)
        Distance from the object that a place is beside, FWHM; NaN for the others.
    """
    assert exposure.psf is not None
    shares = (1 - settings.empty - settings.beside - settings.sky, settings.empty, settings.beside, settings.sky)
    numbers = [int(np.ceil(_TRIES * n * share)) for share in shares]
    nobody = np.zeros(0), np.zeros(0)
    x, y, place, distance = [], [], [], []
    clear = settings.clearance
    known = objects.x, objects.y
    for kind, avoid, least in ((0, nobody, 0.0), (1, known, clear), (SKY, known, clear)):
        found = draw_positions(exposure, numbers[kind], rng, avoid, distance=1e-3, clearance=least)
        x.append(found[0])
        y.append(found[1])
        place.append(np.full(len(found[0]), kind))
        distance.append(np.full(len(found[0]), np.nan))
    if len(objects) and numbers[2]:
        beside = rng.integers(len(objects), size=numbers[2])
        low, high = settings.beside_range
        away, angle = rng.uniform(low, high, numbers[2]), rng.uniform(0, 2 * np.pi, numbers[2])
        step = away * objects.psf_fwhm[beside]
        x.append(objects.x[beside] + step * np.cos(angle))
        y.append(objects.y[beside] + step * np.sin(angle))
        place.append(np.full(numbers[2], 2))
        distance.append(away)
    order = rng.permutation(sum(map(len, x)))
    found_x, found_y, found_place, found_distance = (np.concatenate(v)[order] for v in (x, y, place, distance))
    ny, nx = exposure.shape
    inside = (found_x >= 0) & (found_x <= nx - 1) & (found_y >= 0) & (found_y <= ny - 1)
    rows = np.flatnonzero(inside)
    pixels = np.rint(found_y[rows]).astype(int), np.rint(found_x[rows]).astype(int)
    rows = rows[good_pixels(exposure.mask)[pixels] & np.isfinite(exposure.psf.fwhm_at(found_x[rows], found_y[rows]))]
    all_x, all_y = np.append(taken[0], found_x[rows]), np.append(taken[1], found_y[rows])
    chosen = far_apart(all_x, all_y, settings.distance)
    rows = rows[chosen[chosen >= len(taken[0])] - len(taken[0])][:n]
    return found_x[rows], found_y[rows], found_place[rows], found_distance[rows]
