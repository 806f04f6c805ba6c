"""The base of every wire model: what Go's JSON accepts we accept, what Go's JSON writes we write.

The machines in the field run Go programs (see `docs/decisions/002-go-json.md`). Their decoder ignores case and unknown
keys and takes `null` for "leave the zero value"; their encoder writes the zero time as year 1 and durations as integer
nanoseconds. pydantic's Rust parser is several times faster than anything written here, so the exact spelling goes
straight through it, and only a document that is refused or that holds a key nobody knows is read a second time, slowly.

What this module refuses: NUL characters and lone surrogates in any text (no SQL store keeps them), NaN and infinities,
numbers in quotes, times outside 1970 to 2261 (other than the zero time), integers beyond 64 bits.
"""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)
"""Go's zero time: `0001-01-01T00:00:00Z`, meaning "never"."""
_ZERO_TIME_TEXT = "0001-01-01T00:00:00Z"

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(2262, 1, 1, tzinfo=UTC)
"""Go counts time in 64-bit nanoseconds since 1970, which end in April 2262."""

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_NUL = b"\\u0000"
"""How JSON spells the character; a bare one is not JSON."""
_ZEROS = b"0000"
"""Looking for these first takes a twentieth of the time: a long event with many backslashes slows the search for `_NUL`."""


def parse_time(value: object) -> datetime:
    """Read an RFC 3339 time, or take an aware datetime. Sub-microsecond digits are cut off. The result is in UTC."""
    if isinstance(value, str):
        return _read_time(value)
    if isinstance(value, datetime):
        return _in_range(value)
    raise ValueError("expected an RFC 3339 time such as 2026-01-31T09:30:00Z")


@lru_cache(maxsize=65536)  # a monitor sends the same start time with each of its events
def _read_time(text: str) -> datetime:
    if not _RFC3339.fullmatch(text):
        raise ValueError("expected an RFC 3339 time such as 2026-01-31T09:30:00Z")
    return _in_range(datetime.fromisoformat(text.upper()))


def _in_range(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time needs a zone, such as Z or +02:00")
    try:
        moment = moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the time lies outside the years 1 to 9999") from error
    if _EARLIEST <= moment < _LATEST:
        return moment
    if moment == ZERO_TIME:
        return ZERO_TIME
    raise ValueError("the time must lie in the years 1970 to 2261, or be the zero time 0001-01-01T00:00:00Z")


@lru_cache(maxsize=65536)  # most times of a machine stay as they are from one event to the next
def format_time(moment: datetime) -> str:
    """RFC 3339 as Go writes it: `Z` for UTC, as many fractional digits as needed and no more."""
    if moment is ZERO_TIME:
        return _ZERO_TIME_TEXT
    text = moment.replace(tzinfo=None).isoformat()
    if moment.microsecond:
        text = text.rstrip("0")
    return text + "Z"


def to_milliseconds(moment: datetime) -> datetime:
    """Truncate (not round) to what the store keeps."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _sorted_items(value: dict[str, Any] | None) -> dict[str, Any] | None:
    return value if value is None else dict(sorted(value.items()))


Bool = Annotated[bool, Field(strict=True)]
Int32 = Annotated[int, Field(strict=True, ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, Field(strict=True, ge=-(2**63), le=2**63 - 1)]
Float = Annotated[float, Field(strict=True)]
Time = Annotated[
    datetime,
    BeforeValidator(parse_time),
    PlainSerializer(format_time, return_type=str, when_used="json"),
]
StringList = Annotated[
    list[str], Field(fail_fast=True)
]  # else a megabyte of bad items makes half a million errors
"""A Go string list. The zero value is null, which is not the same as an empty list; see each field."""
Dimensions = Annotated[
    dict[str, StringList | None], PlainSerializer(_sorted_items, return_type=dict[str, list[str] | None])
]
"""A Swarming dimension set: name to values. Written with sorted keys, as Go writes maps."""
Temperatures = Annotated[dict[str, Float], PlainSerializer(_sorted_items, return_type=dict[str, float])]
"""Degrees Celsius by sensor name. Written with sorted keys, as Go writes maps."""


def _forget_additional_properties(schema: dict[str, Any]) -> None:
    schema.pop("additionalProperties", None)


class WireModel(BaseModel):
    """A frozen message that ignores unknown keys, so that a newer producer does not fill the dead-letter topic."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",  # an unknown key leads to the slow path, which drops it
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        json_schema_extra=_forget_additional_properties,
    )

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **_options: Any) -> Self:
        """Read JSON as Go would: any case of a key, unknown keys ignored, null for the zero value.

        Raises `pydantic.ValidationError`, which names the field.
        """
        if isinstance(json_data, str):
            json_data = json_data.encode("utf-8", "surrogatepass")
        try:
            model: Self = cls.__pydantic_validator__.validate_json(json_data)
        except ValidationError as error:
            try:
                document = json.loads(json_data)
            except (ValueError, RecursionError):
                raise error from None
            return cls.model_validate(document)
        if _ZEROS in json_data and json_data.rfind(_NUL) >= 0:
            return cls.model_validate(json.loads(json_data))
        return model

    @classmethod
    def model_validate(cls, obj: Any, **_options: Any) -> Self:
        """Like `model_validate_json`, for a document that is already parsed."""
        if isinstance(obj, cls):
            return obj
        try:
            plain = _as_written(cls, obj, ())
        except RecursionError:
            raise _located(cls, (), "nested too deeply") from None
        model: Self = cls.__pydantic_validator__.validate_python(plain)
        return model

    def evolve(self, changes: Mapping[str, Any]) -> Self:
        """A copy in which the named attributes have other values, which must be valid: nothing is checked.

        Does what `model_copy(update=...)` does in half the time, which matters where every event passes.
        """
        cls = type(self)
        copy = cls.__new__(cls)
        object.__setattr__(copy, "__dict__", {**self.__dict__, **changes})
        object.__setattr__(copy, "__pydantic_fields_set__", self.__pydantic_fields_set__)
        object.__setattr__(copy, "__pydantic_extra__", None)
        object.__setattr__(copy, "__pydantic_private__", None)
        return copy


