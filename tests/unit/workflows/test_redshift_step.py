"""The step of `lumos run` from a coadd to redshifts."""

import logging
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from lumos.catalogs.schema import coadd_schema, to_arrow
from lumos.coadds.settings import CoaddSettings
from lumos.errors import LumosConfigError
from lumos.photoz.models import build_grid
from lumos.photoz.run import read_redshifts
from lumos.photoz.settings import PhotozSettings
from lumos.photoz.templates import load_models
from lumos.workflows.redshift_step import check_redshifts, inputs_of_run, redshift_step

TEMPLATES = """
redshifts: {low: 0.1, high: 0.9, step: 0.01}
bands: [{names: [NB455, NB515, NB575, NB635, NB695, NB755, NB815], narrow: true}]
templates: [{closed_forms: {red: [2.429, 9.636, 3.654, 1.777, 0.043], blue: [0.344, -1.467, 0.501, 0.651, 0.559]}}]
runs: [{name: quiet, templates: [red, blue]}]
"""
LIKELIHOODS = CoaddSettings(prior="none")


@pytest.fixture
def inputs(tmp_path):
    """A coadd of five galaxies that are sums of the two templates."""
    (tmp_path / "templates.yaml").write_text(TEMPLATES)
    grid = build_grid(load_models(tmp_path / "templates.yaml"))
    flux = 1000 * grid.fluxes[0][10:60:10].sum(axis=1).ravel()
    schema = coadd_schema(["lumos"], "mixture", 1, {"prior": "none"})
    columns = {field.name: np.ones(len(flux)) for field in schema}
    columns |= {"object_id": np.repeat(np.arange(5), len(grid.bands)), "band": np.tile(grid.bands, 5)}
    columns |= {"flux": flux, "flux_err": flux / 50, "pdf_weights": np.ones((len(flux), 1))}
    columns |= {"pdf_means": flux[:, None], "pdf_stds": flux[:, None] / 50}
    pq.write_table(to_arrow(columns, schema), tmp_path / "coadd.parquet")
    return inputs_of_run(str(tmp_path / "templates.yaml"), None, None, tmp_path, PhotozSettings())


def test_redshifts_lie_beside_the_coadd_and_their_command_is_told(inputs, tmp_path):
    told = []
    settings = PhotozSettings(likelihood="pdf")
    check_redshifts(inputs, settings)
    redshift_step(inputs, tmp_path / "run", LIKELIHOODS, settings, lambda *words: told.append(words))
    table, _ = read_redshifts(tmp_path / "redshifts")
    np.testing.assert_allclose(table["zb"].to_numpy(), 0.1 + 0.01 * np.arange(10, 60, 10), atol=0.02)
    [(text, *words)] = told
    assert "5 galaxies" in text
    command = ["photoz", tmp_path / "coadd.parquet", "--templates", inputs.templates, "--likelihood", "pdf"]
    assert words == [*command, "--out", tmp_path / "redshifts"]
    # Again: finished before.
    redshift_step(inputs, tmp_path / "run", LIKELIHOODS, settings, lambda *words: told.append(words))
    assert told[1][0].endswith("finished before")


def test_a_failure_is_told_and_does_not_stop_the_rest(inputs, tmp_path, caplog):
    told = []
    settings = PhotozSettings(bands={"NB455": "NB455", "r": "r"})
    with caplog.at_level(logging.WARNING):
        redshift_step(inputs, tmp_path / "run", LIKELIHOODS, settings, lambda *words: told.append(words))
    [(text,)] = told
    assert text.startswith("no redshifts: photoz.bands: 'r' is no band of")
    assert "no redshifts" in caplog.text
    # A coadd with a prior is made anew, of a run that is not there.
    redshift_step(inputs, tmp_path / "run", CoaddSettings(), PhotozSettings(), lambda *words: told.append(words))
    assert told[1][0].startswith(f"no redshifts: {tmp_path / 'run'}")
    assert not (tmp_path / "redshifts").exists()


def test_what_is_wrong_is_refused_before_anything_is_measured(inputs, tmp_path):
    with pytest.raises(LumosConfigError, match="nothing"):
        check_redshifts(replace(inputs, templates="nothing"), PhotozSettings())
    networks = PhotozSettings(method="deepz")
    with pytest.raises(LumosConfigError, match="--data is for --method bcnz, got --method deepz"):
        check_redshifts(inputs_of_run("folder", tmp_path, None, tmp_path, networks), networks)
