"""The engine of `lumos photoz` beside eazy-py: the same templates, curves, redshifts and fluxes, galaxy by galaxy.

Run: ``python benchmarks/photoz_eazy.py DATA [--n 300]``; DATA is the folder that ``eriksen2019`` needs, with
``kcorrect``, ``speclite`` and ``brown2014``. Both fit sums of templates with amplitudes of at least 0, without a
prior, a template error or free scales. First eazy-py fits the fluxes of templates that Lumos computed, then its own.
Curves are put on even points and templates get more, for both: eazy-py integrates by the trapezoidal rule at the points
of curves.
"""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np

from lumos.conventions import FloatArray
from lumos.photoz.bcnz.likelihood import GaussianLight
from lumos.photoz.bcnz.search import fit_redshifts
from lumos.photoz.estimates import RedshiftPdf
from lumos.photoz.models import ModelGrid
from lumos.photoz.settings import PhotozSettings
from lumos.spectra.curves import Curve
from lumos.spectra.igm import madau_transmission
from lumos.spectra.redshifted import redshifted_fluxes
from lumos.spectra.templates import Template

#: Settings that do what eazy-py does: one sum of templates, everywhere.
PLAIN = PhotozSettings(coarse=1, margin=1e9, floor=0.0, min_snr=-1e9, free_scale=False, soften=False)


def lumos_models(
    spectra: Mapping[str, Template], curves: Mapping[str, Curve], redshifts: FloatArray, *, igm: bool = False
) -> ModelGrid:
    """Return the fluxes of one sum of templates, by Lumos."""
    law = madau_transmission if igm else None
    parts = [
        redshifted_fluxes(one.wavelength, one.flux[None], list(curves.values()), redshifts, law)
        for one in spectra.values()
    ]
    fluxes = np.concatenate(parts, axis=1)
    fluxes /= fluxes.max(axis=(0, 2), keepdims=True)
    narrow = np.zeros(len(curves), dtype=bool)
    return ModelGrid(redshifts, tuple(curves), narrow, ("sum",), (fluxes,), (tuple(spectra),))


def eazy_models(
    spectra: Mapping[str, Template],
    curves: Sequence[Curve],
    redshifts: FloatArray,
    *,
    igm: bool = False,
) -> FloatArray:
    """Return the fluxes of templates by eazy-py, shape (n_z, n_templates, n_bands), each up to a factor for each z."""
    # eazy-py and its progress bars are talkative.
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        from eazy.filters import FilterDefinition  # noqa: PLC0415 - an extra
        from eazy.photoz import TemplateGrid  # noqa: PLC0415
        from eazy.templates import Template as EazyTemplate  # noqa: PLC0415

        templates = [
            EazyTemplate(arrays=(10 * one.wavelength, one.flux), name=name, verbose=False)
            for name, one in spectra.items()
        ]
        filters = [
            FilterDefinition(name="band", wave=10 * curve.wavelength, throughput=curve.response) for curve in curves
        ]
        # One process, and numbers of full precision.
        how = {"add_igm": igm, "n_proc": -1, "verbose": 0, "array_dtype": np.float64}
        grid = TemplateGrid(redshifts, templates, filters=filters, **how)
    return np.asarray(grid.tempfilt)


def dense(
    spectra: Mapping[str, Template], curves: Mapping[str, Curve], redshifts: FloatArray, step: float = 1e-3
) -> tuple[dict[str, Template], dict[str, Curve]]:
    """Return curves on even points of a relative step, and the same spectra with more points."""
    seen = [curve.limits for curve in curves.values()]
    low, high = min(one[0] for one in seen) / (1 + redshifts[-1]), max(one[1] for one in seen) / (1 + redshifts[0])
    even = {band: _points(*curve.limits, step) for band, curve in curves.items()}
    return (
        {name: one.on(_points(low, high, step)) for name, one in spectra.items()},
        {band: Curve(points, curves[band].at(points)) for band, points in even.items()},
    )


def _points(low: float, high: float, step: float) -> FloatArray:
    return np.exp(np.linspace(np.log(low), np.log(high), max(int(np.log(high / low) / step), 30)))


