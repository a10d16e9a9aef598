"""Fifty kills at random moments, under load."""

import pytest

from tests.cli.state_under_load import besiege

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("seed", range(5))
async def test_what_was_answered_is_so_after_a_kill(tmp_path, seed):
    ended = await besiege(tmp_path, kills=10, seed=seed)
    assert ended["COMPLETED"]
