"""Each fault of attack.md has its tests, which name its number."""

import re
from pathlib import Path

FAULTS = range(1, 32)
#: Those of real time, of handlers of the inline kind, and of processes are with their own.
ELSEWHERE = {
    5: "unit/test_inline_workers.py",
    18: "long/test_pausing_clients.py",
    31: "workers/misbehaving_handlers.py",
}
NAMED = re.compile(r"attack\.md ([\d, and]+)")


def test_each_fault_has_a_test_that_names_it():
    here = Path(__file__).parent
    texts = {path: path.read_text() for path in here.glob("test_*.py")}
    texts |= {path: path.read_text() for path in (here.parent / name for name in ELSEWHERE.values())}
    named = {
        int(number)
        for text in texts.values()
        for numbers in NAMED.findall(text)
        for number in re.findall(r"\d+", numbers)
    }
    assert sorted(set(FAULTS) - named) == []
