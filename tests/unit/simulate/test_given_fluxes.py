"""Simulated galaxies with fluxes that are given in a table."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lumos.errors import LumosConfigError, LumosDataError
from lumos.settings import load_simulation
from lumos.simulate.exposures import expose_known, simulate_survey
from lumos.simulate.field import draw_field, field_light
from lumos.simulate.given import read_fluxes
from lumos.simulate.plan import passband_of, plan_exposures

SMALL = (
    "camera.shape=[96, 96]",
    "bands=[NB455, NB845]",
    "exposures_per_band=1",
    "states=[after]",
    "background.scattered_light={}",
    "sky.stars=0",
)


def table(path, objects, **fluxes):
    pq.write_table(pa.table({"object_id": objects} | {f"flux_{band}": flux for band, flux in fluxes.items()}), path)
    return path


@pytest.fixture
def drawn(tmp_path):
    """The field without given fluxes, and a table with twice as much light in one band and half of it in the other."""
    settings = load_simulation("paucam-mini", SMALL)
    plan = plan_exposures(settings)
    field = draw_field(settings, plan[0])
    bands = [exposure.band for exposure in plan]
    flux = {band: field.galaxies.band_flux([passband_of(settings, band)])[:, 0] for band in bands}
    order = np.random.default_rng(1).permutation(len(field.object_id))
    given = {"NB455": 2 * flux["NB455"][order], "NB845": flux["NB845"][order] / 2}
    # A row of no galaxy of the field, which is left out.
    given = {band: np.append(one, 7.0) for band, one in given.items()}
    path = table(tmp_path / "given.parquet", np.append(field.object_id[order], 10**9), **given)
    return settings, plan, field, flux, path


def test_light_and_truth_are_those_that_are_given(drawn, tmp_path):
    settings, plan, field, flux, path = drawn
    changed = load_simulation("paucam-mini", [*SMALL, f"sky.fluxes={path}"])
    again = draw_field(changed, plan[0])
    # Everything but the fluxes stays.
    assert np.array_equal(again.ra, field.ra)
    assert np.array_equal(again.galaxies.redshift, field.galaxies.redshift)
    for exposure, factor in zip(plan, (2.0, 0.5), strict=True):
        before, after = (field_light(one, exposure, 0, seen)[0] for one, seen in ((settings, field), (changed, again)))
        # Pieces of profiles are cut where they are lost in the noise, brighter ones further out.
        assert after.sum() / before.sum() == pytest.approx(factor, rel=0.02)
    simulate_survey(changed, tmp_path / "out")
    truth = pq.read_table(tmp_path / "out" / "truth.parquet").to_pandas()
    for band, factor in (("NB455", 2.0), ("NB845", 0.5)):
        rows = truth[truth.band == band].set_index("object_id").loc[field.object_id]
        np.testing.assert_allclose(rows.flux, factor * flux[band], rtol=1e-12)
        np.testing.assert_array_equal(rows.redshift, field.galaxies.redshift)
    known = expose_known(changed, plan[0], 0, again).expected
    assert known.max() > expose_known(settings, plan[0], 0, field).expected.max()


def test_other_fluxes_in_the_table_are_another_survey(drawn, tmp_path):
    _, _, field, flux, path = drawn
    changed = load_simulation("paucam-mini", [*SMALL, f"sky.fluxes={path}"])
    simulate_survey(changed, tmp_path / "out")
    assert not simulate_survey(changed, tmp_path / "out").done
    table(path, field.object_id, **{band: 3 * one for band, one in flux.items()})
    with pytest.raises(LumosConfigError, match="out"):
        simulate_survey(changed, tmp_path / "out")


@pytest.mark.parametrize(
    ("objects", "fluxes", "match"),
    [
        ([1, 2], {"NB455": [1.0, 2.0]}, "no column 'flux_NB845'.*the table has: object_id, flux_NB455"),
        ([1], {"NB455": [1.0], "NB845": [1.0]}, "no row of galaxy 2, nor of 0 others"),
        ([], {"NB455": [], "NB845": []}, "no row of galaxy 1, nor of 1 others"),
        ([1, 2], {"NB455": [1.0, -2.0], "NB845": [1.0, 1.0]}, "flux_NB455 of galaxy 2 is -2, allowed"),
        ([1, 2], {"NB455": [1.0, 2.0], "NB845": [np.inf, 1.0]}, "flux_NB845 of galaxy 1 is inf, allowed"),
        ([1, 2], {"NB455": [1.0, None], "NB845": [1.0, 1.0]}, "flux_NB455 of galaxy 2 is nan, allowed"),
        ([1, 2], {"NB455": ["a", "b"], "NB845": [1.0, 1.0]}, "column 'flux_NB455' holds .*allowed: numbers"),
        ([1, 1], {"NB455": [1.0, 2.0], "NB845": [1.0, 1.0]}, "given.parquet"),
    ],
)
def test_wrong_tables_are_named(tmp_path, objects, fluxes, match):
    path = table(tmp_path / "given.parquet", pa.array(objects, pa.int64()), **fluxes)
    with pytest.raises(LumosDataError, match=match):
        read_fluxes(path, np.array([1, 2]), ["NB455", "NB845"])


def test_a_missing_table_is_named_before_anything_is_made(tmp_path):
    settings = load_simulation("paucam-mini", [*SMALL, "sky.fluxes=nowhere.parquet"])
    with pytest.raises(LumosDataError, match=r"nowhere.parquet"):
        simulate_survey(settings, tmp_path / "out")
    assert not list((tmp_path / "out").glob("exposures/*"))
