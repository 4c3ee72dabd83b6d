"""The files around the code keep their promises: locks, makefile, image, Fly's machine, systemd, Docker."""

import configparser
import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import pyssh_gateway
from pyssh_gateway.config import parser as config
from pyssh_gateway.config import source as config_source
from pyssh_gateway.core import launch
from pyssh_gateway.startup import socket_activation
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

LOCKS = ("runtime", "dev", "lint", "build", "fuzz", "node")


def toml(name: str) -> dict[str, Any]:
    """Return the contents of that file of the checkout."""
    return tomllib.loads((ROOT / name).read_text())


def lock(name: str) -> str:
    """Return the contents of that lock file."""
    return (ROOT / "requirements" / f"{name}.txt").read_text()


def pins(name: str) -> dict[str, str]:
    """Return package name -> version, as pinned in that lock."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock(name), re.MULTILINE))


def names(requirements: list[str]) -> set[str]:
    """Return the package names of requirements like `asyncssh>=2,<3`."""
    return {re.split(r"[^A-Za-z0-9_.-]", requirement)[0] for requirement in requirements}


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make, without variables from a make that may be running this test."""
    return subprocess.run(
        ["make", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "GITHUB": "from-the-environment", "PORT": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def serve_command(*variables: str) -> list[str]:
    """Return the words of the command that `make run` would run, as if the virtual environment existed."""
    result = make("--dry-run", "--assume-old=.venv/.runtime", "run", *variables)
    assert result.returncode == 0, result.stderr
    *_, command = result.stdout.replace("\\\n", " ").strip().splitlines()
    return command.split()


def image_config(**arguments: str) -> subprocess.CompletedProcess[str]:
    """Write the image's configuration with these build arguments."""
    return subprocess.run(
        ["/bin/sh", ROOT / "deploy" / "config.sh"],
        env={"PATH": "/usr/bin:/bin", **arguments},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def parsed(text: str, directory: Path, **environ: str) -> config.Config:
    """Return the server's configuration from that file and those environment variables."""
    path = directory / "config.toml"
    path.write_text(text)
    return config.parse(config_source.read(str(path), environ, {}))


def yaml(name: str) -> dict[str, Any]:
    """Return the contents of that YAML file, read by any Python of this machine that can."""
    program = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)"
    text = (ROOT / name).read_text()
    for python in (sys.executable, "/usr/bin/python3"):
        if shutil.which(python) is None:
            continue
        command = [python, "-c", program]
        result = subprocess.run(command, input=text, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if result.returncode == 0:
            return dict(json.loads(result.stdout))
        assert "No module named 'yaml'" in result.stderr, result.stderr
    pytest.skip("no Python here reads YAML (package python3-yaml)")


def examples(name: str) -> list[str]:
    """Return the configurations in that document."""
    return re.findall(r"^```toml\n(.*?)^```$", (ROOT / "docs" / name).read_text(), re.MULTILINE | re.DOTALL)


def unit(name: str) -> dict[str, dict[str, str]]:
    """Return the sections of that systemd unit, with the last value of each setting."""
    parser = configparser.RawConfigParser(delimiters=("=",), comment_prefixes=("#",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd minds the case of names
    parser.read_string((ROOT / "deploy" / "systemd" / name).read_text())
    return {section: dict(parser[section]) for section in parser.sections()}


class TestLocks:
    """requirements/*.txt."""

    @pytest.mark.parametrize("name", LOCKS)
    def test_every_requirement_is_pinned_and_hashed(self, name: str) -> None:
        """Only locked packages can be installed."""
        for entry in re.sub(r"^\s*#.*\n", "", lock(name), flags=re.MULTILINE).replace("\\\n", " ").splitlines():
            assert re.match(r"[a-z0-9-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", entry), entry

    @pytest.mark.parametrize("name", LOCKS)
    def test_no_lock_names_where_it_came_from(self, name: str) -> None:
        """No lock contains an index or mirror, so that any can be used."""
        assert not re.search(r"https?:|--(extra-)?index|--find-links|--trusted-host", lock(name))

    def test_the_locks_agree(self) -> None:
        """Locks that are installed together have the same version of a package."""
        for name in LOCKS:
            for package, version in pins(name).items():
                assert version == pins("runtime").get(package, version), package
                assert version == pins("dev").get(package, version), package

    def test_the_locks_hold_what_the_project_names(self) -> None:
        """Every dependency in pyproject.toml is locked."""
        project = toml("pyproject.toml")
        assert {name.replace(".", "-") for name in names(project["project"]["dependencies"])} <= pins("runtime").keys()
        for group, requirements in project["dependency-groups"].items():
            assert names(requirements) <= pins(group).keys()

    def test_rich_stays_away_from_the_server(self) -> None:
        """Structlog imports rich if it is there, which would slow down the start, in tests and when deployed."""
        assert "rich" not in pins("runtime") | pins("dev")


class TestProject:
    """pyproject.toml."""

    def test_the_version_has_one_source(self) -> None:
        """The version is only in the package."""
        project = toml("pyproject.toml")
        assert project["project"]["dynamic"] == ["version"]
        assert (ROOT / project["tool"]["hatch"]["version"]["path"]).samefile(pyssh_gateway.__file__)
        assert re.fullmatch(r"\d+\.\d+\.\d+", pyssh_gateway.__version__)

    def test_the_command_exists(self) -> None:
        """The console script names a function that exists."""
        module, function = toml("pyproject.toml")["project"]["scripts"]["pyssh-gateway"].split(":")
        assert callable(getattr(import_module(module), function))


class TestMakefile:
    """The only entry point for developers."""

    def test_run_leaves_out_what_was_not_given(self) -> None:
        """An empty variable, or one that happens to be in the environment, does not become a flag."""
        assert serve_command() == ["exec", ".venv/bin/pyssh-gateway", "serve", "--trial"]

    def test_run_passes_on_what_was_given(self) -> None:
        """Each variable becomes its flag."""
        command = serve_command("GITHUB=example", "USER_NAME=amos", "PORT=2200", "CONFIG=my.toml")
        flags = ["--github", "'example'", "--user", "'amos'", "--port", "'2200'", "--config", "'my.toml'"]
        assert command[4:] == flags

    def test_run_needs_only_the_runtime_lock(self) -> None:
        """A first `make run` does not install the test tools."""
        result = make("--dry-run", "--always-make", "run")
        assert "scripts/venv.sh runtime" in result.stdout
        assert "scripts/venv.sh dev" not in result.stdout

    def test_help_names_every_target(self) -> None:
        """`make` alone lists every target."""
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
        """Each script is executable, stops at the first error, and has correct syntax."""
        path = ROOT / script
        assert path.stat().st_mode & 0o111
        text = path.read_text()
        shell = "bash" if text.startswith("#!/usr/bin/env bash\n") else "sh"
        assert "\nset -euo pipefail\n" in text or (shell == "sh" and "\nset -eu\n" in text)
        subprocess.run([shell, "-n", path], check=True, timeout=PATIENCE)

    def test_an_interpreter_that_is_too_old_is_named(self, tmp_path: Path) -> None:
        """Without a usable Python there is one line with the remedy, and no traceback."""
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
            timeout=PATIENCE,
            check=False,
        )
        assert result.returncode == 1
        assert re.fullmatch(
            r"pyssh-gateway needs Python 3\.11 or newer; \S+ here is Python 3\.9\.2\. .*\n", result.stderr
        )


class TestImage:
    """Dockerfile, .dockerignore and deploy/."""

    def test_nobody_is_let_in_by_default(self) -> None:
        """Without a GitHub login there is no image, and the message names the missing argument."""
        result = image_config(GITHUB="", LOGIN_USER="dev")
        assert (result.returncode, result.stdout) == (1, "")
        assert "--build-arg GITHUB=" in result.stderr

    @pytest.mark.parametrize(
        ("github", "user"),
        [("a b", "dev"), ('a"b', "dev"), ("a\nb", "dev"), ("example", "root"), ("example", ""), ("example", 'x"y')],
    )
    def test_arguments_are_checked(self, github: str, user: str) -> None:
        """No build argument can add other settings to the configuration, or make root the login user."""
        result = image_config(GITHUB=github, LOGIN_USER=user)
        assert (result.returncode, result.stdout) == (1, "")
        assert len(result.stderr.strip().splitlines()) <= 2

    @pytest.mark.parametrize("github", ["example", "example#583231"])
    def test_the_configuration_is_a_valid_one(self, github: str) -> None:
        """It has the values of the build arguments, keeps its state on the volume, and is valid."""
        written = tomllib.loads(image_config(GITHUB=github, LOGIN_USER="dev").stdout)
        assert written == {
            "keys_dir": "/data/keys",
            "audit_dir": "/data/audit",
            "boot": {"homes": "/data/home"},
            "login": [{"user": "dev", "keys": [f"github:{github}"]}],
        }
        assert written.keys() <= set(config.Config.__struct_fields__)

    def test_proxies_that_are_named_are_trusted_when_asked_for(self, tmp_path: Path) -> None:
        """TRUSTED_PROXIES is written to the file, and has an effect only with the environment variable."""
        written = image_config(GITHUB="example", LOGIN_USER="dev", TRUSTED_PROXIES="172.16.0.0/12,fd00::/8").stdout
        networks = ("172.16.0.0/12", "fd00::/8")
        listen = parsed(written, tmp_path).listen
        assert (listen.proxy_protocol, listen.trusted_proxies) == ("off", networks)
        listen = parsed(written, tmp_path, PYSSH_GATEWAY_LISTEN__PROXY_PROTOCOL="v2").listen
        assert (listen.proxy_protocol, listen.trusted_proxies) == ("v2", networks)

    @pytest.mark.parametrize("networks", ['10.0.0.0/8"]', "10.0.0.0/8\n[x]", "a network", "$(id)"])
    def test_networks_are_checked(self, networks: str) -> None:
        """Only networks in TRUSTED_PROXIES are written to the configuration."""
        result = image_config(GITHUB="example", LOGIN_USER="dev", TRUSTED_PROXIES=networks)
        assert (result.returncode, result.stdout) == (1, "")
        assert "TRUSTED_PROXIES=" in result.stderr

    def test_people_on_the_machine_have_the_command(self) -> None:
        """`ssh <host> pyssh-gateway hold 2h` finds it: the link is in a directory of every login's PATH."""
        (target, link) = re.findall(r"^RUN ln -s (\S+) (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[0]
        assert Path(target).name == Path(link).name == "pyssh-gateway"
        assert str(Path(link).parent) in launch.USER_PATH.decode().split(":")

    def test_the_message_of_the_day_promises_what_holds_everywhere(self) -> None:
        """The text is also true under Docker, where nothing starts a container again, and with idle off."""
        motd = (ROOT / "deploy" / "motd").read_text()
        assert not re.search("starts again|stops by itself", motd)
        assert "pyssh-gateway why" in motd

    def test_the_build_sees_what_it_copies_and_no_state(self) -> None:
        """.dockerignore includes what the Dockerfile copies, but neither host keys nor the audit log."""
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
        """The image starts the gateway, is stopped by a signal on which it drains, and has no sshd."""
        dockerfile = (ROOT / "Dockerfile").read_text()
        assert not re.search(r"openssh-server|dropbear", dockerfile)
        assert dockerfile.rstrip().endswith('CMD ["/opt/pyssh-gateway/bin/pyssh-gateway", "serve"]')
        assert "\nSTOPSIGNAL SIGTERM\n" in dockerfile
        assert f"\nEXPOSE {config.Listen().port}\n" in dockerfile

    def test_the_accounts_of_the_gateway_are_made(self) -> None:
        """The image has both unprivileged accounts of the default configuration, and neither can log in."""
        lines = re.findall(r"^RUN useradd --system .*$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        assert [line.split()[-1] for line in lines] == [config.Config().account, config.Config().preauth_account]
        assert all("--shell /usr/sbin/nologin" in line for line in lines)

    def test_the_installation_makes_them_too(self) -> None:
        """The commands of docs/install.md make both accounts, without which root's server does not start."""
        lines = re.findall(r"^sudo useradd --system .*$", (ROOT / "docs" / "install.md").read_text(), re.MULTILINE)
        assert [line.split()[-1] for line in lines] == [config.Config().account, config.Config().preauth_account]


class TestFly:
    """fly.toml."""

    def test_raw_tcp_reaches_the_gateway(self) -> None:
        """Port 22 of Fly's edge leads to the gateway's port, without TLS or HTTP in between."""
        (service,) = toml("fly.toml")["services"]
        assert service["protocol"] == "tcp"
        assert service["internal_port"] == config.Listen().port
        (port,) = service["ports"]
        assert port["port"] == 22
        assert not {"tls", "http", "pg_tls"} & set(port["handlers"])

    def test_both_sides_speak_of_the_same_header(self, tmp_path: Path) -> None:
        """Fly's proxy sends the header that the gateway expects; otherwise nobody could connect."""
        fly = toml("fly.toml")
        (port,) = fly["services"][0]["ports"]
        listen = parsed(
            image_config(**fly["build"]["args"] | {"GITHUB": "example"}).stdout, tmp_path, **fly["env"]
        ).listen
        assert port["handlers"] == ["proxy_proto"]
        assert listen.proxy_protocol == port["proxy_proto_options"]["version"]
        assert listen.trusted_proxies

    def test_what_is_only_proposed_is_valid_too(self, tmp_path: Path) -> None:
        """Each variable in a comment is valid, so that removing its `#` is enough."""
        proposed = dict(re.findall(r'^# (PYSSH_GATEWAY_\w+) = "(.*)"$', (ROOT / "fly.toml").read_text(), re.MULTILINE))
        assert len(proposed) >= 4
        settings = parsed("", tmp_path, **proposed)
        assert settings.stop.action == "suspend"
        metrics = tomllib.loads((ROOT / "fly.toml").read_text().partition("# [metrics]")[2].replace("\n# ", "\n"))
        assert settings.metrics.listen == f"0.0.0.0:{metrics['port']}"

    def test_only_the_gateway_stops_the_machine(self) -> None:
        """The proxy starts the machine but never stops it; it stays stopped after a clean exit, not after a crash."""
        fly = toml("fly.toml")
        (service,) = fly["services"]
        assert (service["auto_stop_machines"], service["auto_start_machines"]) == ("off", True)
        assert fly["restart"] == [{"policy": "on-failure", "retries": 10}]

    def test_the_drain_fits_into_the_time_that_fly_gives(self) -> None:
        """The gateway's drain time is shorter than the time until Fly kills the machine."""
        fly = toml("fly.toml")
        assert fly["kill_signal"] == "SIGTERM"
        assert config.Stop().drain < fly["kill_timeout"] <= 300

    def test_the_state_is_on_the_volume(self) -> None:
        """The image's directories are below Fly's mount."""
        (mount,) = toml("fly.toml")["mounts"]
        written = tomllib.loads(image_config(GITHUB="example", LOGIN_USER="dev").stdout)
        for directory in (written["keys_dir"], written["audit_dir"], written["boot"]["homes"]):
            assert Path(directory).is_relative_to(mount["destination"])

    def test_nobody_is_let_in_until_somebody_is_named(self) -> None:
        """The committed file builds nothing until the reader sets GITHUB."""
        arguments = toml("fly.toml")["build"]["args"]
        assert image_config(**arguments).returncode == 1
        declared = set(re.findall(r"^ARG (\w+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
        assert arguments.keys() <= declared


class TestSystemd:
    """deploy/systemd/."""

    @pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
    def test_systemd_takes_the_units(self, tmp_path: Path) -> None:
        """systemd knows all settings of the units, and accepts their values."""
        for path in (ROOT / "deploy" / "systemd").iterdir():
            # systemd's only complaint would be that the program is not installed here.
            text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", path.read_text(), flags=re.MULTILINE)
            (tmp_path / path.name).write_text(text)
        command = ["systemd-analyze", "verify", "--man=no", *map(str, tmp_path.iterdir())]
        result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert (result.returncode, result.stderr) == (0, "")

    def test_the_socket_is_one_that_the_server_takes(self) -> None:
        """The unit has one TCP socket for all connections, with the name and port that the server expects."""
        socket = unit("pyssh-gateway.socket")["Socket"]
        assert socket["ListenStream"] == f"{config.Listen().address}:{config.Listen().port}"
        assert (socket["Accept"], socket["FileDescriptorName"]) == ("no", socket_activation.PREFERRED_NAME)

    def test_idle_is_no_failure(self) -> None:
        """After exit code 0 the service waits for the next connection; after any number of crashes it is restarted."""
        service = unit("pyssh-gateway.service")
        assert service["Service"]["Restart"] == "on-failure"
        assert service["Unit"]["StartLimitIntervalSec"] == "0"
        assert "Install" not in service  # the socket is enabled instead

    def test_a_stop_waits_for_the_drain_and_ends_no_work(self) -> None:
        """At a stop the users' processes continue, and the server has the drain time of its configuration."""
        service = unit("pyssh-gateway.service")["Service"]
        assert (service["KillMode"], service["OOMPolicy"]) == ("process", "continue")
        assert config.Stop().drain < float(service["TimeoutStopSec"].removesuffix("s"))

    def test_nothing_is_taken_from_the_people_who_log_in(self) -> None:
        """The service has no sandbox: every shell would inherit it, and sudo, mount and docker would fail."""
        sandboxing = r"(Protect|Private|Restrict|SystemCall|Capability|NoNewPriv|MemoryDeny|Lock|Read|Inaccessible).*"
        assert not [name for name in unit("pyssh-gateway.service")["Service"] if re.fullmatch(sandboxing, name)]

    def test_the_state_is_where_systemd_makes_room_for_it(self, tmp_path: Path) -> None:
        """The documented directories of host key and log are those that the unit requests."""
        service = unit("pyssh-gateway.service")["Service"]
        settings = parsed(examples("install.md")[0], tmp_path)
        assert settings.keys_dir == f"/var/lib/{service['StateDirectory']}" == service["WorkingDirectory"]
        assert settings.audit_dir == f"/var/log/{service['LogsDirectory']}"


class TestDocuments:
    """docs/."""

    @pytest.mark.parametrize("name", ["fleet.md", "fly.md", "install.md", "platforms.md"])
    def test_configurations_to_copy_are_valid(self, name: str, tmp_path: Path) -> None:
        """Every configuration in these documents is valid."""
        assert examples(name)
        for example in examples(name):
            parsed(example, tmp_path)

    @pytest.mark.parametrize("name", ["README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))])
    def test_links_lead_somewhere(self, name: str) -> None:
        """Links to other files, and to headings in them, are right."""
        for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", (ROOT / name).read_text()):
            target = (ROOT / name).parent / path if path else ROOT / name
            assert target.exists(), path
            if anchor:
                headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
                assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


class TestCompose:
    """deploy/docker/compose.yaml."""

    def test_it_runs_the_image(self, tmp_path: Path) -> None:
        """There is one service, with the Dockerfile's build arguments, and variables that the server understands."""
        (service,) = yaml("deploy/docker/compose.yaml")["services"].values()
        assert (ROOT / "deploy" / "docker" / service["build"]["context"]).resolve() == ROOT
        declared = set(re.findall(r"^ARG (\w+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
        assert service["build"]["args"].keys() <= declared
        # By default the build fails with a message, as nobody could log in; `stop` and `logs` work without GITHUB.
        assert service["build"]["args"]["GITHUB"] == "${GITHUB:-}"
        assert [port.rpartition(":")[2] for port in service["ports"]] == [str(config.Listen().port)]
        defaults = {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for name, value in service["environment"].items()}
        assert parsed("", tmp_path, **defaults).idle.timeout is None

    def test_exit_0_leaves_it_stopped(self) -> None:
        """The container is not restarted after an idle stop, and Docker waits for the drain."""
        (service,) = yaml("deploy/docker/compose.yaml")["services"].values()
        assert service["restart"] == "on-failure"
        assert config.Stop().drain < float(service["stop_grace_period"].removesuffix("s"))

    def test_the_state_is_on_a_volume(self) -> None:
        """The image's directories are on a volume that outlives the container."""
        compose = yaml("deploy/docker/compose.yaml")
        mounted = dict(volume.split(":") for volume in compose["services"]["machine"]["volumes"])
        assert mounted.keys() == compose["volumes"].keys()
        written = tomllib.loads(image_config(GITHUB="example", LOGIN_USER="dev").stdout)
        for directory in (written["keys_dir"], written["audit_dir"], written["boot"]["homes"]):
            assert Path(directory).is_relative_to(mounted["data"])
