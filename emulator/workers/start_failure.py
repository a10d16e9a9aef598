"""Why a worker's process has ended before it asked for a job: one sentence that says what to do about it."""

from __future__ import annotations

import difflib
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.workers.relative_imports import relative_import_hint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from emulator.workers.command import WorkerCommand

#: How much of what a worker wrote last is quoted where it has raised nothing, and of an exception's message.
_LINES_QUOTED = 5
_MESSAGE_MAX = 300
#: How far up from the script a module of the same project is looked for.
_FOLDERS_UP = 3
#: What lies in the topmost folder of a project.
_ROOT_HAS = (".git", "pyproject.toml", "requirements.txt", "Dockerfile", "emulator.toml")
_TRACEBACK = "Traceback (most recent call last):"
_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:: .*|Error|Exception|Exit|Interrupt|Warning)$")
_FRAME = re.compile(r'  File "(?P<file>.+)", line (?P<line>\d+)')
_PORT_TAKEN = re.compile(r"address already in use|EADDRINUSE|only one usage of each socket", re.IGNORECASE)
_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '(?P<name>[\w.]+)'")
#: Packages that are not called as what is imported from them.
_PACKAGES = {
    "attr": "attrs", "bs4": "beautifulsoup4", "Crypto": "pycryptodome", "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil", "distutils": "setuptools", "dotenv": "python-dotenv",
    "faiss": "faiss-cpu", "fitz": "PyMuPDF", "git": "GitPython", "google.protobuf": "protobuf",
    "jwt": "PyJWT", "magic": "python-magic", "OpenSSL": "pyOpenSSL", "PIL": "Pillow",
    "pkg_resources": "setuptools", "skimage": "scikit-image", "sklearn": "scikit-learn", "yaml": "PyYAML",
}  # fmt: skip


@dataclass(slots=True, frozen=True)
class _Raised:
    """The exception that ended a process."""

    #: Its type and message, as Python shows them.
    told: str
    #: Where it was raised: the innermost line of code first.
    frames: tuple[tuple[str, int], ...]


def start_failure(command: WorkerCommand, code: int, lines: Sequence[str]) -> str:
    """The sentence for a process that has ended with `code` (negative: a signal), and wrote `lines` last."""
    return _why(command, code, lines) + port_hint(lines)


def _why(command: WorkerCommand, code: int, lines: Sequence[str]) -> str:
    raised = _raised(lines) if code == 1 else None
    if raised is None:
        return _how_it_ended(command, code, lines)
    if missing := _NO_MODULE.match(raised.told):
        return f"{missing[0]}: {_where_it_may_be(command, missing['name'])}"
    told = f"{raised.told}{_place(raised, (command.folder, _home(command)))}"
    hint = relative_import_hint(lines, command.folder, command.function)
    return f"{told}: {hint}" if hint else told


def port_hint(lines: Sequence[str]) -> str:
    """What to do about a port that was taken when it was wanted; empty for any other end."""
    if not any(_PORT_TAKEN.search(line) for line in lines):
        return ""
    return (
        "; process workers share this machine's network, where in production each has one of its own: what"
        " listens on a port of its own needs --workers-max 1, and another port than the emulator's (--port)"
    )


