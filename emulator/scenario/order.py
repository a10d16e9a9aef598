"""What all orders in JSON form have in common: they are checked by models, and refused in plain sentences."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, NoReturn, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

from emulator.core.bounds import COUNT_MAX, TIME_MAX_MS
from emulator.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import ValidatorFunctionWrapHandler
    from pydantic_core import ErrorDetails


class Order(BaseModel):
    """Something that is ordered; keys it does not know are mistakes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @classmethod
    def read(cls, fields: object) -> Self:
        """The order for its JSON form.

        :raises ConfigError: it is none; the message says where and what to write.
        """
        try:
            return cls.model_validate(fields)
        except (ValidationError, RecursionError) as error:
            if isinstance(error, RecursionError):
                raise ConfigError("is nested too deeply") from error
            raise ConfigError(told(error.errors(), cls)) from error


def must(rule: str) -> WrapValidator:
    """Says `rule` of whatever a field does not accept."""

    def checked(value: object, accepts: ValidatorFunctionWrapHandler) -> object:
        try:
            return accepts(value)
        except ValidationError:
            broken(rule)

    return WrapValidator(checked)


def broken(rule: str) -> NoReturn:
    """Refuse what a validator looks at.

    :raises PydanticCustomError: always.
    """
    raise PydanticCustomError("rule", "{rule}", {"rule": rule})


Ms = Annotated[
    int, Field(ge=0, le=TIME_MAX_MS), must(f"must be a number of ms, up to {TIME_MAX_MS} (ten years)")
]
Count = Annotated[int, Field(ge=0, le=COUNT_MAX), must(f"must be a whole number, up to {COUNT_MAX}")]
Status = Annotated[int, Field(ge=200, le=599), must("must be a status code from 200 to 599")]


def told(errors: Sequence[ErrorDetails], model: object = None) -> str:
    """The first thing that is wrong, in a sentence: where, and what to write.

    `model`: what was to be read, a model or one that may be left out.
    """
    error = errors[0]
    # The framework says where an order stood: in the body.
    way = error["loc"][error["loc"][:1] == ("body",) :]
    place = ".".join(map(str, way))
    if error["type"] == "extra_forbidden":
        key = way[-1]
        known = _keys_at(model, way[:-1])
        return f"{place}: there is no such key{did_you_mean(str(key), known)}"
    if error["type"] == "rule":
        # A rule about a whole object names the place by itself.
        return f"{place}: {error['msg']}" if place else error["msg"]
    return f"{place or 'body'}: {error['msg']}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The known word that was meant, or else all there are."""
    names = list(known)
    if close := difflib.get_close_matches(word, names, n=1, cutoff=0.6):
        return f": did you mean {close[0]}?"
    return f": there are {', '.join(names)}" if names else ""


def _keys_at(annotation: object, way: Sequence[int | str]) -> Iterable[str]:
    """The keys of the model that stands at the end of the way; none when none does."""
    model = _model_in(annotation)
    for part in way:
        field = None if model is None else model.model_fields.get(str(part))
        model = None if field is None else _model_in(field.annotation)
    return () if model is None else model.model_fields


def _model_in(annotation: object) -> type[BaseModel] | None:
    kinds = [annotation, *getattr(annotation, "__args__", ())]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