class Body(BaseModel):
    """A request body or setting of our own: unknown keys are refused, because there a typo must not pass."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


@cache
def _fields_by_folded_key(model: type[BaseModel]) -> dict[str, tuple[str, Any]]:
    keys: dict[str, tuple[str, Any]] = {}
    for name, field in model.model_fields.items():
        key = field.alias or name
        keys[key.casefold()] = (key, field.annotation)
        keys.setdefault(name.casefold(), (key, field.annotation))
    return keys


def _as_written(annotation: Any, value: Any, at: tuple[str | int, ...]) -> Any:
    """`value` with every key in its canonical spelling, and without unknown keys and nulls that mean "zero"."""
    if isinstance(value, str):
        if (found := _UNSTORABLE.search(value)) is not None:
            what = "NUL characters" if found[0] == "\x00" else "lone surrogates"
            raise _located(WireModel, at, f"text must not contain {what}")
        return value
    model = _model_in(annotation)
    if isinstance(value, list):
        return [_as_written(model, item, (*at, index)) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if model is None or not isinstance(annotation, type):
        return {
            _as_written(None, key, (*at, key)): _as_written(model, item, (*at, key))
            for key, item in value.items()
        }
    known = _fields_by_folded_key(model)
    plain: dict[str, Any] = {}
    for key, item in value.items():
        key_and_type = known.get(key.casefold()) if isinstance(key, str) else None
        if key_and_type is None or item is None:
            continue
        canonical, inner = key_and_type
        if canonical in plain and key != canonical:
            continue  # the exact spelling wins over another case of it
        plain[canonical] = _as_written(inner, item, (*at, canonical))
    return plain


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside `Model`, `Model | None`, `list[Model]` or `dict[str, Model]`."""
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    for inner in typing.get_args(annotation):
        found = _model_in(inner)
        if found is not None:
            return found
    return None


def _located(model: type[BaseModel], at: tuple[str | int, ...], reason: str) -> ValidationError:
    detail = InitErrorDetails(type=PydanticCustomError("bad_text", reason), loc=at, input=None)
    return ValidationError.from_exception_data(model.__name__, [detail])


def faults(error: ValidationError) -> list[tuple[str, str]]:
    """Field (`host.name`; `body` for the whole document) and what is wrong with it, for each one. No input values."""
    return [
        (
            ".".join(str(part) for part in detail["loc"]) or "body",
            detail["msg"].removeprefix("Value error, "),
        )
        for detail in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def explain(error: ValidationError) -> str:
    """One sentence a field: `host.name: text must not contain NUL characters; android.uptime: …`. No input values."""
    return "; ".join(f"{field}: {message}" for field, message in faults(error))


_PLAIN_WORDS: Final = (
    (re.compile("Extra inputs are not permitted"), "there is no such key"),
    (re.compile("Field required"), "is missing"),
    (re.compile("Input should be a valid boolean.*"), "expected true or false"),
    (re.compile("Input should be a valid dictionary.*"), "expected an object in braces"),
    (re.compile("Input should be a valid (list|tuple).*"), "expected a list in brackets"),
    (re.compile("Input should be "), "must be "),
)


def in_plain_words(message: str) -> str:
    """What `faults` says is wrong with a field, for somebody who wrote a configuration file by hand."""
    for pattern, words in _PLAIN_WORDS:
        message = pattern.sub(words, message)
    return message
