"""Magnitudes, errors and limits against closed forms and quantiles by scipy."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from helpers.coadd_tables import DARK, UNMEASURED, write_coadd
from helpers.flux_runs import exposure, write_run
from lumos.errors import LumosDataError
from lumos.exports.points import point_columns, point_tables
from lumos.exports.source import open_source
from lumos.pdf import GaussianMixture


def test_bright_gaussian_has_the_errors_of_its_quantiles():
    columns = point_columns(GaussianMixture([[1.0]], [[1000.0]], [[50.0]]), is_calibrated=True)
    assert columns["magnitude"][0] == pytest.approx(31.4 - 2.5 * 3, abs=1e-5)
    assert columns["magnitude_err_lower"][0] == pytest.approx(2.5 * np.log10(1.05), abs=1e-4)
    assert columns["magnitude_err_upper"][0] == pytest.approx(-2.5 * np.log10(0.95), abs=1e-4)
    assert columns["flux_limit_95"][0] == pytest.approx(1000 + 50 * stats.norm.ppf(0.95), rel=1e-6)


def test_limit_holds_95_per_cent_of_a_mixture():
    pdf = GaussianMixture([[0.7, 0.3]], [[5.0, 20.0]], [[10.0, 40.0]])
    limit = float(point_columns(pdf, is_calibrated=True)["flux_limit_95"][0])
    below = 0.7 * stats.norm.cdf(limit, 5, 10) + 0.3 * stats.norm.cdf(limit, 20, 40)
    assert below == pytest.approx(0.95, abs=1e-6)


def test_non_detection_has_a_limit_and_no_magnitude():
    columns = point_columns(GaussianMixture([[1.0]], [[-5.0]], [[10.0]]), is_calibrated=True)
    assert np.isnan(columns["magnitude"][0])
    assert np.isnan(columns["magnitude_err_upper"][0])
    expected = 31.4 - 2.5 * np.log10(-5 + 10 * stats.norm.ppf(0.95))
    assert columns["magnitude_limit_95"][0] == pytest.approx(expected, abs=1e-5)


def test_detection_that_may_be_arbitrarily_faint():
    columns = point_columns(GaussianMixture([[1.0]], [[5.0]], [[10.0]]), is_calibrated=True)
    assert np.isfinite(columns["magnitude"][0])
    assert np.isfinite(columns["magnitude_err_lower"][0])
    assert np.isnan(columns["magnitude_err_upper"][0])


def test_fluxes_without_a_zero_point_have_no_magnitude():
    columns = point_columns(GaussianMixture([[1.0]], [[1000.0]], [[50.0]]), is_calibrated=False)
    assert np.isnan(columns["magnitude"][0])
    assert np.isnan(columns["magnitude_limit_95"][0])
    assert columns["flux_limit_95"][0] > 1000


def test_rows_of_a_coadd(tmp_path):
    mixture = write_coadd(tmp_path / "c.parquet")
    (table,) = point_tables(open_source(tmp_path / "c.parquet"))
    median = mixture.quantile(0.5)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(table["magnitude"].to_numpy(), 31.4 - 2.5 * np.log10(median), atol=1e-5)
    objects, bands = table["object_id"].to_numpy(), table["band"].to_numpy(zero_copy_only=False)
    dark = (objects == 100 + DARK) & (bands == "g")
    bare = (objects == 100 + UNMEASURED) & (bands == "r")
    assert np.isfinite(table["flux_limit_95"].to_numpy()[dark]).all()
    assert np.isnan(table["flux_limit_95"].to_numpy()[bare]).all()
    assert table.schema.field("magnitude").metadata[b"ucd"] == b"phot.mag"
    assert table.schema.field("flux_limit_95").metadata[b"unit"] == b"nJy"


def test_all_rows_of_a_run(tmp_path):
    objects = np.arange(5)
    parts = [exposure(name, objects, 100.0 + objects, 5.0) for name in ("a", "b")]
    source = open_source(write_run(tmp_path / "run", parts))
    tables = list(point_tables(source))
    assert sum(table.num_rows for table in tables) == source.n_rows == 10
    expected = 31.4 - 2.5 * np.log10(100.0 + objects)
    np.testing.assert_allclose(tables[1]["magnitude"].to_numpy(), expected, atol=1e-4)


def test_without_pdfs(tmp_path):
    write_coadd(tmp_path / "c.parquet")
    drop_pdfs(tmp_path / "c.parquet", tmp_path / "d.parquet")
    with pytest.raises(LumosDataError, match=r"d.parquet: has no columns of PDFs"):
        next(point_tables(open_source(tmp_path / "d.parquet")))


def drop_pdfs(path, out):
    table = pq.read_table(path)
    pq.write_table(table.drop_columns([name for name in table.column_names if name.startswith("pdf_")]), out)
