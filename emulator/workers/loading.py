"""Finding a handler: a script, `path.py:function`, `module:function`, or a callable."""

from __future__ import annotations

import ast
import importlib
import os
import shlex
import shutil
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from emulator.workers.handler import Handler, HandlerError
from emulator.workers.outcome import inline_cannot
from emulator.workers.own_modules import no_module
from emulator.workers.relative_imports import relative_import_hint
from emulator.workers.sdk_stand_in import SDKStandIn, ServerlessStarted, sdk_is_installed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


#: Loading changes what the whole process has: `sys.modules`, `sys.argv`.
_ONE_AT_A_TIME = threading.Lock()
#: Modules of these stay what they are whatever a handler's neighbours are called.
_NEVER_ASIDE = frozenset({"__main__", "emulator", "runpod"})


def load_handler(source: object) -> Handler:
    """The handler for a callable or one of the written forms.

    A script is run as Python would run it, up to its `runpod.serverless.start({...})`, whose config
    is honoured. With a function named, the file is imported and `start` is not needed.

    :raises HandlerError: there is no such file, module or function, or its code fails.
    """
    if callable(source):
        name = getattr(source, "__qualname__", type(source).__name__)
        return Handler.of(source, f"{name} ({getattr(source, '__module__', '?')})", {})
    if not isinstance(source, str | Path):
        raise HandlerError(f"a handler is a callable or a string like 'handler.py', not {source!r}")
    text = str(source)
    place, function = parts_of(source)
    with _ONE_AT_A_TIME:
        if place.endswith(".py"):
            return _from_file(place, function, text)
        return _from_module(place, function, text)


def looks_async(source: str | Path) -> bool:
    """Whether a written handler is async as far as its file tells: the thread it is to be loaded in must be
    known before it is. One that the file only imports is taken for one that is not.
    """
    place, function = parts_of(source)
    path = Path(place) if place.endswith(".py") else Path(f"{place.replace('.', '/')}.py")
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (OSError, SyntaxError, ValueError):
        # What is wrong with it is told when it is loaded.
        return False
    names = {function} if function else set(_names_given_as_handler(nodes))
    return any(isinstance(node, ast.AsyncFunctionDef) and node.name in names for node in nodes)


