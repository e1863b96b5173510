"""The expectation of a simulated exposure, on which the limits rest, against the exposure itself."""

import numpy as np
import pytest

from lumos.settings import load_simulation
from lumos.simulate.exposures import expose, expose_known
from lumos.simulate.field import draw_field
from lumos.simulate.plan import plan_exposures

pytestmark = pytest.mark.science


def test_an_exposure_differs_from_its_expectation_by_its_noise():
    # Every cosmic ray is missed by the mask, so that the expectation must hold them all.
    overrides = [
        "exposures_per_band=2",
        "camera.shape=[512,512]",
        "artefacts.cosmic_rays=500",
        "artefacts.cosmic_rays_unmasked=1",
        "artefacts.satellites=1",
        "seed=5",
    ]
    settings = load_simulation("paucam-mini", overrides)
    for exposure in plan_exposures(settings)[::3]:
        field = draw_field(settings, exposure)
        known = expose_known(settings, exposure, 0, field)
        image, mask = expose(settings, exposure, 0, field)
        np.testing.assert_array_equal(known.image, image)
        np.testing.assert_array_equal(known.mask, mask)
        good = mask == 0
        pull = ((image - known.expected) / np.sqrt(known.variance))[good]
        # A chi2 per pixel has the error sqrt(2 / 260 000) = 0.003, a mean pull 0.002.
        assert abs(np.mean(pull**2) - 1) < 4 * np.sqrt(2 / pull.size)
        assert abs(np.mean(pull)) < 4 / np.sqrt(pull.size)
        # Poisson noise of 80 electrons or more has no pixel beyond 8 sigma; a forgotten ray of 800 has hundreds.
        assert np.abs(pull).max() < 8
