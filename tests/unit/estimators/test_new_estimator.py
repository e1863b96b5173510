"""An estimator of one's own: one function, one registration; its PDF, column and option come out of `measure`."""

from typing import Annotated

import numpy as np
import pytest
import torch
from pydantic import Field

from helpers.measured_runs import catalog_at, run, write_exposure
from lumos.catalogs.schema import Column
from lumos.config import StageSettings
from lumos.errors import LumosConfigError
from lumos.estimators import ESTIMATORS, Estimator, Measurement, Mixture, optimal
from lumos.flags import NAN_FLUX
from lumos.photometry.settings import MeasureSettings
from lumos.runs.shards import read_shards


class TwoWidthsOptions(StageSettings):
    """Options of the estimator of this test."""

    wide: Annotated[float, Field(gt=1)] = 3.0
    """Width of the tails in units of the error."""


def two_widths(batch, *, wide, max_masked):
    """The optimal flux with a likelihood that has tails, and the brightest pixel."""
    linear = optimal(batch, max_masked=max_masked)
    flux, error = linear.flux.double()[:, None], linear.flux_err.double()[:, None]
    weights = torch.tensor([[0.8, 0.2]], dtype=torch.float64).expand(len(batch), 2)
    pdf = Mixture(
        torch.where(flux.isnan(), torch.nan, weights),
        flux.expand(-1, 2),
        torch.cat([error, wide * error], 1),
        torch.zeros(len(batch), dtype=torch.bool),
    )
    peak = (batch.data - batch.background[:, None, None]).amax((1, 2))
    return Measurement(linear.flux, linear.flux_err, linear.flags, pdf=pdf, columns={"peak_pixel": peak})


TWO_WIDTHS = Estimator(
    "two_widths",
    two_widths,
    TwoWidthsOptions,
    columns=(Column("peak_pixel", "float32", "{flux}", "phot.flux", "brightest pixel of the stamp"),),
    n_components=2,
)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(ESTIMATORS, TWO_WIDTHS.name, TWO_WIDTHS)


@pytest.mark.usefixtures("registered")
def test_an_estimator_of_ones_own(tmp_path, rng):
    # The third object has no shape.
    catalog = catalog_at([100, 50, 150], [100, 50, 60], sersic_n=np.array([1.0, 1.0, np.nan]))
    path = write_exposure(tmp_path / "a.fits", rng)
    names = ("two_widths", "optimal")
    settings = MeasureSettings(estimators=names, default="two_widths", options={"two_widths": {"wide": 4.0}})
    run(tmp_path, [path], catalog, settings=settings)
    table = read_shards(tmp_path / "run")
    column = {name: np.array(table[name].to_pylist()) for name in table.column_names}
    np.testing.assert_array_equal(column["pdf_weights"][:2], np.full((2, 2), [0.8, 0.2], dtype=np.float32))
    np.testing.assert_allclose(column["pdf_stds"][:2, 1], 4 * column["pdf_stds"][:2, 0], rtol=1e-6)
    np.testing.assert_allclose(column["flux"][:2], column["optimal_flux"][:2], rtol=1e-6)
    # Half the central 68 % of the mixture, which its tails make wider than the Gaussian's.
    assert (column["flux_err"][:2] > 1.05 * column["optimal_flux_err"][:2]).all()
    assert np.isnan(column["flux"][2])
    assert column["flags"][2] & int(NAN_FLUX)
    assert table.schema.field("peak_pixel").metadata[b"unit"] == b"nJy"
    # A zero point of 27 makes 5.75 nJy of one image unit; noise of 5 units in 3600 pixels.
    assert (column["peak_pixel"][:2] > 2 * 5 * 10 ** (0.4 * (31.4 - 27))).all()


@pytest.mark.usefixtures("registered")
def test_two_estimators_with_pdfs_stand_side_by_side(tmp_path, rng):
    path = write_exposure(tmp_path / "a.fits", rng)
    settings = MeasureSettings(estimators=("two_widths",), model="generic")
    run(tmp_path, [path], catalog_at([100, 50], [100, 50]), settings=settings)
    table = read_shards(tmp_path / "run")
    assert table["pdf_weights"].type.list_size > 2
    np.testing.assert_array_equal(table["flux"].to_numpy(), table["lumos_flux"].to_numpy())
    assert np.isfinite(table["two_widths_flux"].to_numpy()).all()


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"two_widths": {"wide": 0.5}},
            r"measure\.options\.two_widths: wide: got 0\.5, Input should be greater than 1",
        ),
        ({"two_widths": {"width": 2}}, r"measure\.options\.two_widths: unknown key 'width', allowed: wide"),
        ({"optimal": {"n": 2}}, r"measure\.options\.optimal: unknown key 'n', allowed: "),
        ({"psf": {}}, "unknown estimator 'psf', allowed: aperture"),
    ],
)
def test_wrong_options_are_refused(tmp_path, rng, options, message):
    path = write_exposure(tmp_path / "a.fits", rng)
    settings = MeasureSettings(estimators=("two_widths", "optimal"), options=options)
    with pytest.raises(LumosConfigError, match=message):
        run(tmp_path, [path], catalog_at([100], [100]), settings=settings)
    assert not (tmp_path / "run").exists()
