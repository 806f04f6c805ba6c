"""The policy file's document, checked and made into `Policies`. Says in a sentence which key of which pool is wrong."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError

from pipeline.healing.policy import EVERY_POOL, Policies, Policy
from schemas.spans import read_span, span_text
from schemas.wire import Body, faults, in_plain_words

_SHORTEST: Final = timedelta(minutes=1)
_LONGEST: Final = timedelta(days=30)
_MOST_TOLD: Final = 10


def _bounded(span: timedelta) -> timedelta:
    if not _SHORTEST <= span <= _LONGEST:
        raise ValueError(f"must be from {span_text(_SHORTEST)} to {span_text(_LONGEST)}")
    return span


_Span = Annotated[timedelta, BeforeValidator(read_span), AfterValidator(_bounded)]


class _PoolEntry(Body):
    """What the file says of a pool. What it does not say is as with `*`, and else as in `Policy`."""

    model_config = ConfigDict(strict=True)

    enabled: bool = True
    dry_run: bool = False
    after: _Span = Policy().after
    attempts: Annotated[int, Field(ge=1, le=20)] = Policy().attempts
    window: _Span = Policy().window
    pause: _Span = Policy().pause
    factor: Annotated[float, Field(ge=1, le=10)] = Policy().factor
    longest_pause: _Span = Policy().longest_pause
    pool_percent: Annotated[float, Field(gt=0, le=100)] = Policy().pool_percent
    rack_machines: Annotated[int, Field(ge=1, le=1000)] = Policy().rack_machines
    stale_task_after: _Span = Policy().stale_task_after


class _File(Body):
    """The whole file."""

    model_config = ConfigDict(strict=True)

    lab_percent: Annotated[float, Field(gt=0, le=100)] = Policies().lab_percent
    outage_span: _Span = Policies().outage_span
    pools: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=128)], _PoolEntry], Field(max_length=1000)
    ]


def policies_of(document: Any, name: str) -> Policies:
    """What a document says, as JSON has it; `name` is the file's, for errors. Raises ValueError, with a sentence for the person who wrote it."""
    try:
        file = _File.model_validate(_with_defaults(document))
    except ValidationError as error:
        told = [_told(field, message) for field, message in faults(error) if not _is_of_star(field, document)]
        raise ValueError(f"{name}: {'; '.join(told[:_MOST_TOLD])}") from error
    policies = Policies(
        {pool: Policy(**entry.model_dump()) for pool, entry in file.pools.items()},
        file.lab_percent,
        file.outage_span,
    )
    for pool, policy in sorted(policies.pools.items(), key=lambda each: each[0] != EVERY_POOL):
        _check(policies, pool, policy, name)
    return policies


def document_of(policies: Policies) -> dict[str, Any]:
    """A document that `policies_of` reads back."""
    return {
        "lab_percent": policies.lab_percent,
        "outage_span": span_text(policies.outage_span),
        "pools": {pool: _entry_of(policy) for pool, policy in policies.pools.items()},
    }


def _entry_of(policy: Policy) -> dict[str, Any]:
    values = _PoolEntry.model_construct(
        **{name: getattr(policy, name) for name in _PoolEntry.model_fields}
    ).model_dump()
    return {key: span_text(value) if isinstance(value, timedelta) else value for key, value in values.items()}


def _with_defaults(document: Any) -> Any:
    """The document with what `*` says in every pool that does not say otherwise."""
    pools = document.get("pools") if isinstance(document, dict) else None
    every = pools.get(EVERY_POOL) if isinstance(pools, dict) else None
    if not isinstance(pools, dict) or not isinstance(every, dict):
        return document
    filled = {pool: {**every, **entry} if isinstance(entry, dict) else entry for pool, entry in pools.items()}
    return {**document, "pools": filled}


def _is_of_star(field: str, document: Any) -> bool:
    """Whether a pool has this mistake from `*`, where it is told."""
    parts = field.split(".")
    if parts[0] != "pools" or len(parts) < 3:
        return False
    pool, key = ".".join(parts[1:-1]), parts[-1]
    if pool == EVERY_POOL:
        return False
    own, every = document["pools"].get(pool), document["pools"].get(EVERY_POOL)
    return isinstance(own, dict) and isinstance(every, dict) and key in every and key not in own


def _told(field: str, message: str) -> str:
    message = in_plain_words(message)
    parts = field.split(".")
    if parts[0] != "pools" or len(parts) < 2:
        return f"{'the file' if field == 'body' else field}: {message}"
    *pool, key = parts[1:] if len(parts) > 2 else (parts[1], "its entry")
    return f"pool {'.'.join(pool)!r}: {key}: {message}"


def _check(policies: Policies, pool: str, policy: Policy, name: str) -> None:
    if policy.longest_pause < policy.pause:
        raise ValueError(
            f"{name}: pool {pool!r}: longest_pause: must not be shorter than pause ({span_text(policy.pause)})"
        )
    if policy.after < policies.outage_span:
        raise ValueError(
            f"{name}: pool {pool!r}: after: must not be shorter than outage_span ({span_text(policies.outage_span)}), "
            "or a dead switch could not be told from a dead machine"
        )
