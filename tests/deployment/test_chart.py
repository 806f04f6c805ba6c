"""Helm renders the chart into what Kubernetes takes, with every choice that `ci/` makes."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click
import pytest
import yaml

from consumers.powercycle_agent.drivers.secrets import PASSWORD_VARIABLE
from consumers.powercycle_agent.places import KNOWN_HOSTS_VARIABLE
from consumers.powercycle_agent.switching import Patience
from consumers.watchdog.policy_source import PolicySource
from producers.labkeeper.__main__ import umbrella
from tests.deployment.chart import (
    CHART,
    Document,
    arguments_of,
    helm,
    of_kind,
    pods,
    render,
    values_of,
    workloads,
)
from tests.deployment.kubernetes import NEWEST, OLDEST, is_built_in, problems_of
from tests.deployment.places import INFRA, complaint_about

pytestmark = pytest.mark.usefixtures("quiet")

VARIANTS = sorted((CHART / "ci").glob("*-values.yaml"))
ROLES = {"facade", "writer", "relay", "watchdog", "fleet-stats"}
OPTIONAL_ROLES = {"notifier", "swarming-poller", "powercycle-agent"}
FROM_EXTENSIONS = {"PodMonitor", "PrometheusRule", "ScaledObject"}


@pytest.fixture(params=[file.name.removesuffix("-values.yaml") for file in VARIANTS])
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_helm_finds_nothing_to_complain_about(variant: str) -> None:
    report = helm.lint(str(CHART), values_of(variant), strict=True, kube_version=f"v{OLDEST}.0")

    assert report["errors"] == []


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("upgrade", [False, True], ids=["install", "upgrade"])
def test_kubernetes_takes_every_document(variant: str, version: str, upgrade: bool) -> None:
    documents = render(values_of(variant), upgrade=upgrade)

    assert documents
    for document in documents:
        if is_built_in(document, version):
            assert problems_of(document, version) == [], document["metadata"]["name"]
        else:
            assert document["kind"] in FROM_EXTENSIONS


def test_a_field_that_kubernetes_does_not_know_is_noticed() -> None:
    [deployment, *_] = of_kind(render(values_of("minimal")), "Deployment").values()
    deployment["spec"]["template"]["spec"]["containers"][0]["liveness"] = {}

    [problem] = problems_of(deployment, NEWEST)
    assert "'liveness' was unexpected" in problem


def test_names_are_told_apart(variant: str) -> None:
    names = [(document["kind"], document["metadata"]["name"]) for document in render(values_of(variant))]

    assert len(names) == len(set(names))


def test_every_pod_is_shut_in(variant: str) -> None:
    for pod in pods(render(values_of(variant))):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]


def test_what_is_mounted_is_declared(variant: str) -> None:
    for pod in pods(render(values_of(variant))):
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {
            mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]
        } == volumes


def test_our_command_lines_and_variables_exist(variant: str) -> None:
    known = {
        *_variables(),
        PASSWORD_VARIABLE,
        KNOWN_HOSTS_VARIABLE,
        "GOOGLE_APPLICATION_CREDENTIALS",
        "TZ",
    }
    for pod in pods(render(values_of(variant))):
        for container in pod["containers"]:
            assert complaint_about(container["args"]) == ""
            assert {variable["name"] for variable in container["env"]} <= known


def _variables() -> Iterator[str]:
    """Environment variables that some command of ours reads."""
    context = click.Context(umbrella)
    for name in umbrella.list_commands(context):
        for parameter in _parameters(umbrella.get_command(context, name)):
            yield from [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or ()


def _parameters(command: click.Command | None) -> Iterator[click.Parameter]:
    assert command is not None
    yield from command.params
    for sub in command.commands.values() if isinstance(command, click.Group) else ():
        yield from _parameters(sub)


def test_no_secret_is_in_the_manifests(variant: str) -> None:
    documents = render(values_of(variant))

    assert not of_kind(documents, "Secret")
    assert {
        "name": "LABKEEPER_DATABASE_URL",
        "valueFrom": {"secretKeyRef": {"name": "lab-database", "key": "url"}},
    } in [
        variable
        for pod in pods(documents)
        for container in pod["containers"]
        for variable in container["env"]
    ]


def test_each_role_has_its_deployment_and_may_be_moved() -> None:
    for variant, roles in (("minimal", ROLES), ("everything", ROLES | OPTIONAL_ROLES)):
        documents = render(values_of(variant))
        assert set(workloads(documents)) == {f"lab-labkeeper-{role}" for role in roles}
        assert set(of_kind(documents, "PodDisruptionBudget")) == {f"lab-labkeeper-{role}" for role in roles}
    for deployment in workloads(documents).values():
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["port"] in ports
        own = "http" if "http" in ports else "metrics"
        assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": own}


def test_everything_selects_the_pods_it_means() -> None:
    documents = render(values_of("everything"))
    labels = [
        document["spec"]["template"]["metadata"]["labels"] for document in workloads(documents).values()
    ]

    def chosen(selector: Mapping[str, str]) -> int:
        return sum(selector.items() <= one.items() for one in labels)

    for document in documents:
        match document["kind"]:
            case "Service":
                assert chosen(document["spec"]["selector"]) == 1
            case "PodDisruptionBudget" | "Deployment" | "StatefulSet":
                assert chosen(document["spec"]["selector"]["matchLabels"]) == 1
            case "HorizontalPodAutoscaler" | "ScaledObject":
                assert document["spec"]["scaleTargetRef"]["name"] in of_kind(documents, "Deployment")


def test_schema_and_topics_come_before_the_pods() -> None:
    for upgrade, phase in ((False, "all"), (True, "pre")):
        jobs = of_kind(render(values_of("minimal"), upgrade=upgrade), "Job")
        assert arguments_of(jobs["lab-labkeeper-setup-migrate"]) == ["db", "migrate", f"--phase={phase}"]
        assert arguments_of(jobs["lab-labkeeper-setup-topics"]) == ["topics", "create"]
        assert {job["metadata"]["annotations"]["helm.sh/hook"] for job in jobs.values()} == {
            "pre-install,pre-upgrade"
        }


def test_where_an_upgrade_looks_like_an_installation_nothing_is_applied_too_early() -> None:
    values = values_of("minimal")
    values["migrations"] = {"phase": "pre"}
    by_helm = {**values, "migrations": {"phase": "pre", "finish": "hook"}}

    jobs = of_kind(render(values), "Job")
    assert arguments_of(jobs["lab-labkeeper-setup-migrate"]) == ["db", "migrate", "--phase=pre"]
    finish = of_kind(render(by_helm), "Job")["lab-labkeeper-finish-migrations"]
    assert finish["metadata"]["annotations"]["helm.sh/hook"] == "post-upgrade,post-install"


def test_what_a_hook_needs_comes_before_it() -> None:
    documents = render(values_of("minimal"))
    hooks = [
        document for document in documents if "helm.sh/hook" in document["metadata"].get("annotations", {})
    ]
    weights = {
        (document["kind"], document["metadata"]["name"]): int(
            document["metadata"]["annotations"]["helm.sh/hook-weight"]
        )
        for document in hooks
    }

    for job in of_kind(hooks, "Job").values():
        account = job["spec"]["template"]["spec"]["serviceAccountName"]
        assert weights["ServiceAccount", account] < weights["Job", job["metadata"]["name"]]
        assert weights["NetworkPolicy", account] < weights["Job", job["metadata"]["name"]]


def test_an_upgrade_is_finished_by_hand_or_by_helm() -> None:
    by_hand = of_kind(render(values_of("minimal"), upgrade=True), "CronJob")[
        "lab-labkeeper-finish-migrations"
    ]
    by_helm = of_kind(render(values_of("everything"), upgrade=True), "Job")["lab-labkeeper-finish-migrations"]

    assert by_hand["spec"]["suspend"] is True
    assert by_helm["metadata"]["annotations"]["helm.sh/hook"] == "post-upgrade"
    assert (
        arguments_of(by_helm)
        == arguments_of(by_hand["spec"]["jobTemplate"])
        == ["db", "migrate", "--phase=all"]
    )


def test_partitions_and_certificates_arrive() -> None:
    documents = render(values_of("kafka-sasl-tls"))

    assert arguments_of(of_kind(documents, "Job")["lab-labkeeper-setup-topics"])[2:] == [
        "--partitions=machine.events=32"
    ]
    for pod in pods(documents):
        [container] = pod["containers"]
        variables = {variable["name"]: variable.get("value") for variable in container["env"]}
        folders = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert Path(str(variables["LABKEEPER_KAFKA_CONFIG"])).parent.as_posix() in folders
        assert "/etc/labkeeper/database" in folders
        assert variables["LABKEEPER_KAFKA_SERVERS"] == "kafka-1:9093,kafka-2:9093,kafka-3:9093"


def test_writers_follow_the_lag() -> None:
    scaler = of_kind(render(values_of("bare")), "HorizontalPodAutoscaler")["lab-labkeeper-writer"]
    keda = of_kind(render(values_of("everything")), "ScaledObject")["lab-labkeeper-writer"]

    [metric] = scaler["spec"]["metrics"]
    assert metric["external"]["metric"]["name"] == "labkeeper_consumer_lag"
    assert "labkeeper_consumer_lag" in keda["spec"]["triggers"][0]["metadata"]["query"]
    for variant in ("bare", "everything"):
        writer = of_kind(render(values_of(variant)), "Deployment")["lab-labkeeper-writer"]
        assert "replicas" not in writer["spec"]


def test_writers_come_and_go_alike_whoever_counts_them() -> None:
    values = values_of("bare")
    scaling = {"enabled": True, "prometheusAddress": "http://prometheus:9090", "lagPerReplica": 700}
    specs = {}
    for engine, kind in (("hpa", "HorizontalPodAutoscaler"), ("keda", "ScaledObject")):
        values["writer"] = {"autoscaling": {**scaling, "engine": engine}}
        [specs[engine]] = [
            document["spec"]
            for name, document in of_kind(render(values), kind).items()
            if name == "lab-labkeeper-writer"
        ]
    hpa, keda = specs["hpa"], specs["keda"]

    behaviour = keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behaviour == hpa["behavior"]
    assert behaviour["scaleDown"] == {"stabilizationWindowSeconds": 600}
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == (hpa["minReplicas"], hpa["maxReplicas"])
    [trigger], [metric] = keda["triggers"], hpa["metrics"]
    assert trigger.get("metricType", "AverageValue") == metric["external"]["target"]["type"]
    assert trigger["metadata"]["threshold"] == metric["external"]["target"]["averageValue"] == "700"


def test_a_power_agent_finds_its_journal_again_and_has_time_to_switch_ports_on() -> None:
    agents = of_kind(render(values_of("kafka-sasl-tls")), "StatefulSet")["lab-labkeeper-powercycle-agent"]
    pod = agents["spec"]["template"]["spec"]
    [container] = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    recipe = (INFRA / "containers" / "Containerfile").read_text("utf-8")
    [state] = re.findall(r"LABKEEPER_POWERCYCLE_STATE=(\S+)", recipe)

    assert agents["spec"]["replicas"] == 2
    assert pod["terminationGracePeriodSeconds"] > 2 * Patience().ending
    [claim] = agents["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] not in {volume["name"] for volume in pod["volumes"]}
    assert state.startswith(f"{mounts[claim['metadata']['name']]}/")
    assert {"name": KNOWN_HOSTS_VARIABLE, "value": f"{mounts['powercycle']}/known_hosts"} in container["env"]
    assert f"--config={mounts['powercycle']}/powercycle.json5" in container["args"]


def test_names_of_agents_are_short_enough_for_kubernetes_labels() -> None:
    values = values_of("everything")
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(
            values, name="labkeeper-" + "x" * 40, namespace="lab", is_install=True, is_upgrade=False
        )
    [agents] = yaml.safe_load_all(files["labkeeper/templates/powercycle-agent.yaml"])

    assert len(agents["metadata"]["name"]) + len("-5d9c7b8f4d") <= 63


def test_self_healing_is_off_until_there_is_a_policy(tmp_path: Path) -> None:
    documents = render(values_of("everything"))
    policy = of_kind(documents, "ConfigMap")["lab-labkeeper-heal-policy"]["data"]
    watchdog = of_kind(documents, "Deployment")["lab-labkeeper-watchdog"]["spec"]["template"]["spec"]
    [container] = watchdog["containers"]
    [option] = [word for word in container["args"] if word.startswith("--heal-policy=")]
    file = Path(option.partition("=")[2])
    for name, text in policy.items():
        (tmp_path / name).write_text(text, "utf-8")

    assert file.parent.as_posix() in {mount["mountPath"] for mount in container["volumeMounts"]}
    assert not PolicySource(tmp_path / file.name).policies.is_off
    minimal = render(values_of("minimal"))
    assert not of_kind(minimal, "ConfigMap")
    assert not [word for pod in pods(minimal) for word in pod["containers"][0]["args"] if "heal" in word]


def test_alerts_and_dashboard_are_those_of_the_other_folders() -> None:
    documents = render(values_of("everything"))
    rules = of_kind(documents, "PrometheusRule")["lab-labkeeper"]["spec"]
    dashboard = of_kind(documents, "ConfigMap")["lab-labkeeper-dashboard"]["data"]["labkeeper.json"]

    assert rules == yaml.safe_load((INFRA / "prometheus" / "labkeeper.rules.yaml").read_text("utf-8"))
    assert (
        dashboard.strip() == (INFRA / "grafana" / "dashboards" / "labkeeper.json").read_text("utf-8").strip()
    )


def test_a_process_is_scraped_once() -> None:
    monitors = of_kind(render(values_of("everything")), "PodMonitor")

    [expression] = monitors["lab-labkeeper"]["spec"]["selector"]["matchExpressions"]
    assert expression["operator"] == "NotIn"
    assert set(expression["values"]) == {"setup", "facade"}
    [endpoint] = monitors["lab-labkeeper-facade"]["spec"]["podMetricsEndpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": "lab-prometheus-token", "key": "token"}


def _without_image(values: Document) -> None:
    del values["image"]


def _without_database(values: Document) -> None:
    values["database"] = {}


def _without_tokens(values: Document) -> None:
    del values["tokens"]


def _without_servers(values: Document) -> None:
    values["broker"] = {"kind": "kafka"}


def _without_project(values: Document) -> None:
    values["broker"] = {"kind": "pubsub"}


def _with_typo(values: Document) -> None:
    values["writer"] = {"replica": 3}


def _with_password(values: Document) -> None:
    values["database"]["password"] = "hunter2"


def _with_bad_pool(values: Document) -> None:
    values["pools"] = ["Phones"]


def _with_notifier_without_configuration(values: Document) -> None:
    values["notifier"] = {"enabled": True}


def _with_agent_without_configuration(values: Document) -> None:
    values["powercycleAgent"] = {"enabled": True}


def _with_nothing_to_poll(values: Document) -> None:
    values["swarmingPoller"] = {"enabled": True}


def _with_two_pollers(values: Document) -> None:
    values["swarmingPoller"] = {"enabled": True, "bots": ["https://a=B"], "replicas": 2}


@pytest.mark.parametrize(
    "spoil",
    [
        _without_image,
        _without_database,
        _without_tokens,
        _without_servers,
        _without_project,
        _with_typo,
        _with_password,
        _with_bad_pool,
        _with_notifier_without_configuration,
        _with_agent_without_configuration,
        _with_nothing_to_poll,
        _with_two_pollers,
    ],
)
def test_values_that_make_no_lab_are_refused(spoil: Callable[[Document], None]) -> None:
    values = copy.deepcopy(values_of("minimal"))
    spoil(values)

    with pytest.raises(helm.HelmError):
        render(values)