def ending(code: int) -> str:
    """How a process has ended."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    name = _signal_name(-code)
    return f"its process was killed by {name}" + (" (was it out of memory?)" if name == "SIGKILL" else "")


def quoted(lines: Sequence[str]) -> str:
    """What it wrote last, to follow how it ended."""
    last = [line.strip() for line in lines if line.strip()][-_LINES_QUOTED:]
    return f"; it wrote: {' | '.join(last)}" if last else ""


def headline(problem: str) -> str:
    """The sentence of an error that shows a piece of code, or a traceback, below its own first line."""
    first, _, rest = problem.partition("\n")
    raised = _raised(rest.splitlines())
    return first if raised is None else f"{first.rstrip(':')}: {raised.told}{_place(raised, ())}"


def raised_in(lines: Sequence[str]) -> str:
    """The exception with whose traceback the lines end, and where it was raised; empty when there is none."""
    raised = _raised(lines)
    return "" if raised is None else f"{raised.told}{_place(raised, ())}"


def _raised(lines: Sequence[str]) -> _Raised | None:
    """The exception with whose traceback the lines end; the first of them may be cut off."""
    ends = [
        number
        for number, line in enumerate(lines)
        if number and line[:1].strip() and lines[number - 1].startswith("  ") and _EXCEPTION.match(line)
    ]
    begins = [number for number, line in enumerate(lines) if line.startswith(_TRACEBACK)]
    if not ends:
        return None
    # A message of several lines may have others that look like an exception.
    end = next((number for number in ends if begins and number > begins[-1]), ends[-1])
    told = " | ".join(line.strip() for line in lines[end : end + _LINES_QUOTED] if line.strip())
    begin = begins[-1] if begins and begins[-1] < end else 0
    frames = tuple(
        (frame["file"], int(frame["line"]))
        for line in reversed(lines[begin:end])
        if (frame := _FRAME.match(line))
    )
    return _Raised(told if len(told) <= _MESSAGE_MAX else f"{told[:_MESSAGE_MAX]}…", frames)


def _place(raised: _Raised, folders: Sequence[Path]) -> str:
    """The innermost line of the code in `folders` (none: of any); of a syntax error the line that is none."""
    for file, line in raised.frames:
        if not folders:
            return f" ({Path(file).name}, line {line})"
        home = next((folder for folder in folders if Path(file).is_relative_to(folder)), None)
        if home is not None and "site-packages" not in file:
            return f" ({Path(file).relative_to(home)}, line {line})"
    return ""


def _how_it_ended(command: WorkerCommand, code: int, lines: Sequence[str]) -> str:
    told = ending(code)
    if code == 0:
        told += " and never asked for a job"
        if command.is_script:
            told += (
                ": does the script call runpod.serverless.start({'handler': …})?"
                f" To serve one of its functions, name it: {command.name}:handler"
            )
        elif command.kind == "command":
            told += ": a command must stay for as long as its worker is to live"
    return told + quoted(lines)


def _where_it_may_be(command: WorkerCommand, name: str) -> str:
    """What to do about a module that was not found."""
    top, _, below = name.partition(".")
    home = _home(command)
    if name not in _PACKAGES and below:
        # The package itself was found: who installs one of this name gets it once more.
        package = home.joinpath(*name.split(".")[:-1])
        if package.is_dir():
            return _looked_for(name.rpartition(".")[2], package, command)
        has = name.rpartition(".")[0]
        return f"{command.python} has {has!r}, but not this part of it: is it another version?"
    if (top in sys.stdlib_module_names or top.startswith("_")) and name not in _PACKAGES:
        return f"it is a part of Python that {command.python} was built without"
    if (found := _elsewhere_in_project(home, top)) is not None:
        return f"it was looked for in {home}, and is in {found}: start with PYTHONPATH={found}"
    return _looked_for(name, home, command)


def _looked_for(name: str, folder: Path, command: WorkerCommand) -> str:
    """Whether the name is nearly one that is there; else it is a package."""
    close = difflib.get_close_matches(name, list(_modules_in(folder)), n=1, cutoff=0.75)
    if close and not _is_required(name, folder):
        return f"it was looked for in {folder}: did you mean {close[0]}?"
    if folder != _home(command):
        return f"it was looked for in {folder}"
    package = _PACKAGES.get(name, name)
    return f"{command.python} -m pip install {package} (or name the interpreter that has it with --python)"


def _home(command: WorkerCommand) -> Path:
    """The folder from which a worker imports the project's modules."""
    return command.import_folders[0] if command.import_folders else command.folder


def _elsewhere_in_project(home: Path, module: str) -> Path | None:
    """The folder of the project, other than `home`, that a module of this name lies in."""
    around = [*_above(home), *sorted(_folders_in(home))]
    return next((folder for folder in around if _holds(folder, module)), None)


def _above(folder: Path) -> Iterator[Path]:
    """The folders above it, up to that of the whole project."""
    for above in folder.parents[:_FOLDERS_UP]:
        if any((folder / name).exists() for name in _ROOT_HAS):
            return
        folder = above
        yield folder


def _holds(folder: Path, module: str) -> bool:
    return (folder / f"{module}.py").is_file() or any((folder / module).glob("*.py"))


def _folders_in(folder: Path) -> Iterator[Path]:
    for each in _entries(folder):
        if each.is_dir() and not each.name.startswith((".", "_")):
            yield each


def _modules_in(folder: Path) -> Iterator[str]:
    for each in _entries(folder):
        if each.suffix == ".py":
            yield each.stem
        elif (each / "__init__.py").is_file():
            yield each.name


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_required(package: str, folder: Path) -> bool:
    """Whether a list of the project's requirements has a package of this name."""
    wanted = re.compile(rf"^{re.escape(package)}\b", re.IGNORECASE | re.MULTILINE)
    for near in (folder, *_above(folder)):
        for file in near.glob("requirements*.txt"):
            if wanted.search(file.read_text(encoding="utf-8", errors="replace")):
                return True
    return False


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
