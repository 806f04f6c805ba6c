"""Kafka that asks who we are: passwords, certificates, rights, and what is said when they are wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from infra.servers.kafka.secure import SecureKafkaServer
from pipeline.broker.kafka import KafkaBroker
from pipeline.broker.kafka_config import read_config
from pipeline.broker.protocol import Outgoing
from pipeline.errors import BrokerUnavailable, LabkeeperError, Misconfigured, Rejected, TurnedAway
from pipeline.settings import KafkaSettings, SaslMechanism
from schemas.topics import MACHINE_EVENTS
from tests.servers.kafka import KAFKA, VERSION
from tests.servers.kinds import temporary_folder

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server() -> Iterator[SecureKafkaServer]:
    with (
        KAFKA.needed(),
        temporary_folder() as folder,
        SecureKafkaServer.start(folder / "kafka", version=VERSION) as server,
    ):
        yield server


@pytest.fixture
def right(server: SecureKafkaServer) -> KafkaSettings:
    return KafkaSettings(
        (server.sasl_ssl,),
        tls=True,
        ca_file=server.access.certificates.ca_file,
        mechanism=SaslMechanism.SCRAM_SHA_512,
        username=server.access.user,
        password=server.access.password,
    )


async def works(settings: KafkaSettings) -> None:
    """Create, publish, read and acknowledge."""
    broker = KafkaBroker(settings)
    try:
        await broker.create_topics()
        await broker.publish([Outgoing(MACHINE_EVENTS, "m", b"1")])
        async with broker.subscribe(MACHINE_EVENTS, group="readers") as subscription:
            async for batch in subscription:
                await subscription.acknowledge(batch)
                break
    finally:
        await broker.close()


async def told(settings: KafkaSettings) -> LabkeeperError:
    """What whoever publishes is told, and not only when its patience is at an end."""
    broker = KafkaBroker(settings, patience=timedelta(minutes=2))
    began = time.monotonic()
    try:
        with pytest.raises(LabkeeperError) as refused:
            await broker.publish([Outgoing(MACHINE_EVENTS, "m", b"1")])
        assert time.monotonic() - began < 60
    finally:
        await broker.close()
    return refused.value


@pytest.mark.parametrize("mechanism", SaslMechanism)
async def test_a_password_lets_in_over_tls(right: KafkaSettings, mechanism: SaslMechanism) -> None:
    await works(replace(right, mechanism=mechanism))


async def test_a_password_lets_in_without_tls(server: SecureKafkaServer, right: KafkaSettings) -> None:
    await works(
        replace(right, servers=(server.sasl_plaintext,), tls=False, mechanism=SaslMechanism.SCRAM_SHA_256)
    )


async def test_a_certificate_lets_in(server: SecureKafkaServer, tmp_path: Path) -> None:
    """As a configuration file names it."""
    certificates = server.access.certificates
    file = tmp_path / "kafka.conf"
    file.write_text(
        f"bootstrap.servers={server.ssl}\nsecurity.protocol=SSL\nssl.ca.location={certificates.ca_file}\n"
        f"ssl.certificate.location={certificates.client_certificate}\nssl.key.location={certificates.client_key}\n"
    )
    await works(read_config(file))


@pytest.mark.parametrize("mechanism", SaslMechanism)
async def test_a_wrong_password_is_said_to_be_wrong(right: KafkaSettings, mechanism: SaslMechanism) -> None:
    """At once, and it is not the broker's fault: trying again would not help."""
    error = await told(replace(right, mechanism=mechanism, password="wrong"))
    assert isinstance(error, TurnedAway)
    assert f"turns {right.username!r} away" in str(error)
    assert "check user name, password and mechanism" in str(error)


async def test_a_stranger_among_the_authorities_is_not_trusted(right: KafkaSettings) -> None:
    error = await told(replace(right, ca_file=None))
    assert isinstance(error, Misconfigured)
    assert "is not trusted" in str(error)
    assert "name its authority's file" in str(error)


async def test_the_wrong_protocol_for_a_port_is_hinted_at(
    server: SecureKafkaServer, right: KafkaSettings
) -> None:
    """A server that is only starting hangs up as well: so it is tried again."""
    strangers = (right.servers[0], server.sasl_plaintext)
    for settings in (
        replace(right, servers=(server.bootstrap,)),
        *(KafkaSettings((port,)) for port in strangers),
    ):
        error = await told(settings)
        assert isinstance(error, BrokerUnavailable)
        assert f"{settings.servers[0]} hangs up" in str(error)
        assert "security.protocol" in str(error)


async def test_a_password_where_nobody_asks_for_one_is_a_mistake(
    server: SecureKafkaServer, right: KafkaSettings
) -> None:
    error = await told(replace(right, servers=(server.bootstrap,), tls=False))
    assert isinstance(error, Misconfigured)
    assert "security.protocol" in str(error)
    assert "AIOKafka" not in str(error)


async def test_a_user_without_rights_is_told_so(server: SecureKafkaServer, right: KafkaSettings) -> None:
    """Creating topics is refused with advice; using them ends the service."""
    await works(right)
    guest = replace(right, username=server.access.guest)
    error = await told(guest)
    assert isinstance(error, Misconfigured)
    assert "lacks a permission" in str(error)
    broker = KafkaBroker(guest)
    try:
        with pytest.raises((Rejected, Misconfigured), match=r"permission|rights"):
            await broker.create_topics()
    finally:
        await broker.close()


def test_files_that_hold_no_certificates_are_refused(tmp_path: Path, right: KafkaSettings) -> None:
    empty = tmp_path / "ca.pem"
    empty.touch()
    with pytest.raises(Misconfigured, match=r"ca\.pem holds no certificates"):
        KafkaBroker(replace(right, ca_file=empty))
    with pytest.raises(Misconfigured, match=r"cannot use the certificate .*ca\.pem"):
        KafkaBroker(replace(right, certificate_file=empty))
