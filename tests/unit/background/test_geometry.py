"""Stamps and their annuli: what cannot be, how they grow, and that a model measures only those it knows."""

import json

import numpy as np
import pytest

from lumos.background.geometry import STANDARD_GEOMETRY, StampGeometry
from lumos.errors import LumosConfigError
from lumos.nets.checkpoint import read_config, shipped_models
from lumos.nets.model import ModelConfig
from lumos.photometry.exposure import estimators_of
from lumos.photometry.settings import MeasureSettings
from lumos.pools.settings import BackgroundSettings
from lumos.teahupoo.settings import StampSettings
from lumos.training.data import model_config
from lumos.training.settings import PoolSettings, TrainSettings

STAGES = (MeasureSettings, BackgroundSettings, StampSettings)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((61, 30, 45), "stamp_size=61 must be even, and at least 20"),
        ((18, 30, 45), "stamp_size=18 must be even, and at least 20"),
        ((60, 50, 20), "annulus_inner=50 must be less than annulus_outer=20"),
        ((60, 45, 45), "annulus_inner=45 must be less than annulus_outer=45"),
        ((60, 30, np.nan), "annulus_inner=30 must be less than annulus_outer=nan"),
        ((60, 44.9, 45), "annulus of 44.9 to 45 px has 28 pixels, allowed: 200 or more"),
    ],
)
def test_what_cannot_be_is_refused(values, message):
    with pytest.raises(LumosConfigError, match=f"^{message}$"):
        StampGeometry(*values)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("values", [{"annulus_inner": 50.0}, {"annulus_inner": 44.9}, {"annulus_outer": 8.0}])
def test_settings_refuse_an_annulus_that_cannot_be(stage, values):
    with pytest.raises(ValueError, match=r"must be less than annulus_outer|allowed: 200 or more"):
        stage(**values)


@pytest.mark.parametrize("stage", STAGES)
def test_settings_state_the_geometry(stage):
    assert stage().geometry == STANDARD_GEOMETRY == StampGeometry(60, 30.0, 45.0)
    other = stage(stamp_size=40, annulus_inner=20.0, annulus_outer=36.5)
    assert other.geometry == StampGeometry(40, 20.0, 36.5)


def test_the_annulus_grows_with_the_stamp():
    grown = StampGeometry(40, 20.0, 30.0).grown(160)
    assert grown == StampGeometry(160, 80.0, 120.0)
    assert grown.annulus == (80.0, 120.0)
    assert str(grown) == "stamps of 160 px with an annulus of 80 to 120 px"


@pytest.mark.parametrize(("size", "outer", "side"), [(60, 45.0, 92), (60, 45.2, 94), (60, 44.9, 92), (200, 45.0, 200)])
def test_the_side_holds_stamp_and_annulus(size, outer, side):
    found = StampGeometry(size, 30.0, outer).side
    assert found == side
    # Every centre up to half a pixel off the middle pixel has its whole annulus on the stamp.
    assert found >= size
    assert found // 2 + 0.5 + outer <= found + 0.5
    assert found % 2 == 0


def test_multiples():
    base = StampGeometry(60, 30.0, 45.0)
    assert base.is_multiple_of(base)
    assert StampGeometry(120, 60.0, 90.0).is_multiple_of(base)
    for other in ((90, 45.0, 67.5), (120, 30.0, 45.0), (60, 30.0, 46.0), (30, 15.0, 22.5)):
        assert not StampGeometry(*other).is_multiple_of(base)
    # Radii that no binary number holds exactly.
    assert StampGeometry(60, 3 * 10.1, 3 * 14.3).is_multiple_of(StampGeometry(20, 10.1, 14.3))


def test_the_geometry_of_training_is_that_of_the_model():
    stamps = {"stamp_size": 40, "annulus_inner": 20.0, "annulus_outer": 35.0, "flux_from": "proposal"}
    settings = TrainSettings(name="m", pool=PoolSettings(paths=("pool",)), stamps=StampSettings(**stamps))
    config = model_config(settings, pool=None)
    assert config.geometry == StampGeometry(40, 20.0, 35.0)
    stored = json.loads(config.model_dump_json())
    assert [stored[name] for name in ("stamp_size", "annulus_inner", "annulus_outer")] == [40, 20.0, 35.0]
    # One of before knows no radii: it was trained with the standard ones.
    del stored["annulus_inner"], stored["annulus_outer"]
    assert ModelConfig(**stored).annulus_outer == 45.0


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_models_state_what_they_were_trained_on(name):
    config = read_config(name)
    stamps = StampSettings.model_validate(config.training["settings"]["stamps"])
    assert config.geometry == stamps.geometry


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"annulus_outer": 40.0}, "stamps of 60 px with an annulus of 30 to 40 px"),
        ({"stamp_size": 120}, "stamps of 120 px with an annulus of 30 to 45 px"),
        ({"stamp_size": 80, "annulus_inner": 40.0, "annulus_outer": 60.0}, "stamps of 80 px"),
    ],
)
def test_a_run_of_another_geometry_is_refused_with_a_model(changes, words):
    known = "model 'generic' was trained on stamps of 60 px with an annulus of 30 to 45 px; the run has "
    with pytest.raises(LumosConfigError, match=f"^{known}{words}.*, allowed: the same, or all a multiple of it$"):
        estimators_of(MeasureSettings(model="generic", **changes))
    # Without a model any will do, with one all that it sees by summing pixels.
    estimators_of(MeasureSettings(**changes))
    estimators_of(MeasureSettings(model="generic", stamp_size=120, annulus_inner=60.0, annulus_outer=90.0))
