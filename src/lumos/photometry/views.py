"""What an object was measured on: its stamp, its model, its neighbours, and what is left."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lumos.conventions import AB_ZEROPOINT_NJY, AnyArray, FloatArray
from lumos.images.exposure import Exposure
from lumos.photometry.batches import stamp_batch
from lumos.photometry.ccd import Ccd, in_handy_units, object_batches, prepare_ccd
from lumos.photometry.injected import inject_table
from lumos.photometry.measured import MeasuredRun
from lumos.photometry.objects import catalog_near, on_image, place_objects
from lumos.photometry.scene import SCENE_REACH

__all__ = ["StampView", "measured_ccd", "view_stamp"]


@dataclass(frozen=True)
class StampView:
    """The stamp of one object; light without the background, in units of the noise of sky and neighbours.

    Parameters
    ----------
    pixels : float array, shape (size, size)
        As they are in the exposure.
    neighbours : float array, shape (size, size)
        Light of the catalogue's other objects, which was subtracted; 0 where the run subtracts none.
    model : float array, shape (size, size)
        Profile of the object, with its flux; NaN where it has none.
    mask : int array, shape (size, size)
        Bits of :class:`lumos.flags.MaskPlane`.
    good : bool array, shape (size, size)
        Pixels that were used.
    x, y : float
        Position of the object on the stamp, 0-based pixels.
    """

    pixels: FloatArray
    neighbours: FloatArray
    model: FloatArray
    mask: AnyArray
    good: AnyArray
    x: float
    y: float

    @property
    def residual(self) -> FloatArray:
        """Return what neither the model nor neighbours explain, shape (size, size)."""
        return self.pixels - self.neighbours - self.model


def measured_ccd(run: MeasuredRun, exposure: Exposure) -> Ccd:
    """Prepare a CCD as a run did before it measured it.

    Parameters
    ----------
    run : MeasuredRun
        A run.
    exposure : Exposure
        CCD of one of its exposures, as it is read.

    Returns
    -------
    Ccd
        With all objects that the run measured on it, and the galaxies that it put in.
    """
    injected = run.content.get("injected")
    if injected is not None:
        exposure = inject_table(exposure, Path(injected["path"]), run.settings)
    handy, unit = in_handy_units(exposure)
    around = place_objects(exposure, catalog_near(exposure, run.read_catalog()), run.settings, margin=SCENE_REACH)
    return prepare_ccd(handy, unit, around, on_image(around, exposure), run.settings)


def view_stamp(ccd: Ccd, number: int, flux: float) -> StampView | None:
    """Return the stamp of an object.

    Parameters
    ----------
    ccd : Ccd
        As :func:`measured_ccd` prepares it.
    number : int
        Which of its objects.
    flux : float
        Its measured flux, nJy, or image units where there is no zero point.

    Returns
    -------
    StampView or None
        None where the object has no shape or no PSF, so that it has no stamp.
    """
    one = ccd.take(np.array([number]))
    rows = next(iter(object_batches(one.objects, one.settings)), None)
    if rows is None:
        return None
    batch, cutout, _ = stamp_batch(one, rows)
    noise = batch.sky_variance.expand(batch.data.shape)[0].sqrt().double().numpy()
    clean = (batch.data[0] - batch.background[0]).double().numpy()
    others = np.zeros_like(clean)
    if batch.scene is not None and one.cleans:
        others = batch.scene.others[0].double().numpy()
    mask = cutout.stamps.mask[0, cutout.inner, cutout.inner]
    model = flux / _flux_unit(ccd) * batch.profile[0].double().numpy()
    return StampView(
        pixels=(clean + others) / noise,
        neighbours=others / noise,
        model=model / noise,
        mask=mask,
        good=batch.good[0].numpy(),
        x=float(batch.x[0]),
        y=float(batch.y[0]),
    )


def _flux_unit(ccd: Ccd) -> float:
    """Return nJy (or image units, where there is no zero point) per unit of the stamps."""
    zeropoint = ccd.exposure.zeropoint
    return ccd.unit * (10 ** (0.4 * (AB_ZEROPOINT_NJY - zeropoint)) if np.isfinite(zeropoint) else 1.0)
