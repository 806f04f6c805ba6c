"""Pub/Sub's errors in our words, and what is needed before there is a connection."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from consumers.description_writer.settings import GROUP as WRITERS
from consumers.fleet_stats.settings import GROUP as STATISTICIANS
from pipeline.broker.pubsub import PubsubBroker
from pipeline.broker.pubsub_service import (
    GET_SUBSCRIPTION,
    PUBLISH,
    AlreadyThere,
    NotThere,
    Service,
    Unsupported,
    _translated,
)
from pipeline.broker.pubsub_topics import GROUPS
from pipeline.errors import BrokerUnavailable, LabkeeperError, Misconfigured, Rejected
from pipeline.settings import PubsubSettings
from schemas.topics import MACHINE_CHANGES, MACHINE_EVENTS, POWER_RESULTS

TOPIC = "projects/lab/topics/labkeeper.machine.events"
Code = grpc.StatusCode


def failed(code: grpc.StatusCode, details: str = "some  details\n") -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (Code.UNAVAILABLE, BrokerUnavailable, "Pub/Sub: some details"),
        (Code.DEADLINE_EXCEEDED, BrokerUnavailable, "Pub/Sub: some details"),
        (Code.RESOURCE_EXHAUSTED, BrokerUnavailable, "Pub/Sub: some details"),
        (Code.INTERNAL, BrokerUnavailable, "Pub/Sub: some details"),
        (Code.NOT_FOUND, NotThere, "no topic labkeeper.machine.events in lab .*`labkeeper topics create`"),
        (Code.ALREADY_EXISTS, AlreadyThere, "already"),
        (
            Code.PERMISSION_DENIED,
            Misconfigured,
            r"refuses Publish on topic labkeeper.* grant roles/pubsub\.publisher",
        ),
        (Code.UNAUTHENTICATED, Misconfigured, "gcloud auth application-default login"),
        (Code.UNIMPLEMENTED, Unsupported, "does not know Publish"),
        (Code.INVALID_ARGUMENT, Rejected, "refuses Publish on topic labkeeper"),
        (Code.FAILED_PRECONDITION, Rejected, "refuses Publish on topic labkeeper"),
    ],
)
def test_errors_are_named_for_the_reaction(
    code: grpc.StatusCode, kind: type[LabkeeperError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        raise _translated(failed(code), PUBLISH, TOPIC)


def test_a_missing_subscription_is_called_one() -> None:
    error = _translated(failed(Code.NOT_FOUND), GET_SUBSCRIPTION, "projects/lab/subscriptions/a.b")
    assert "no subscription a.b in lab" in str(error)


def test_without_a_project_there_is_no_broker() -> None:
    with pytest.raises(Misconfigured, match="--pubsub-project"):
        PubsubBroker(PubsubSettings())


async def test_without_credentials_it_says_how_to_get_some(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    nowhere = tmp_path_factory.mktemp("nowhere")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(nowhere))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    service = Service(PubsubSettings("lab"))
    with pytest.raises(
        Misconfigured, match=r"application-default login`, or name a key file in GOOGLE_APPLICATION"
    ):
        await service.call(PUBLISH, topic=TOPIC)
    await service.close()


async def test_an_address_where_nobody_listens_is_an_unavailable_broker() -> None:
    service = Service(PubsubSettings("lab", "127.0.0.1:1"))
    with pytest.raises(BrokerUnavailable, match="Pub/Sub: "):
        await service.call(PUBLISH, topic=TOPIC)
    await service.close()
    with pytest.raises(BrokerUnavailable, match="closed"):
        await service.call(PUBLISH, topic=TOPIC)


def test_the_subscriptions_of_the_services_are_made_with_the_topics() -> None:
    assert GROUPS == {
        MACHINE_EVENTS: (WRITERS,),
        MACHINE_CHANGES: (STATISTICIANS,),
        POWER_RESULTS: (WRITERS,),
    }
