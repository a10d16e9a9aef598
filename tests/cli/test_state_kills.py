"""What clients were told is so after the emulator was killed under them."""

import pytest

from tests.cli.state_under_load import besiege

pytestmark = pytest.mark.anyio


async def test_what_was_answered_is_so_after_a_kill(tmp_path):
    ended = await besiege(tmp_path, kills=3, seed=100)
    assert ended["COMPLETED"], ended
