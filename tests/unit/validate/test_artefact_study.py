"""Artefacts one kind at a time: what they flag and spoil on small exposures."""

import pytest

from lumos.errors import LumosConfigError, LumosValueError
from lumos.validate.paper.artefacts import artefact_entries
from lumos.validate.studies.artefact_figures import format_artefacts
from lumos.validate.studies.artefacts import artefacts


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return artefacts(tmp_path_factory.mktemp("artefacts"), None, side=256, kinds=("none", "satellites"))


def test_satellites_are_masked_and_spoil_no_more_than_is_spoiled_without_them(found):
    figures = {(one.kind, one.estimator): one for one in found}
    assert set(figures) == {(kind, name) for kind in ("none", "satellites") for name in ("aperture", "optimal")}
    for name in ("aperture", "optimal"):
        clean, spoiled = figures["none", name], figures["satellites", name]
        assert clean.rows == spoiled.rows > 200
        assert clean.rows > clean.galaxies > 30
        assert 0.8 < clean.pull < 1.3
        assert clean.flagged < spoiled.flagged < clean.flagged + 0.1
        assert spoiled.n_off <= clean.n_off + 2
        assert 0.8 < spoiled.pull < 1.3


def test_the_tables(found):
    lines = format_artefacts(found).splitlines()
    assert len(lines) == 2 + 4
    (entry,) = artefact_entries(found, "generic")
    assert [row[:2] for row in entry.tables[0].rows] == [(one.kind, one.estimator) for one in found]


def test_bad_calls(tmp_path):
    with pytest.raises(LumosValueError, match=r"kind of artefact.*saturated stars"):
        artefacts(tmp_path, None, kinds=("clouds",))
    with pytest.raises(LumosConfigError, match="nosuch"):
        artefacts(tmp_path, "nosuch", side=256, kinds=("none",))