def eazy_chi2(models: FloatArray, flux: FloatArray, error: FloatArray, template_error: FloatArray) -> FloatArray:
    """Return chi2 by eazy-py, shape (n_z, n); template errors, shape (n_z, n_bands), are shares of the fluxes."""
    with redirect_stdout(StringIO()):
        from eazy.photoz import fit_by_redshift  # noqa: PLC0415 - an extra

    return np.stack([
        fit_by_redshift(number, 0.0, one, flux, error, more, np.ones(flux.shape[1]), 0, "nnls", True, 1)[1]
        for number, (one, more) in enumerate(zip(models, template_error, strict=True))
    ])  # fmt: skip


def lumos_chi2(grid: ModelGrid, flux: FloatArray, error: FloatArray) -> FloatArray:
    """Return chi2 by the engine of Lumos, shape (n_z, n)."""
    used = np.isfinite(error) & (error > 0)
    weights = np.where(used, 1 / np.where(used, error, 1.0) ** 2, 0.0)
    return fit_redshifts(grid, GaussianLight(weights.T.copy(), np.where(used, flux, 0.0).T.copy()), PLAIN).chi2


def compare(name: str, chi2: tuple[FloatArray, FloatArray], redshifts: FloatArray) -> str:
    """Return a line of the table: differences of chi2(z), of its minimum and of zb."""
    ours, theirs = chi2
    size = np.maximum(theirs, 1.0)
    every = np.abs(ours - theirs) / size
    least = np.abs(ours.min(axis=0) - theirs.min(axis=0)) / np.maximum(theirs.min(axis=0), 1.0)
    zb = [RedshiftPdf.of(redshifts, -one / 2).best()[0] for one in chi2]
    moved = np.abs(zb[0] - zb[1]) / (1 + zb[1])
    return (
        f"{name:<44}{ours.shape[1]:>5}{np.median(every):>10.1e}{np.quantile(every, 0.99):>10.1e}"
        f"{np.median(least):>10.1e}{least.max():>10.1e}{np.median(moved):>10.1e}{np.mean(moved < 1e-3):>10.1%}"
    )


HEAD = f"{'':<44}{'n':>5}{'chi2(z)':>10}{'99 %':>10}{'chi2 min':>10}{'largest':>10}{'zb':>10}{'< 1e-3':>10}"


def main() -> None:
    """Print the table."""
    from photoz_sets import brown_mock, kcorrect_templates, sdss  # noqa: PLC0415 - beside this file

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--n", type=int, default=300, help="galaxies")
    options = parser.parse_args()
    print(HEAD)
    few, many = sdss(options.data, options.n), brown_mock(options.data, options.n)
    cosmos = {name: many.spectra[name] for name in ("Ell1", "Ell6", "Sc", "SB0", "SB4", "SB11")}
    three = {name: cosmos[name] for name in ("Ell1", "Sc", "SB4")}
    five = kcorrect_templates(options.data)
    for name, galaxies, spectra, redshifts in (
        ("SDSS ugriz, 5 templates of kcorrect", few, five, np.arange(0.005, 0.5, 0.005)),
        ("SDSS ugriz, 3 COSMOS templates", few, three, np.arange(0.005, 0.5, 0.005)),
        ("mock in 46 bands, 6 COSMOS templates", many, cosmos, np.arange(0.02, 1.2, 0.02)),
    ):
        some, curves = dense(spectra, galaxies.curves, redshifts)
        grid = lumos_models(some, curves, redshifts)
        flux, error = galaxies.photometry.flux, galaxies.photometry.flux_err
        ours, none = lumos_chi2(grid, flux, error), np.zeros((len(redshifts), flux.shape[1]))
        theirs = eazy_chi2(grid.fluxes[0], flux, error, none)
        print(compare(f"{name}: fits", (ours, theirs), redshifts), flush=True)
        if galaxies is few:
            # In 46 bands this takes eazy-py minutes.
            models = eazy_models(some, list(curves.values()), redshifts)
            theirs = eazy_chi2(models, flux, error, none)
            print(compare("  and fluxes of templates", (ours, theirs), redshifts), flush=True)


if __name__ == "__main__":
    main()