def _names_given_as_handler(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The names in `{"handler": name}`."""
    for node in nodes:
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "handler" and isinstance(value, ast.Name):
                    yield value.id


def forget_project(folder: Path) -> None:
    """Have a handler's neighbours in `folder` be read anew when they are imported again."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is None or name.partition(".")[0] in _NEVER_ASIDE or "site-packages" in file:
            continue
        if Path(file).resolve().is_relative_to(folder):
            del sys.modules[name]
    importlib.invalidate_caches()


def parts_of(source: str | Path) -> tuple[str, str]:
    """The file or module of a written handler, and its function; empty for a script.

    :raises HandlerError: it is neither a file nor a module with a function.
    """
    text = str(source)
    place, colon, function = text.rpartition(":")
    if not (colon and function.isidentifier()):
        place, function = text, ""
    is_module = function and ":" not in place and all(place.split("."))
    if not place.endswith(".py") and not is_module:
        raise HandlerError(
            f"{text}: name a file (handler.py), file and function (handler.py:handler) or module:function"
            + _as_command(text)
        )
    return place, function


def _as_command(text: str) -> str:
    """How to run what is no handler, but may well be run in production."""
    suffix = Path(text).suffix
    if " " in text or text.startswith("-"):
        command = f"python {text}" if text.startswith("-") else text
    elif suffix in (".js", ".mjs", ".cjs", ".ts", ".mts"):
        command = f"node {text}"
    elif suffix == ".sh" or "/" in text:
        is_plain = suffix == ".sh" and not os.access(text, os.X_OK)
        command = f"sh {text}" if is_plain else text if "/" in text else f"./{text}"
    elif all(part.isidentifier() for part in text.split(".")):
        command = shlex.quote(f"python -m {text}")
        return f"; a module is run by --command {command}, its function is {text}:handler"
    else:
        return ""
    return f"; any other program is run by --command {shlex.quote(command)}"


def no_such_file(place: str, folder: Path) -> HandlerError:
    """The error for a handler that is not in its working folder."""
    problem = f"{place}: no such file (looked in {folder})"
    for above in folder.parents:
        # As a shell completes it for whoever stands above the working folder.
        file = above / place
        if file.is_file() and file.is_relative_to(folder):
            problem += f"; paths start at the working folder: write {file.relative_to(folder)}"
    if shutil.which(place.partition(" ")[0]) and " " in place:
        problem += _as_command(place)
    return HandlerError(problem)


def _from_file(place: str, function: str, text: str) -> Handler:
    path = Path(place)
    if not path.is_file():
        raise no_such_file(place, Path.cwd())
    sdk = SDKStandIn(start_ends_script=not function)
    module = ModuleType(path.stem if function else "__main__")
    # As Python has it: a link's own place, while imports start where it points to.
    module.__file__ = str(path.absolute())
    folders = (path.resolve().parent, *([Path.cwd()] if function else []))
    with _importable_from(*folders), _as_program(text), sdk.installed(), _explained(text):
        code = compile(path.read_bytes(), module.__file__, "exec")
        with _registered(module), suppress(ServerlessStarted):
            exec(code, module.__dict__)
    if function:
        return _named_function(module, function, text, sdk)
    if sdk.config is None:
        raise HandlerError(
            f"{place} never calls runpod.serverless.start({{'handler': …}}): add the call,"
            f" or name the function: {place}:handler"
        )
    if not isinstance(sdk.config, Mapping):
        given = getattr(sdk.config, "__name__", "…")
        raise HandlerError(
            f"{place}: runpod.serverless.start got a {type(sdk.config).__name__}, not a dict, which ends the"
            f" SDK with a TypeError: write runpod.serverless.start({{'handler': {given}}})"
        )
    if "handler" not in sdk.config:
        others = ", ".join(map(repr, sdk.config))
        raise HandlerError(
            f"{place}: runpod.serverless.start got no 'handler'{f', only {others}' if others else ''}"
        )
    return Handler.of(sdk.config["handler"], text, sdk.config)


def _from_module(name: str, function: str, text: str) -> Handler:
    sdk = SDKStandIn(start_ends_script=False)
    with _importable_from(Path.cwd()), sdk.installed(), _explained(text):
        module = importlib.import_module(name)
    return _named_function(module, function, text, sdk)


def _named_function(module: ModuleType, function: str, text: str, sdk: SDKStandIn) -> Handler:
    found = getattr(module, function, None)
    if found is None:
        names = ", ".join(
            sorted(name for name, value in vars(module).items() if callable(value) and name[0] != "_")
        )
        raise HandlerError(f"{text}: there is no {function} in it; it defines: {names or 'no functions'}")
    config: dict[str, Any] = {}
    if isinstance(sdk.config, Mapping) and sdk.config.get("handler") is found:
        config = dict(sdk.config)
    return Handler.of(found, text, config)


@contextmanager
def _importable_from(folder: Path, *more: Path) -> Iterator[None]:
    """Make the handler's neighbours importable, and keep them so: it may import them later.

    What is in `more` comes after them.

    A neighbour that has the name of another handler's is another module: production runs the two in images
    of their own. The other's is put aside while this handler loads.
    """
    for each in (*reversed(more), folder):
        if str(each) in sys.path:
            sys.path.remove(str(each))
        sys.path.insert(0, str(each))
    namesakes = {name: module for name, module in list(sys.modules.items()) if _is_namesake(module, folder)}
    for name in namesakes:
        del sys.modules[name]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.modules.update(namesakes)


def _is_namesake(module: ModuleType, folder: Path) -> bool:
    """Whether a loaded module is another folder's, and has the name of a module of this one."""
    top, *_ = module.__name__.split(".")
    if top in _NEVER_ASIDE or top in sys.stdlib_module_names:
        return False
    if not ((folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file()):
        return False
    file = getattr(module, "__file__", None)
    return file is not None and not Path(file).resolve().is_relative_to(folder)


@contextmanager
def _registered(module: ModuleType) -> Iterator[None]:
    """Let classes find their module while it runs, as dataclasses and pydantic's models want to."""
    before = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module
    try:
        yield
    finally:
        if before is None:
            sys.modules.pop(module.__name__, None)
        else:
            sys.modules[module.__name__] = before


@contextmanager
def _as_program(name: str) -> Iterator[None]:
    """Hide our own command line from a script that parses `sys.argv`."""
    before, sys.argv = sys.argv, [name]
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn whatever the user's code raises while it loads into one error that shows where."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        module, _, function = name.partition(":")
        if function and not module.endswith(".py") and module.partition(".")[0] == package:
            raise HandlerError(no_module(name, package, (Path.cwd(),))) from error
        raise _missing_package(name, package, error) from error
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "runpod" and not sdk_is_installed():
            raise _missing_package(name, "runpod", error) from error
        lines = _users_traceback(error).splitlines()
        raise _failed(
            name, error, relative_import_hint(lines, Path.cwd(), name.partition(".py:")[2])
        ) from error
    except SystemExit as error:
        raise HandlerError(
            f"{name} ended itself (exit code {error.code}) before it called runpod.serverless.start"
        ) from error
    except BaseException as error:  # a KeyboardInterrupt of its own is no reason to end
        raise _failed(name, error, inline_cannot(error)) from error


def _failed(name: str, error: BaseException, hint: str | None) -> HandlerError:
    told = (f"{name} failed to load:", _users_traceback(error), hint)
    return HandlerError("\n\n".join(filter(None, told)))


def _missing_package(name: str, package: str, error: ImportError) -> HandlerError:
    return HandlerError(
        f"{name} needs the package {package!r}, which is not installed here:"
        f" {sys.executable} -m pip install {package}\n\n{_users_traceback(error)}"
    )


def _users_traceback(error: BaseException) -> str:
    """The traceback without our own frames and the import machinery's."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen") and frame.filename not in (__file__, importlib.__file__)
    ]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames)] if frames else []
    return "".join(lines + traceback.format_exception_only(error)).rstrip()
