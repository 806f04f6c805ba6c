"""Which runner is taken, and how Faust is told where Kafka is."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumers.fleet_stats.__main__ import command
from consumers.fleet_stats.faust_table import make_app
from pipeline import command as commands
from pipeline import metrics
from pipeline.broker.kafka_client import Link
from pipeline.settings import KafkaSettings, SaslMechanism


def test_faust_without_kafka_is_refused_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        commands.run(command, ["--database-url", "postgresql:///nowhere", "--runner", "faust"])

    assert ended.value.code == 2
    assert "with --broker embedded use --runner plain" in capsys.readouterr().err


def test_the_length_of_a_window_is_told_before_the_first_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.fleet_stats.__main__.serve", lambda *_: None)

    with pytest.raises(SystemExit):
        commands.run(command, ["--database-url", "postgresql:///nowhere", "--window", "1800"])

    assert metrics.STATISTICS.get_sample_value("labkeeper_fleet_stats_window_seconds") == 1800


async def test_faust_is_told_who_we_are(tmp_path: Path) -> None:
    kafka = KafkaSettings(
        ("k1:9092", "k2:9092"),
        tls=True,
        mechanism=SaslMechanism.SCRAM_SHA_512,
        username="stats",
        password="secret",
    )

    app = make_app("lab.stats", kafka.servers, Link(kafka).options(), replication=3, folder=str(tmp_path))

    assert [str(url) for url in app.conf.broker] == ["kafka://k1:9092", "kafka://k2:9092"]
    credentials = app.conf.broker_credentials
    assert (credentials.protocol.value, credentials.mechanism.value) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (credentials.username, credentials.password) == ("stats", "secret")
    assert app.conf.topic_replication_factor == 3
    assert not app.conf.web_enabled


async def test_without_tls_and_sasl_there_are_no_credentials(tmp_path: Path) -> None:
    options = Link(KafkaSettings()).options()

    app = make_app("lab.stats", ["localhost:9092"], options, replication=1, folder=str(tmp_path))

    assert app.conf.broker_credentials is None
