"""Plants small faults in a copy of the product, one at a time, and says which of them no test notices.

    python -m tests.mutants [--count 60] [--seed 1] [--in core workers webhooks api] [--tests tests/unit …]

A comparison is turned, a condition negated, a truth value changed, a loop left out, a call dropped. The
faults are from cosmic-ray, but for the last. All tests are run once without a fault to see which of them run
which line; those that fail then are told, and left out. Each fault is tried against the tests that run its
line, the quickest first; a line that only other processes run, against the tests of the workers. A test that
fails, or hangs, has noticed it. What is left is for a person to judge: some change nothing.
"""

from __future__ import annotations

import argparse
import difflib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.plugins import get_operator
from coverage import CoverageData
from parso.python.tree import Keyword

ROOT = Path(__file__).parents[1]
TESTS = ("tests/unit", "tests/api", "tests/fixtures", "tests/security")
#: What runs the lines that no test runs itself.
TESTS_OF_OTHER_PROCESSES = ("tests/workers", "tests/fixtures")
#: Mostly run there, whatever test has looked at a line of it.
OF_OTHER_PROCESSES = ("runner.py",)
#: It asks something else each time.
LEFT_OUT = "tests/api/test_openapi_fuzz.py"
#: A run that takes so much longer than without a fault hangs.
SLOWER = 4
#: Real seconds after which one test hangs, whatever it does.
HANGS_S = 180
#: In the copy: a hang is noticed sooner.
PATIENCE_S = 60
#: With a fault in it this might kill any process of the machine.
NEVER = ("guard.py",)
TURNED = ("Eq_NotEq", "NotEq_Eq", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Is_IsNot", "IsNot_Is")
KINDS = (
    *(f"core/ReplaceComparisonOperator_{turned}" for turned in TURNED),
    "core/AddNot",
    "core/ReplaceAndWithOr",
    "core/ReplaceOrWithAnd",
    "core/ReplaceTrueWithFalse",
    "core/ReplaceFalseWithTrue",
    "core/ReplaceContinueWithBreak",
    "core/ZeroIterationForLoop",
)


class DropCall(Operator):
    """Drops a call whose result nobody uses."""

    def mutation_positions(self, node: Any) -> Any:
        if node.type == "simple_stmt" and node.children[0].type in ("atom_expr", "power"):
            call = node.children[0]
            if call.children[-1].type == "trailer" and call.children[-1].children[0] == "(":
                yield call.start_pos, call.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        call = node.children[0]
        node.children[0] = Keyword("pass", call.start_pos, call.get_first_leaf().prefix)
        node.children[0].parent = node
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("f()\n", "pass\n"),)


class Seen(NamedTuple):
    """What a run without a fault has told."""

    lines: CoverageData
    took_s: dict[str, float]
    failed: set[str]

    def tests_of(self, fault: Fault) -> list[str]:
        """The tests that run a fault's line, the quickest first."""
        contexts = self.lines.contexts_by_lineno(str(fault.module)).get(fault.line, [])
        tests = {context.rpartition("|")[0] for context in contexts} - {""}
        return sorted((test for test in tests if key(test) not in self.failed), key=self.patience_s)

    def patience_s(self, *tests: str) -> float:
        return sum(self.took_s.get(key(test), 300) for test in tests)


class Fault(NamedTuple):
    module: Path
    operator: Operator
    occurrence: int
    line: int


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--count", type=int, default=60)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--in", nargs="+", default=["core", "workers", "webhooks", "api"], dest="rooms")
    arguments.add_argument("--tests", nargs="+", default=TESTS)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutants-") as made:
        copy = Path(made)
        copy_tree(copy)
        faults = [fault for room in given.rooms for fault in faults_in(copy / "emulator" / room)]
        random.Random(given.seed).shuffle(faults)
        print(f"{len(faults)} faults can be planted; {given.count} are tried", flush=True)
        seen = clean_run(copy, given.tests)
        unnoticed = [fault for fault in faults[: given.count] if not is_noticed(copy, fault, seen)]
    tried = min(given.count, len(faults))
    print(f"{tried - len(unnoticed)} of {tried} were noticed", flush=True)


