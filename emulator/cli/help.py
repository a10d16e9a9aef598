"""Help as plain text for 80 columns: options in groups, names never cut; and mistakes in the user's words."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

from emulator.settings import DEFAULT_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable

_WIDTH = 80
#: Where the texts of a list begin, beyond the longest name that is short enough to have one beside it.
_NAMES_MAX = 30
_OPTIONS = "Options"
#: Of words behind `--` on the command line, in a context's notes.
_BEHIND_DASHES = "behind_dashes"


class Command(TyperCommand):
    """A command."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Note what stands behind `--`; name emulator.toml where a value is from there."""
        ctx.meta[_BEHIND_DASHES] = len(args) - args.index("--") - 1 if "--" in args else 0
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            parameter = getattr(error, "param", None)
            source = parameter and ctx.get_parameter_source(parameter.name)
            if parameter and source is not None and source.name == "DEFAULT_MAP":
                error.param_hint = f"{parameter.name.replace('_', '-')} in {DEFAULT_FILE}"  # type: ignore[attr-defined]
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write it all."""
        formatter.width = min(formatter.width, _WIDTH)
        self.format_usage(ctx, formatter)
        _write_text(formatter, self.help or "")
        rows = [(_argument(each), _help(each)) for each in self.params if _is_argument(each)]
        _write_rows(formatter, "Arguments", rows)
        groups: dict[str, list[tuple[str, str]]] = {_OPTIONS: []}
        for each in self.get_params(ctx):
            if each.param_type_name == "option" and not getattr(each, "hidden", False):
                group = getattr(each, "rich_help_panel", None) or _OPTIONS
                groups.setdefault(group, []).append((_names(each), _told(each)))
        if len(groups[_OPTIONS]) == 1:
            # What all commands have comes last.
            groups[_OPTIONS] = groups.pop(_OPTIONS)
        for group, rows in groups.items():
            _write_rows(formatter, group, rows)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What follows the command's name."""
        pieces = ["[OPTIONS]"]
        for each in filter(_is_argument, self.params):
            name = _argument(each)
            pieces.append(name if each.required or name.startswith("[") else f"[{name}]")
        return pieces


class Commands(TyperGroup):
    """A command that has others below it, in groups."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write it all."""
        formatter.width = min(formatter.width, _WIDTH)
        self.format_usage(ctx, formatter)
        _write_text(formatter, self.help or "")
        groups: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            if not command.hidden:
                told = (command.help or "").strip().partition("\n\n")[0]
                groups.setdefault(getattr(command, "rich_help_panel", None) or "Commands", []).append(
                    (name, told)
                )
        for group, rows in groups.items():
            _write_rows(formatter, group, rows)
        options = [each for each in self.get_params(ctx) if not getattr(each, "hidden", False)]
        _write_rows(formatter, "Options", [(_names(each), _help(each)) for each in options])


def words_before_dashes(ctx: Any, words: int) -> int:
    """How many of a command's arguments stand before `--`, of so many in all."""
    return words - int(ctx.meta.get(_BEHIND_DASHES, 0))


def _write_text(formatter: Any, text: str) -> None:
    for paragraph in textwrap.dedent(text).strip().split("\n\n"):
        formatter.write_paragraph()
        words = re.sub(r"\s*\n\s*", " ", paragraph)
        formatter.write("".join(f"{line}\n" for line in textwrap.wrap(words, formatter.width - 2)))


def _write_rows(formatter: Any, title: str, rows: Iterable[tuple[str, str]]) -> None:
    rows = [(name, re.sub(r"\s+", " ", told).strip()) for name, told in rows]
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows, col_max=_NAMES_MAX)


def _names(option: Any) -> str:
    names = ", ".join(sorted(option.opts, key=len))
    if option.secondary_opts:
        names += f" / {option.secondary_opts[0]}"
    if getattr(option, "is_flag", False) or getattr(option, "count", False):
        return names
    return f"{names} {option.metavar or 'VALUE'}"


def _argument(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _help(parameter: Any) -> str:
    return str(parameter.help or "")


def _told(option: Any) -> str:
    default = option.default if not callable(option.default) else None
    if default in (None, "", False, True, ()) or not getattr(option, "show_default", True):
        return _help(option)
    return f"{_help(option)} [default: {getattr(default, 'value', default)}]"
