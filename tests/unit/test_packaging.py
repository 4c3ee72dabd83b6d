"""What the files around the code promise: the locks, the makefile, the image, the machine on Fly."""

import re
import shutil
import subprocess
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import pyssh_gateway
from pyssh_gateway import config

ROOT = Path(__file__).parents[2]
LOCKS = ("runtime", "dev", "lint", "build", "fuzz", "node")


def toml(name: str) -> dict[str, Any]:
    """Return what that file of the checkout says."""
    return tomllib.loads((ROOT / name).read_text())


def lock(name: str) -> str:
    """Return the text of that lock."""
    return (ROOT / "requirements" / f"{name}.txt").read_text()


def pins(name: str) -> dict[str, str]:
    """Return package name -> version, as pinned in that lock."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock(name), re.MULTILINE))


def names(requirements: list[str]) -> set[str]:
    """Return the package names of requirements like `asyncssh>=2,<3`."""
    return {re.split(r"[^A-Za-z0-9_.-]", requirement)[0] for requirement in requirements}


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make with nothing of the make that may be running this test."""
    return subprocess.run(
        ["make", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "GITHUB": "from-the-environment", "PORT": "1"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def serve_command(*variables: str) -> list[str]:
    """Return the words of the command that `make run` would run, the virtual environment taken as made."""
    result = make("--dry-run", "--assume-old=.venv/.runtime", "run", *variables)
    assert result.returncode == 0, result.stderr
    *_, command = result.stdout.replace("\\\n", " ").strip().splitlines()
    return command.split()


def image_config(**arguments: str) -> subprocess.CompletedProcess[str]:
    """Write the image's configuration, with these build arguments."""
    return subprocess.run(
        ["/bin/sh", ROOT / "deploy" / "config.sh"],
        env={"PATH": "/usr/bin:/bin", **arguments},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


class TestLocks:
    """requirements/*.txt."""

    @pytest.mark.parametrize("name", LOCKS)
    def test_every_requirement_is_pinned_and_hashed(self, name: str) -> None:
        """What is installed is what was locked, or nothing."""
        for entry in re.sub(r"^\s*#.*\n", "", lock(name), flags=re.MULTILINE).replace("\\\n", " ").splitlines():
            assert re.match(r"[a-z0-9-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", entry), entry

    @pytest.mark.parametrize("name", LOCKS)
    def test_no_lock_names_where_it_came_from(self, name: str) -> None:
        """A lock works behind any index or mirror."""
        assert not re.search(r"https?:|--(extra-)?index|--find-links|--trusted-host", lock(name))

    def test_the_locks_agree(self) -> None:
        """Locks that are installed into one environment do not ask for two versions of a package."""
        for name in LOCKS:
            for package, version in pins(name).items():
                assert version == pins("runtime").get(package, version), package
                assert version == pins("dev").get(package, version), package

    def test_the_locks_hold_what_the_project_names(self) -> None:
        """A dependency that was added to pyproject.toml was also locked."""
        project = toml("pyproject.toml")
        assert names(project["project"]["dependencies"]) <= pins("runtime").keys()
        for group, requirements in project["dependency-groups"].items():
            assert names(requirements) <= pins(group).keys()

    def test_rich_stays_away_from_the_server(self) -> None:
        """Structlog imports rich if it is there, which would slow the start down, in tests and when deployed."""
        assert "rich" not in pins("runtime") | pins("dev")


class TestProject:
    """pyproject.toml."""

    def test_the_version_has_one_source(self) -> None:
        """The version is read from the package, not written a second time."""
        project = toml("pyproject.toml")
        assert project["project"]["dynamic"] == ["version"]
        assert (ROOT / project["tool"]["hatch"]["version"]["path"]).samefile(pyssh_gateway.__file__)
        assert re.fullmatch(r"\d+\.\d+\.\d+", pyssh_gateway.__version__)

    def test_the_command_exists(self) -> None:
        """The console script names a function that is there."""
        module, function = toml("pyproject.toml")["project"]["scripts"]["pyssh-gateway"].split(":")
        assert callable(getattr(import_module(module), function))


class TestMakefile:
    """The one entry."""

    def test_run_leaves_out_what_was_not_given(self) -> None:
        """An empty variable, or one that happens to be in the environment, does not become a flag."""
        assert serve_command() == ["exec", ".venv/bin/pyssh-gateway", "serve", "--trial"]

    def test_run_passes_on_what_was_given(self) -> None:
        """Each variable becomes its flag."""
        command = serve_command("GITHUB=example", "USER_NAME=amos", "PORT=2200", "CONFIG=my.toml")
        flags = ["--github", "'example'", "--user", "'amos'", "--port", "'2200'", "--config", "'my.toml'"]
        assert command[4:] == flags

    def test_run_needs_only_the_runtime_lock(self) -> None:
        """A first `make run` does not fetch the test tools."""
        result = make("--dry-run", "--always-make", "run")
        assert "scripts/venv.sh runtime" in result.stdout
        assert "scripts/venv.sh dev" not in result.stdout

    def test_help_names_every_target(self) -> None:
        """`make` alone tells what there is."""
        phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert phony
        result = make()
        assert result.returncode == 0
        for target in phony[1].split():
            assert f"make {target} " in result.stdout


class TestScripts:
    """scripts/, .ci/run and deploy/config.sh."""

    @pytest.mark.parametrize(
        "script", [".ci/run", "deploy/config.sh", *(f"scripts/{p.name}" for p in (ROOT / "scripts").glob("*.sh"))]
    )
    def test_scripts_run(self, script: str) -> None:
        """Each is executable, stops at the first error, and has no mistake in its syntax."""
        path = ROOT / script
        assert path.stat().st_mode & 0o111
        text = path.read_text()
        shell = "bash" if text.startswith("#!/usr/bin/env bash\n") else "sh"
        assert "\nset -euo pipefail\n" in text or (shell == "sh" and "\nset -eu\n" in text)
        subprocess.run([shell, "-n", path], check=True, timeout=20)

    def test_an_interpreter_that_is_too_old_is_named(self, tmp_path: Path) -> None:
        """Without a usable Python there is one line that says what to do, and no traceback."""
        old = tmp_path / "python3"
        old.write_text('#!/bin/sh\n[ "$1" = --version ] || exit 1\necho Python 3.9.2\n')
        old.chmod(0o755)
        (tmp_path / "scripts").mkdir()
        shutil.copy(ROOT / "scripts" / "venv.sh", tmp_path / "scripts")
        result = subprocess.run(
            [tmp_path / "scripts" / "venv.sh", "runtime"],
            env={"PATH": "/usr/bin:/bin", "PYTHON": str(old)},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert result.returncode == 1
        assert re.fullmatch(
            r"pyssh-gateway needs Python 3\.11 or newer; \S+ here is Python 3\.9\.2\. .*\n", result.stderr
        )


class TestImage:
    """Dockerfile, .dockerignore and deploy/."""

    def test_nobody_is_let_in_by_default(self) -> None:
        """Without a GitHub login there is no image, and the message says what to pass."""
        result = image_config(GITHUB="", LOGIN_USER="dev")
        assert (result.returncode, result.stdout) == (1, "")
        assert "--build-arg GITHUB=" in result.stderr

    @pytest.mark.parametrize(
        ("github", "user"),
        [("a b", "dev"), ('a"b', "dev"), ("a\nb", "dev"), ("example", "root"), ("example", ""), ("example", 'x"y')],
    )
    def test_arguments_are_checked(self, github: str, user: str) -> None:
        """No build argument can write anything else into the configuration, or make root the login user."""
        result = image_config(GITHUB=github, LOGIN_USER=user)
        assert (result.returncode, result.stdout) == (1, "")
        assert len(result.stderr.strip().splitlines()) <= 2

    @pytest.mark.parametrize("github", ["example", "example#583231"])
    def test_the_configuration_is_a_valid_one(self, github: str) -> None:
        """It says what the build arguments said, keeps its state on the volume, and the server will take it."""
        written = tomllib.loads(image_config(GITHUB=github, LOGIN_USER="dev").stdout)
        assert written == {
            "keys_dir": "/data/keys",
            "audit_dir": "/data/audit",
            "login": [{"user": "dev", "keys": [f"github:{github}"]}],
        }
        assert written.keys() <= set(config.Config.__struct_fields__)

    def test_the_build_sees_what_it_copies_and_no_state(self) -> None:
        """.dockerignore lets through what the Dockerfile copies, and neither host keys nor the audit log."""
        copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        ignored, *allowed = (
            line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] in "*!"
        )
        assert ignored == "*"
        seen = [pattern[1:] for pattern in allowed if pattern.startswith("!")]
        for source in " ".join(copied).split():
            assert any(source == s or source.startswith(f"{s}/") or source == f"{s}/" for s in seen), source
            assert (ROOT / source).exists()
        assert not {"keys", "audit", ".", "./"} & set(seen)

    def test_the_gateway_is_the_only_ssh_server(self) -> None:
        """The image starts the gateway, is stopped by a signal that it drains on, and has no sshd in it."""
        dockerfile = (ROOT / "Dockerfile").read_text()
        assert not re.search(r"openssh-server|dropbear", dockerfile)
        assert dockerfile.rstrip().endswith('CMD ["/opt/pyssh-gateway/bin/pyssh-gateway", "serve"]')
        assert "\nSTOPSIGNAL SIGTERM\n" in dockerfile
        assert f"\nEXPOSE {config.Listen().port}\n" in dockerfile

    def test_the_account_of_the_gateway_is_made(self) -> None:
        """The image has the unprivileged account that the configuration's default names, and it cannot log in."""
        (line,) = re.findall(r"^RUN useradd --system .*$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        assert line.split()[-1] == config.Config().account
        assert "--shell /usr/sbin/nologin" in line


class TestFly:
    """fly.toml."""

    def test_raw_tcp_reaches_the_gateway(self) -> None:
        """Port 22 of the edge goes to the gateway's port with no handler in between."""
        (service,) = toml("fly.toml")["services"]
        assert service["protocol"] == "tcp"
        assert service["internal_port"] == config.Listen().port
        assert service["ports"] == [{"port": 22}]

    def test_only_the_gateway_stops_the_machine(self) -> None:
        """The proxy wakes the machine but does not stop it, a clean exit leaves it stopped, and a crash does not."""
        fly = toml("fly.toml")
        (service,) = fly["services"]
        assert (service["auto_stop_machines"], service["auto_start_machines"]) == ("off", True)
        assert fly["restart"] == [{"policy": "on-failure", "retries": 10}]

    def test_the_drain_fits_into_the_time_that_fly_gives(self) -> None:
        """The gateway is gone before the machine is killed."""
        fly = toml("fly.toml")
        assert fly["kill_signal"] == "SIGTERM"
        assert config.Stop().drain < fly["kill_timeout"] <= 300

    def test_the_state_is_on_the_volume(self) -> None:
        """The image's directories lie under what Fly mounts."""
        (mount,) = toml("fly.toml")["mounts"]
        written = tomllib.loads(image_config(GITHUB="example", LOGIN_USER="dev").stdout)
        for directory in (written["keys_dir"], written["audit_dir"]):
            assert Path(directory).is_relative_to(mount["destination"])

    def test_nobody_is_let_in_until_somebody_is_named(self) -> None:
        """The file as it is committed builds nothing: GITHUB is for the reader to fill in."""
        arguments = toml("fly.toml")["build"]["args"]
        assert image_config(**arguments).returncode == 1
        declared = set(re.findall(r"^ARG (\w+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
        assert arguments.keys() <= declared
