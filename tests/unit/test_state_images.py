"""A state file that was left at any moment, and cut anywhere, opens to a state that was, or is refused."""

from tests.unit.state_images import look_at_images


def test_crash_images_are_true_or_refused(tmp_path):
    # tests/long looks at 200, of which some are refused.
    assert look_at_images(tmp_path, images=12, seed=4)["opened"] > 0
