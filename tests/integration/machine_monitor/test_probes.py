from __future__ import annotations

from pathlib import Path

import pytest

from producers.machine_monitor.probes.adb import AdbProbe
from producers.machine_monitor.probes.commands import CommandFailed, CommandRunner
from producers.machine_monitor.probes.gce import GceMetadata
from producers.machine_monitor.probes.host import HostProbe, host_probe
from producers.machine_monitor.probes.ios import IosProbe
from producers.machine_monitor.probes.linux import LinuxFacts
from producers.machine_monitor.probes.mac import MacFacts
from producers.machine_monitor.probes.protocol import ProbeFailed
from producers.machine_monitor.probes.pyocd import PyocdProbe
from producers.machine_monitor.probes.windows import WindowsFacts
from schemas.description import Description
from schemas.event import IOS, Android
from schemas.event import PyOCD as Board
from tests.integration.machine_monitor.tools import Toolbox

pytestmark = pytest.mark.integration

DESCRIPTION = Description()
NOWHERE = GceMetadata(host="127.0.0.1:1")

ADB = """
case "$*" in
  get-state) echo device;;
  "shell cat /proc/uptime") echo "135.7 523.8";;
  "shell getprop") echo "[ro.product.device]: [sargo]";;
  "shell dumpsys battery") echo "level: 50";;
  "shell dumpsys thermalservice") echo "no such service" >&2; exit 1;;
  *) exit 9;;
esac
"""


@pytest.fixture
def commands(toolbox: Toolbox) -> CommandRunner:
    return CommandRunner(environment=toolbox.environment)


async def test_a_phone_answers(commands: CommandRunner, toolbox: Toolbox) -> None:
    toolbox.add("adb", ADB)
    assert await AdbProbe(commands).interrogate(DESCRIPTION) == Android(
        getprop="[ro.product.device]: [sargo]\n",
        dumpsys_battery="level: 50\n",
        dumpsys_thermal_service="",
        uptime_ns=135_000_000_000,
    )


async def test_an_offline_phone_is_reconnected(
    commands: CommandRunner, toolbox: Toolbox, tmp_path: Path
) -> None:
    flag = tmp_path / "reconnected"
    toolbox.add(
        "adb",
        f"""
case "$*" in
  get-state) [ -e '{flag}' ] && exit 0; echo "error: device offline" >&2; exit 1;;
  "reconnect offline") touch '{flag}'; exit 0;;
esac
{ADB}""",
    )
    assert (await AdbProbe(commands).interrogate(DESCRIPTION)).uptime_ns > 0
    assert toolbox.calls[:3] == ["adb get-state", "adb reconnect offline", "adb get-state"]


@pytest.mark.parametrize("fails", ["reconnect offline", "get-state"])
async def test_a_phone_that_stays_offline_is_missing(
    commands: CommandRunner, toolbox: Toolbox, fails: str
) -> None:
    toolbox.add("adb", f'case "$*" in get-state|"{fails}") echo "error: device offline" >&2; exit 1;; esac')
    with pytest.raises(ProbeFailed, match="offline"):
        await AdbProbe(commands).interrogate(DESCRIPTION)


async def test_other_states_of_a_phone_are_beyond_us(commands: CommandRunner, toolbox: Toolbox) -> None:
    toolbox.add("adb", "echo 'error: device unauthorized.' >&2; exit 1")
    with pytest.raises(
        ProbeFailed, match=r"adb returned an error state we can't do anything about: device unauthorized\."
    ):
        await AdbProbe(commands).interrogate(DESCRIPTION)
    assert toolbox.calls == ["adb get-state"]


@pytest.mark.parametrize("fails", ["shell cat /proc/uptime", "shell getprop"])
async def test_a_phone_that_does_not_tell_the_essentials_is_missing(
    commands: CommandRunner, toolbox: Toolbox, fails: str
) -> None:
    toolbox.add("adb", f'[ "$*" = "{fails}" ] && exit 1\n{ADB}')
    with pytest.raises(ProbeFailed, match=fails):
        await AdbProbe(commands).interrogate(DESCRIPTION)


async def test_a_phone_is_rebooted(commands: CommandRunner, toolbox: Toolbox) -> None:
    toolbox.add("adb", "exit 0")
    await AdbProbe(commands).reboot(DESCRIPTION)
    assert toolbox.calls == ["adb reboot"]


async def test_a_phone_that_does_not_reboot_is_reconnected_first(
    commands: CommandRunner, toolbox: Toolbox
) -> None:
    toolbox.add("adb", "exit 1")
    with pytest.raises(CommandFailed, match="adb reboot"):
        await AdbProbe(commands).reboot(DESCRIPTION)
    assert toolbox.calls == ["adb reboot", "adb reconnect offline", "adb reboot"]


