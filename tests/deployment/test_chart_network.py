"""Who may talk to whom in a cluster."""

from __future__ import annotations

import pytest

from tests.deployment.chart import helm, of_kind, ports_of, render, values_of

pytestmark = pytest.mark.usefixtures("quiet")


def test_all_that_is_not_needed_is_denied() -> None:
    policies = of_kind(render(values_of("kafka-sasl-tls")), "NetworkPolicy")

    deny = policies["lab-labkeeper-deny"]["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in deny
    assert "egress" not in deny
    assert ports_of(policies["lab-labkeeper-writer"]) == {53, 26257, 9093}
    assert ports_of(policies["lab-labkeeper-watchdog"]) == {53, 26257}
    assert ports_of(policies["lab-labkeeper-setup"]) == {53, 26257, 9093}
    assert "ingress" not in policies["lab-labkeeper-setup"]["spec"]
    assert all("to" in rule for rule in policies["lab-labkeeper-writer"]["spec"]["egress"][1:])
    assert all("from" in rule for rule in policies["lab-labkeeper-facade"]["spec"]["ingress"])


def test_who_deals_with_the_world_outside_gets_there_and_nobody_else() -> None:
    narrow = of_kind(render(values_of("kafka-sasl-tls")), "NetworkPolicy")
    wide = of_kind(render(values_of("everything")), "NetworkPolicy")

    assert ports_of(narrow["lab-labkeeper-notifier"]) == {53, 26257, 9093, 443, 465, 587}
    switches = narrow["lab-labkeeper-powercycle-agent"]["spec"]["egress"][-1]
    assert switches == {"to": [{"ipBlock": {"cidr": "10.0.4.0/24"}}]}
    assert wide["lab-labkeeper-powercycle-agent"]["spec"]["egress"][-1] == {}
    assert ports_of(wide["lab-labkeeper-swarming-poller"]) == {53, 26257, 9092, 443}
    assert [name for name, policy in wide.items() if {} in policy["spec"].get("egress", ())] == [
        "lab-labkeeper-powercycle-agent"
    ]


def test_clients_may_be_narrowed_down_without_locking_prometheus_out() -> None:
    values = values_of("minimal")
    ingress = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}
    values["networkPolicy"] = {"clientsFrom": [ingress]}

    metrics, http = of_kind(render(values), "NetworkPolicy")["lab-labkeeper-facade"]["spec"]["ingress"]
    assert "from" not in metrics
    assert http["from"] == [ingress]

    values["monitoring"] = {"podMonitor": {"enabled": True, "facadeToken": {"existingSecret": "a-token"}}}
    with pytest.raises(helm.HelmError, match=r"networkPolicy\.prometheusFrom: with"):
        render(values)


@pytest.mark.parametrize(
    ("enforcer", "address", "ports"),
    [("dataplane-v2", "169.254.169.254/32", {80, 8080}), ("calico", "169.254.169.252/32", {987, 988})],
)
def test_workload_identity_finds_its_metadata_server(enforcer: str, address: str, ports: set[int]) -> None:
    values = values_of("pubsub-workload-identity")
    values["networkPolicy"]["pubsub"]["metadataServer"] = enforcer

    policies = of_kind(render(values), "NetworkPolicy")

    for role in ("writer", "facade", "setup"):
        rule = policies[f"lab-labkeeper-{role}"]["spec"]["egress"][-1]
        assert rule["to"] == [{"ipBlock": {"cidr": address}}]
        assert {port["port"] for port in rule["ports"]} == ports
    assert not ports & ports_of(policies["lab-labkeeper-watchdog"])
    assert not ports & ports_of(of_kind(render(values_of("pubsub")), "NetworkPolicy")["lab-labkeeper-writer"])


def test_the_embedded_broker_has_no_topics_to_make() -> None:
    documents = render({**values_of("bare"), "topics": {"enabled": True}, "networkPolicy": {"enabled": True}})

    assert not of_kind(documents, "Job")
    assert ports_of(of_kind(documents, "NetworkPolicy")["lab-labkeeper-writer"]) == {53, 26257}
