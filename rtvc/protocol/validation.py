"""What both ends check before they believe a message: JSON, shape, bounds."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, TypeVar

import pydantic_core
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from rtvc.errors import ProtocolError

MAX_ID_CHARS = 512
MAX_TEXT_CHARS = 100_000
MAX_AUDIO_BYTES = 15 * 1024 * 1024
MAX_AUDIO_CHARS = (MAX_AUDIO_BYTES + 2) // 3 * 4
MAX_EVENT_CHARS = MAX_AUDIO_CHARS + 64 * 1024

Identifier = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARS)]
BoundedText = Annotated[str, Field(max_length=MAX_TEXT_CHARS)]
Base64Audio = Annotated[str, Field(max_length=MAX_AUDIO_CHARS)]


def _small(value: dict[str, Any]) -> dict[str, Any]:
    # Infinity can be written as 1e999, and could never be sent back.
    length = len(json.dumps(value, allow_nan=False))
    if length > MAX_TEXT_CHARS:
        raise ValueError(f"an object of at most {MAX_TEXT_CHARS} characters of JSON, not {length}")
    return value


SmallObject = Annotated[dict[str, Any], AfterValidator(_small)]
"""Any JSON object that is kept with a session."""

ModelT = TypeVar("ModelT", bound=BaseModel)


class Frozen(BaseModel):
    """A message or a part of one: immutable, strict about types, deaf to unknown fields."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


def read_object(text: str | bytes) -> dict[str, Any]:
    """The JSON object in `text`.

    Raises:
        ProtocolError: too long, not JSON, or JSON but not an object.
    """
    if len(text) > MAX_EVENT_CHARS:
        raise ProtocolError(
            f"expected an event of at most {MAX_EVENT_CHARS} characters, got {len(text)}",
            code="event_too_large",
        )
    value = _read_json(text)
    if not isinstance(value, dict):
        raise ProtocolError(f"expected a JSON object, got {named(value)}", code="invalid_json")
    return value


def _read_json(text: str | bytes) -> Any:
    try:
        return pydantic_core.from_json(text, allow_inf_nan=False, cache_strings=False)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(
            f"expected JSON, got something else: {error}", code="invalid_json"
        ) from None


def validated(
    model: type[ModelT], value: object, *, param: str = "", event_id: str | None = None
) -> ModelT:
    """`value` as a `model`; `param` is the dotted path of `value` in its message.

    Raises:
        ProtocolError: names the first field at fault, what it should be and what it was.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        _refuse(error, param, event_id)


def _refuse(error: ValidationError, param: str, event_id: str | None) -> NoReturn:
    first = error.errors(include_url=False)[0]
    path = dotted(param, first["loc"])
    got = "nothing" if first["type"] == "missing" else named(first["input"])
    raise ProtocolError(
        f"{path}: expected {_expected(first)}, got {got}",
        code=_code(first["type"]),
        param=path or None,
        event_id=event_id,
    ) from None


def dotted(param: str, loc: tuple[int | str, ...]) -> str:
    """The path of a field; tags of unions stand in angle brackets and are left out."""
    names = [str(part) for part in loc if not str(part).startswith("<")]
    return ".".join([param, *names] if param else names)


_EXPECTED = {
    "missing": "a value",
    "string_type": "a string",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "tuple_type": "a list",
    "string_too_short": "at least {min_length} character(s)",
    "string_too_long": "at most {max_length} characters",
    "too_short": "at least {min_length} element(s)",
    "too_long": "at most {max_length} element(s)",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
    "string_pattern_mismatch": "text that matches {pattern}",
    "literal_error": "{expected}",
}


def _expected(error: ErrorDetails) -> str:
    template = _EXPECTED.get(error["type"])
    if template is None:
        return error["msg"].removeprefix("Value error, ").removeprefix("expected ")
    return template.format(**error.get("ctx", {}))


def _code(error_type: str) -> str:
    if error_type == "missing":
        return "missing_required_parameter"
    return "invalid_type" if error_type.endswith("_type") else "invalid_value"


def named(value: object) -> str:
    """A short name of what came, for a message; never the whole of a long value.

    >>> named({"type": "mp3"}), named("x" * 100), named(7)
    ('an object of type "mp3"', 'a string of 100 characters', '7')
    """
    if isinstance(value, Mapping):
        kind = value.get("type")
        return f"an object of type {named(kind)}" if isinstance(kind, str) else "an object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, str) and len(value) > 40:
        return f"a string of {len(value)} characters"
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a number of more than 20 digits"
    return json.dumps(value, default=str)


def field_of(value: object, name: str) -> object:
    """A field of a JSON object, or of the model it became."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def type_tag(value: object) -> str | None:
    """The tag of one kind of a union, told apart by `type`."""
    kind = field_of(value, "type")
    return f"<{kind}>" if isinstance(kind, str) else None
