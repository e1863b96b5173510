"""Stamps that are added to an image, on it, at its edge and off it."""

import numpy as np

from lumos.profiles import Shapes
from lumos.profiles.scene import add_stamps, draw_stamps, rows_by_size
from lumos.psfs import MoffatPsf


def test_stamps_are_added_where_they_lie_and_what_leaves_the_image_is_lost(rng):
    stamps = rng.normal(size=(9, 6, 6))
    corners = np.array([[3, 4], [3, 6], [-2, -5], [-6, 2], [-9, 30], [8, 2], [12, 2], [5, 13], [40, -40]])
    image = rng.normal(size=(10, 12))
    # The same on an image that is large enough for all of them.
    whole = np.pad(image, 60)
    for stamp, (row, column) in zip(stamps, corners, strict=True):
        whole[60 + row : 66 + row, 60 + column : 66 + column] += stamp
    add_stamps(image, stamps, corners)
    np.testing.assert_array_equal(image, whole[60:70, 60:72])


def test_a_stamp_has_its_object_on_the_middle_pixel():
    centres = np.array([[10.4, 250.6], [-3.2, 7.0]])
    stamps, corners = draw_stamps(Shapes.points(*centres), MoffatPsf(np.array([3.0]), np.array([3.5])), 24)
    assert corners.tolist() == [[-3 - 12, 10 - 12], [7 - 12, 251 - 12]]
    for stamp, corner, (x, y) in zip(stamps, corners, centres.T, strict=True):
        assert np.unravel_index(stamp.argmax(), stamp.shape) == (12, 12)
        rows, columns = np.mgrid[:24, :24] + corner[:, None, None]
        # The wings that the stamp cuts off askew hold 1e-4 of the light.
        assert abs((stamp * columns).sum() / stamp.sum() - x) < 0.01
        assert abs((stamp * rows).sum() / stamp.sum() - y) < 0.01


def test_rows_are_shared_out_by_size():
    shared = [(size, rows.tolist()) for size, rows in rows_by_size(np.array([96, 48, 96, 48, 192]))]
    assert shared == [(48, [1, 3]), (96, [0, 2]), (192, [4])]
    assert list(rows_by_size(np.zeros(0, dtype=int))) == []