def copy_tree(copy: Path) -> None:
    """What git knows, as it stands."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    (copy / "tests/limits.py").write_text(f"PATIENCE_S = {PATIENCE_S}\n")


def faults_in(room: Path) -> list[Fault]:
    return [
        Fault(module, operator, occurrence, line)
        for module in sorted(room.rglob("*.py"))
        if module.name not in NEVER
        for operator in (DropCall(), *(get_operator(kind)() for kind in KINDS))
        for occurrence, line in enumerate(lines_for(module, operator))
        if is_worth_it(module.read_text().splitlines()[line - 1])
    ]


def lines_for(module: Path, operator: Operator) -> list[int]:
    """Where an operator finds something to change, in its own order."""
    nodes = ast_nodes(get_ast(module.read_text()))
    return [start[0] for node in nodes for start, _ in operator.mutation_positions(node)]


def is_worth_it(line: str) -> bool:
    return not any(part in line for part in ("TYPE_CHECKING", "log.", "assert ", "__main__"))


def clean_run(copy: Path, tests: list[str]) -> Seen:
    measured = ("--cov=emulator", "--cov-context=test", "--cov-report=", f"--junitxml={copy / 'tests.xml'}")
    told = failing_test(copy, [*tests, f"--ignore={LEFT_OUT}", *measured], 3600)
    if not (copy / "tests.xml").exists():
        sys.exit(f"the tests have not come to their end: {told}\n{(copy / 'told.txt').read_text()[-2000:]}")
    took_s, failed = {}, set()
    for case in ElementTree.parse(copy / "tests.xml").iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        took_s[name] = float(case.get("time", 0))
        if case.find("failure") is not None or case.find("error") is not None:
            failed.add(name)
    print(f"{len(took_s)} tests; left out, as they fail without a fault: {sorted(failed)}", flush=True)
    lines = CoverageData(str(copy / ".coverage"))
    lines.read()
    return Seen(lines, took_s, failed)


def key(test: str) -> str:
    """A test's name as the report has it."""
    path, _, name = test.partition("::")
    return f"{path.removesuffix('.py').replace('/', '.')}.{name}"


def is_noticed(copy: Path, fault: Fault, seen: Seen) -> bool:
    before = fault.module.read_text()
    after = mutate_code(before, fault.operator, fault.occurrence)
    if after is None:
        return True
    fault.module.write_text(after)
    tests = seen.tests_of(fault)
    if fault.module.name in OF_OTHER_PROCESSES:
        tests = []
    noticed_by = failing_test(
        copy,
        ["-x", *(tests or TESTS_OF_OTHER_PROCESSES)],
        120 + SLOWER * seen.patience_s(*(tests or ["", ""])),
    )
    fault.module.write_text(before)
    place = f"{fault.module.relative_to(copy)}:{fault.line} {type(fault.operator).__name__}"
    if noticed_by:
        print(f"noticed   {place}: {noticed_by}", flush=True)
    else:
        print(f"UNNOTICED {place} ({len(tests)} tests run it)", flush=True)
        changed = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1)
        print("\n".join(list(changed)[2:]), flush=True)
    return bool(noticed_by)


def failing_test(copy: Path, given: list[str], patience_s: float) -> str:
    """The first test that fails, or what else is wrong; empty when all pass."""
    (copy / "given.txt").write_text("\n".join(given))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rfE",
        "-p",
        "no:cacheprovider",
        "-o",
        f"faulthandler_timeout={HANGS_S}",
        f"@{copy / 'given.txt'}",
    ]
    variables = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
    with (copy / "told.txt").open("wb") as told:
        process = subprocess.Popen(
            command, cwd=copy, env=variables, stdout=told, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            if process.wait(patience_s) == 0:
                return ""
        except subprocess.TimeoutExpired:
            return "it hangs"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    lines = (copy / "told.txt").read_text(errors="replace").splitlines()
    return next((line for line in lines if line.startswith(("FAILED", "ERROR"))), lines[-1] if lines else "?")


if __name__ == "__main__":
    main()
