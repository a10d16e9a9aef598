"""Every block of code in README.md and docs/ is run, or checked as far as it can be.

A new page is picked up by itself. What is not run is listed here, with the reason.
"""

import re
from contextlib import ExitStack

import pytest

from tests.docs.bench import RUN, Bench
from tests.docs.checks import CHECKS
from tests.docs.pages import ROOT, Block, all_blocks, blocks_in, pages, text_of

BLOCKS = all_blocks()
#: Pages whose blocks another test runs or reads; here they are checked.
RUN_ELSEWHERE = {
    "README.md": "tests/conformance/test_readme.py",
    "docs/docker.md": "tests/docker/test_docker_page.py",
}
#: Languages in which nothing can be run or checked here.
NOT_RUN = {
    "dockerfile": "needs a container engine; tests/docker reads those of docs/docker.md",
    "go": "needs a Go compiler and the Go SDK",
    "properties": "a list of variables; tests/docker compares it with the compose file",
    "text": "what is shown, not typed",
}
#: Blocks that are not run: a part that is only in this one, and the reason.
EXCUSED = {
    ("docs/design.md", "the public names; nothing heavy"): "a drawing of the tree",
}
#: What makes a block one that is only checked: how a line of it begins.
NOT_HERE = {
    r"docker\b": "needs a container engine",
    r"runpod-emulator .*--worker-kind ray": "needs a Ray cluster; see tests/ray",
    r"from emulator\.testcontainers import": "see tests/docker/test_testcontainers.py",
    r"(npm|pip) ": "needs the network",
}


def excuse(block: Block) -> str | None:
    """Why a block is not run, if it is not."""
    if block.page in RUN_ELSEWHERE:
        return f"see {RUN_ELSEWHERE[block.page]}"
    for (page, part), reason in EXCUSED.items():
        if block.page == page and part in block.code:
            return reason
    for beginning, reason in NOT_HERE.items():
        if re.search(rf"^\s*{beginning}", block.code, re.MULTILINE):
            return reason
    return NOT_RUN.get(block.language)


def check(block: Block) -> None:
    """Fail for a block that is wrong, and for one that nobody covers."""
    if block.language in CHECKS:
        CHECKS[block.language](block)
        return
    assert block.language in NOT_RUN or excuse(block), (
        f"{block}: nothing tests a block in {block.language!r}: give it one of {', '.join(CHECKS)},"
        " or list it in tests/docs/test_snippets.py with the reason"
    )


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_is_sound(block):
    check(block)


@pytest.mark.parametrize("page", [page for page in pages() if page not in RUN_ELSEWHERE])
def test_the_blocks_of_a_page_run_in_order(page, tmp_path, tmp_path_factory):
    with ExitStack() as ended:
        bench = Bench(tmp_path, tmp_path_factory.mktemp("log"), ended)
        for block in blocks_in(page, text_of(page)):
            if block.language in RUN and excuse(block) is None:
                bench.run(block)
            else:
                bench.save(block)


@pytest.mark.parametrize("page", pages())
def test_no_fence_is_overlooked(page):
    fences = re.findall(r"^\s*(?:```|~~~)", text_of(page), re.MULTILINE)
    assert len(fences) == 2 * len(blocks_in(page, text_of(page)))


@pytest.mark.parametrize(("page", "part"), EXCUSED)
def test_an_excuse_is_for_one_block(page, part):
    assert sum(block.page == page and part in block.code for block in BLOCKS) == 1


@pytest.mark.parametrize("path", RUN_ELSEWHERE.values())
def test_the_other_tests_are_there(path):
    assert (ROOT / path).is_file()


@pytest.mark.parametrize(
    "text",
    [
        "```ruby\nputs 1\n```\n",
        "```\nno language\n```\n",
        "```python\nawait nothing:\n```\n",
        "```sh\nif true\n```\n",
        "```json\n{'single': 1}\n```\n",
        "```toml\n# emulator.toml\nno-such-option = 1\n```\n",
        "```yaml\njobs:\n  test:\n    steps:\n      - name: nothing to do\n```\n",
        "```console\n$ runpod-emulator no-such-command\n```\n",
        "```console\n$ runpod-emulator serve --no-such-option\n```\n",
        "```console\n$ make no-such-target\n```\n",
    ],
)
def test_a_bad_block_is_noticed(text):
    (block,) = blocks_in("docs/new.md", text)
    with pytest.raises((AssertionError, SyntaxError, ValueError)):
        check(block)


@pytest.mark.parametrize(
    "text",
    [
        "```sh\nfalse | cat\nfalse\n```\n",
        "```python\nraise SystemExit(1)\n```\n",
        "```python\ndef test_it():\n    assert 0\n```\n",
        "```javascript\nprocess.exit(1);\n```\n",
    ],
)
def test_a_block_that_fails_is_noticed(text, tmp_path):
    (block,) = blocks_in("docs/new.md", text)
    with ExitStack() as ended, pytest.raises(AssertionError, match=r"docs/new\.md:1"):
        Bench(tmp_path, tmp_path, ended).run(block)


def test_a_later_block_finds_what_an_earlier_one_was_saved_as(tmp_path):
    text = (
        "```json\n[1]\n```\n"
        "```python\n# conftest.py\nimport pytest\n\n@pytest.fixture\ndef answer():\n    return 42\n```\n"
        "- in a list\n\n"
        "  ```python\n  def test_answer(answer):\n      assert answer == 42\n  ```\n"
    )
    with ExitStack() as ended:
        bench = Bench(tmp_path, tmp_path, ended)
        printed = [bench.run(block) for block in blocks_in("docs/new.md", text) if block.language in RUN]
    assert "1 passed" in printed[-1]
