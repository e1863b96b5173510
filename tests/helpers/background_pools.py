"""Pools of background stamps made from arrays, for the tests of simulated stamps."""

import numpy as np

from lumos.pools.pool import BackgroundPool
from lumos.pools.writer import NewStamps, PoolWriter
from lumos.psfs import MoffatPsf

FACTS = {
    "exposure_id": "a",
    "detector": "1",
    "survey": "generic",
    "band": "r",
    "state": "",
    "file": "a.fits",
    "wavelength": 620.0,
    "gain": 2.0,
    "zeropoint": 27.0,
    "exposure_time": 100.0,
    "pixel_scale": 0.25,
    "noise_source": "scatter",
    "correlation": None,
    "status": "used",
}


def new_stamps(data, *, mask=None, variance=None, sky_variance=25.0, psf=None, psf_fwhm=4.0, ccd=(400, 600)):
    """Return stamps of one CCD; places on the CCD are those of a diagonal."""
    n = len(data)
    psf = MoffatPsf(np.full(1, psf_fwhm), np.full(1, 3.5)) if psf is None else psf
    return NewStamps(
        data=np.asarray(data, dtype=np.float32),
        mask=np.zeros(data.shape, dtype=np.int32) if mask is None else mask,
        sky_variance=np.broadcast_to(np.float64(sky_variance), (n,)),
        x=np.linspace(0, ccd[1] - 1, n),
        y=np.linspace(0, ccd[0] - 1, n),
        ccd_shape=ccd,
        psf=psf,
        psf_fwhm=np.broadcast_to(np.float64(psf_fwhm), (n,)),
        variance=variance,
    )


def write_pool(path, *ccds):
    """Write a pool from tuples (facts that differ from FACTS, NewStamps or None)."""
    side = next(stamps.data.shape[1] for _, stamps in ccds if stamps is not None)
    writer = PoolWriter(path, side, {})
    for number, (facts, stamps) in enumerate(ccds):
        writer.add(f"{number}.fits", [({**FACTS, **facts}, stamps)])
    writer.finish({}, [facts for entry in writer.entries for facts in entry["exposures"]])
    return path


def flat_pool(path, rng, n=64, *, side=96, level=100.0, scatter=5.0, facts=None, **options):
    """Return an open pool of one CCD with Gaussian noise on a flat sky."""
    data = rng.normal(level, scatter, (n, side, side)).astype(np.float32)
    stamps = new_stamps(data, sky_variance=scatter**2, **options)
    return BackgroundPool.open(write_pool(path, (facts or {}, stamps)))
