"""How a Description lies in its row: which column holds what, and the way there and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, LiteralString

import orjson
from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError

from pipeline.errors import Rejected
from pipeline.store.literals import documents_array, json_array, plain_array, text_array
from schemas.description import Annotation, Description, TaskRequest
from schemas.wire import ZERO_TIME

Encode = Callable[[Sequence[Any]], str]


@dataclass(frozen=True, slots=True)
class Column:
    """A column that holds one attribute of the Description."""

    name: LiteralString
    attribute: str
    array: LiteralString
    """Type of the array in which the values of a batch travel."""
    encode: Encode
    value: LiteralString = ""
    """Type that an element is cast to on arrival, if it is another one."""


def _text(name: LiteralString) -> Column:
    return Column(name, name, "TEXT[]", text_array)


def _integer(name: LiteralString, attribute: str = "") -> Column:
    return Column(name, attribute or name, "BIGINT[]", plain_array)


def _flag(name: LiteralString) -> Column:
    return Column(name, name, "BOOLEAN[]", plain_array)


def _moment(name: LiteralString) -> Column:
    return Column(name, name, "TIMESTAMPTZ[]", plain_array)


def _document(name: LiteralString, encode: Encode = json_array) -> Column:
    return Column(name, name, "TEXT[]", encode, "JSONB")


def _model_array(models: Sequence[Any]) -> str:
    try:
        return documents_array([None if model is None else model.model_dump_json() for model in models])
    except PydanticSerializationError as error:  # lone surrogates
        raise Rejected(f"the database does not take it: {error}") from error


HEARTBEAT: Final = (
    _integer("row_version"),
    _moment("last_updated"),
    _integer("battery"),
    _integer("device_uptime", "device_uptime_s"),
    _flag("running_swarming_task"),
    _flag("launched_swarming"),
    _moment("monitor_start"),
    _integer("monitor_sequence"),
    _document("temperature"),
)
"""What a heartbeat changes when all is well. No index mentions these columns."""

RARE: Final = (
    _text("version"),
    _text("maintenance_mode"),
    _flag("is_quarantined"),
    _text("recovering"),
    _moment("recovery_start"),
    _moment("down_since"),
    _text("attached_device"),
    _text("device_kind"),
    _text("ssh_user_ip"),
    _flag("power_cycle"),
    _text("power_cycle_state"),
    _text("power_action"),
    _text("power_status"),
    _text("healing"),
    _moment("task_started"),
    _document("annotation", _model_array),
    _document("note", _model_array),
    _document("supplied_dimensions"),
    _document("task_request", _model_array),
    _document("dimensions"),
)

_EVERY_FIELD: Final = list(Description.model_fields)
ALL: Final = tuple(sorted(HEARTBEAT + RARE, key=lambda column: _EVERY_FIELD.index(column.attribute)))
"""In the order of the Description's fields, in which pydantic writes them as JSON."""

_ATTRIBUTES: Final = tuple(column.attribute for column in ALL)
assert list(_ATTRIBUTES) == _EVERY_FIELD, "a field of Description has no column"
_TEMPLATE: Final = Description.model_construct(set(_EVERY_FIELD))

_MOMENTS: Final = tuple(column.attribute for column in ALL if column.array == "TIMESTAMPTZ[]")
_NO_ANNOTATION: Final = Annotation()
_NO_ANNOTATION_STORED: Final = orjson.loads(_NO_ANNOTATION.model_dump_json())
_ANNOTATIONS: Final = TypeAdapter(Annotation)
"""Takes what we wrote. `model_validate` would first look for other spellings of the keys."""

_heartbeat_values = itemgetter(*(column.attribute for column in HEARTBEAT))
_rare_values = itemgetter(*(column.attribute for column in RARE))
_all_values = itemgetter(*_ATTRIBUTES)


def only_heartbeat_differs(before: Description, after: Description) -> bool:
    """Whether writing the heartbeat's columns is enough."""
    same: bool = _rare_values(before.__dict__) == _rare_values(after.__dict__)
    return same


def heartbeat_arrays(descriptions: Iterable[Description]) -> list[str]:
    """One array literal for each column of `HEARTBEAT`. Raises `Rejected`."""
    return _arrays(HEARTBEAT, [_heartbeat_values(each.__dict__) for each in descriptions])


def whole_arrays(descriptions: Iterable[Description]) -> list[str]:
    """One array literal for each column of `ALL`. Raises `Rejected`."""
    return _arrays(ALL, [_all_values(each.__dict__) for each in descriptions])


def _arrays(columns: Sequence[Column], rows: list[tuple[Any, ...]]) -> list[str]:
    return [column.encode(values) for column, values in zip(columns, zip(*rows, strict=True), strict=True)]


def description_from(row: Sequence[Any]) -> Description:
    """The Description that was written into the columns of `ALL`.

    It was valid then and the columns have types, so only the nested models are built by pydantic. The zero time and the
    empty annotation are shared: they are told apart by identity first, and a fleet has many.
    """
    values = dict(zip(_ATTRIBUTES, row, strict=True))
    for name in _MOMENTS:
        if values[name].year == 1:
            values[name] = ZERO_TIME
    values["annotation"] = _annotation(values["annotation"])
    values["note"] = _annotation(values["note"])
    if values["task_request"] is not None:
        values["task_request"] = TaskRequest.model_validate(values["task_request"])
    if values["temperature"] is not None:
        values["temperature"] = {name: float(degrees) for name, degrees in values["temperature"].items()}
    return _TEMPLATE.evolve(values)


def _annotation(stored: Any) -> Annotation:
    return _NO_ANNOTATION if stored == _NO_ANNOTATION_STORED else _ANNOTATIONS.validate_python(stored)


def search_text(machine_id: str, description: Description) -> str:
    """What a person's search looks at: the machine's id, dimensions, notes, annotation and state texts, case folded."""
    words = [
        machine_id,
        description.maintenance_mode,
        description.recovering,
        "forced quarantine" if description.is_quarantined else "",
        description.attached_device,
        description.device_kind,
        description.ssh_user_ip,
        description.power_cycle_state,
        description.power_status,
        description.healing,
        description.version,
        description.annotation.message,
        description.annotation.user,
        description.note.message,
        description.note.user,
    ]
    for name, values in (description.dimensions or {}).items():
        words.append(name)
        words.extend(values or ())
    return "\n".join(filter(None, words)).casefold()