def ideviceinfo(battery: str) -> str:
    return f"""
case "$*" in
  "-k ProductType") echo "iPhone10,1";;
  "-k ProductVersion") echo "13.3.1";;
  "--domain com.apple.mobile.battery -k BatteryCurrentCapacity") {battery};;
  *) exit 9;;
esac
"""


@pytest.mark.parametrize(
    ("battery", "percent"),
    [("echo 33", 33), ("echo full", -99), ("echo 33; exit 1", -99), ("echo oops >&2", -99)],
)
async def test_an_iphone_answers(
    commands: CommandRunner, toolbox: Toolbox, battery: str, percent: int
) -> None:
    toolbox.add("ideviceinfo", ideviceinfo(battery))
    assert await IosProbe(commands).interrogate(DESCRIPTION) == IOS(
        device_type="iPhone10,1", version="13.3.1", battery=percent
    )


@pytest.mark.parametrize("fails", ["-k ProductType", "-k ProductVersion"])
async def test_an_iphone_that_does_not_tell_the_essentials_is_missing(
    commands: CommandRunner, toolbox: Toolbox, fails: str
) -> None:
    toolbox.add("ideviceinfo", f'[ "$*" = "{fails}" ] && exit 1\n{ideviceinfo("echo 3")}')
    with pytest.raises(ProbeFailed, match=fails):
        await IosProbe(commands).interrogate(DESCRIPTION)


async def test_an_iphone_is_rebooted(commands: CommandRunner, toolbox: Toolbox) -> None:
    toolbox.add("idevicediagnostics", "")
    await IosProbe(commands).reboot(DESCRIPTION)
    assert toolbox.calls == ["idevicediagnostics restart"]


def pyocd(toolbox: Toolbox, folder: Path, *, busy: bool = False) -> PyocdProbe:
    config = folder / "pyocd_config.json"
    config.write_text('{"device_type": "nrf52840dk"}')
    environment = {**toolbox.environment, "PATH": str(folder / "tools")}
    commands = CommandRunner(environment=toolbox.environment)
    return PyocdProbe(commands, config=config, busy=lambda: busy, environment=environment)


async def test_without_pyocd_the_configured_board_is_believed(toolbox: Toolbox, tmp_path: Path) -> None:
    assert await pyocd(toolbox, tmp_path).interrogate(DESCRIPTION) == Board(device_type="nrf52840dk")


async def test_pyocd_is_asked_for_the_board(toolbox: Toolbox, tmp_path: Path) -> None:
    toolbox.add("pyocd", """echo '{"status": 0, "boards": [{"unique_id": "1"}]}'""")
    assert await pyocd(toolbox, tmp_path).interrogate(DESCRIPTION) == Board(device_type="nrf52840dk")
    assert toolbox.calls == ["pyocd json --probes"]


async def test_without_a_debug_probe_the_board_is_missing(toolbox: Toolbox, tmp_path: Path) -> None:
    toolbox.add("pyocd", """echo '{"status": 0, "boards": []}'""")
    with pytest.raises(ProbeFailed, match="finds no debug probe"):
        await pyocd(toolbox, tmp_path).interrogate(DESCRIPTION)


async def test_while_a_task_runs_its_debug_probe_is_left_alone(toolbox: Toolbox, tmp_path: Path) -> None:
    toolbox.add("pyocd", "exit 1")
    probe = pyocd(toolbox, tmp_path, busy=True)
    assert await probe.interrogate(DESCRIPTION) == Board(device_type="nrf52840dk")
    assert toolbox.calls == []


async def test_without_configuration_there_is_no_board(toolbox: Toolbox, tmp_path: Path) -> None:
    commands = CommandRunner(environment=toolbox.environment)
    probe = PyocdProbe(commands, config=tmp_path / "missing.json", busy=lambda: False)
    for _ in range(2):
        with pytest.raises(ProbeFailed, match=r"cannot read .*missing\.json: No such file"):
            await probe.interrogate(DESCRIPTION)


def linux_root(folder: Path, **files: str) -> Path:
    root = folder / "root"
    for path, content in files.items():
        file = root / path.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


