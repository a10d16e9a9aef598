"""Two hundred crash images."""

from tests.unit.state_images import look_at_images


def test_crash_images_are_true_or_refused(tmp_path):
    outcomes = look_at_images(tmp_path, images=200, seed=2)
    assert min(outcomes["opened"], outcomes["refused"]) > 20