async def test_a_linux_host_answers(commands: CommandRunner, toolbox: Toolbox, tmp_path: Path) -> None:
    root = linux_root(
        tmp_path,
        proc__cpuinfo="vendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Core(TM) i7-13700K\n",
        **{"etc__os-release": 'ID=debian\nVERSION_ID="11"\n'},
        etc__debian_version="11.5\n",
    )
    toolbox.add(
        "lspci",
        """echo '00:02.0 "VGA [0300]" "Intel [8086]" "UHD [5917]"'
echo '01:00.0 "3D [0302]" "NVIDIA [10de]" "P400 [1cb3]"'""",
    )
    toolbox.add("dpkg", "echo 'Version: 20.3.5-1'")
    toolbox.add("docker", "exit 0")
    probe = HostProbe(commands, LinuxFacts(commands, root=root), NOWHERE, architecture="x86_64")
    answer = await probe.interrogate(DESCRIPTION)
    assert answer.cores > 0
    assert answer.os_versions == ["Linux", "Debian", "Debian-11", "Debian-11.5"]
    assert answer.cpus == ["x86", "x86-64", "x86-64-i7-13700K"]
    assert answer.gpus == ["10de", "10de:1cb3", "8086", "8086:5917", "8086:5917-20.3.5"]
    assert answer.docker_installed
    assert (answer.gce, answer.machine_type) == (False, "")


async def test_what_hardly_changes_is_asked_once(
    commands: CommandRunner, toolbox: Toolbox, tmp_path: Path
) -> None:
    toolbox.add("lspci", "true")
    toolbox.add("docker", "exit 1")
    probe = HostProbe(
        commands, LinuxFacts(commands, root=linux_root(tmp_path)), NOWHERE, architecture="x86_64"
    )
    for _ in range(3):
        answer = await probe.interrogate(DESCRIPTION)
    assert sorted(toolbox.calls) == ["docker version", "lspci -mm -nn"]
    assert answer.gpus == ["none"]
    assert not answer.docker_installed


async def test_a_host_that_tells_nothing_still_counts_as_there(
    commands: CommandRunner, toolbox: Toolbox, tmp_path: Path
) -> None:
    toolbox.add("lspci", """echo '00:02.0 "VGA'""")
    toolbox.add("docker", "exit 1")
    root = linux_root(tmp_path)
    probe = HostProbe(commands, LinuxFacts(commands, root=root), NOWHERE, architecture="vax")
    answer = await probe.interrogate(DESCRIPTION)
    assert answer.cores > 0
    assert (answer.cpus, answer.gpus, answer.os_versions) == ([], [], ["Linux"])


async def test_this_very_host_answers() -> None:
    answer = await host_probe(CommandRunner(), metadata_host="127.0.0.1:1").interrogate(DESCRIPTION)
    assert answer.cores > 0
    assert answer.os_versions


async def test_a_mac_answers(commands: CommandRunner, toolbox: Toolbox) -> None:
    toolbox.add("sw_vers", "echo 12.4.35")
    toolbox.add(
        "sysctl",
        '[ "$2" = machdep.cpu.brand_string ] && echo "Apple M1" && exit 0; echo unknown oid >&2; exit 1',
    )
    toolbox.add("system_profiler", "echo '<plist><array><dict/></array></plist>'")
    toolbox.add("docker", "exit 1")
    probe = HostProbe(commands, MacFacts(commands), NOWHERE, architecture="arm64")
    answer = await probe.interrogate(DESCRIPTION)
    assert answer.os_versions == ["Mac", "Mac-12", "Mac-12.4", "Mac-12.4.35"]
    assert answer.cpus == ["arm64", "arm64-64", "arm64-64-Apple_M1"]
    assert answer.gpus == ["none"]


async def test_a_windows_host_answers(commands: CommandRunner, toolbox: Toolbox) -> None:
    toolbox.add(
        "powershell",
        r"""
case "$*" in
  *Win32_OperatingSystem*) echo '{"Caption": "Microsoft Windows Server 2019 Datacenter",
    "Version": "10.0.17763", "BuildNumber": "17763"}';;
  *Win32_Processor*) echo '[{"Manufacturer": "AuthenticAMD", "Name": "AMD EPYC 7B12  "}]';;
  *Win32_VideoController*) echo '{"PNPDeviceID": "VEN_10DE&DEV_1CB3", "DriverVersion": "26.21"}';;
esac""",
    )
    toolbox.add("docker", "exit 1")
    probe = HostProbe(commands, WindowsFacts(commands), NOWHERE, architecture="AMD64")
    answer = await probe.interrogate(DESCRIPTION)
    assert answer.os_versions == ["Windows", "Windows-Server", "Windows-Server-17763"]
    assert answer.cpus == ["x86", "x86-64", "x86-64-AMD_EPYC_7B12"]
    assert answer.gpus == ["10de", "10de:1cb3", "10de:1cb3-26.21"]
