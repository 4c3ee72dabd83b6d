"""monitor.host_certificates: which certificates of host keys are offered, and what is reported of the others."""

import asyncio
import base64
from pathlib import Path

import pytest

from pyssh_gateway.core.access import certificates
from pyssh_gateway.core.access.authorized_keys import fingerprint
from pyssh_gateway.events import HostCertificateLoaded
from pyssh_gateway.keys.host_keys import HostKey, create_key_pair, server_keys
from pyssh_gateway.monitor import host_certificates
from pyssh_gateway.monitor.host_certificates import HostCertificate, judge, load, loaded, renew, reports
from pyssh_gateway.monitor.host_key_signing import HostKeySigner
from tests.support.certificates import Authority, blob_of, made_up, make_key
from tests.support.key_lines import line, string

NOW = 1_790_000_000.0  # 2026-09-21T14:13:20Z
PATH = "/keys/certificate"


class Machine:
    """A machine with keys of three types, a spare and a next one for ed25519, and an authority."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory)
        self.directory = directory / "keys"
        create_key_pair(directory / "spare", "spare")
        kinds = ("ed25519", "ecdsa", "rsa")
        server_keys(self.directory, kinds, ())
        create_key_pair(self.directory / "ssh_host_ed25519_key_next", "next")
        self.keys = server_keys(self.directory, kinds, (str(directory / "spare"),))

    def certify(self, key: HostKey, *options: str) -> bytes:
        """The contents of a host certificate's file."""
        return self.authority.certify(key.path.with_name(f"{key.path.name}.pub"), "-h", *options).read_bytes()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The machine that this module's tests share."""
    return Machine(tmp_path_factory.mktemp("machine"))


def problem(data: bytes, machine: Machine) -> str:
    """The reason why a file's certificate is never offered."""
    return judge(PATH, data, machine.keys).problem


def test_a_certificate_of_each_type_is_offered_with_its_algorithms(machine: Machine) -> None:
    """Plain keys come first, for clients that guess; a certificate's signatures are made under the plain key's name."""
    found = tuple(judge(PATH, machine.certify(key), machine.keys) for key in machine.keys[:3])
    signer = HostKeySigner(machine.keys, found)
    offered = signer.offered_at(NOW)
    assert offered[: len(signer.offered)] == signer.offered
    assert offered[len(signer.offered) :] == (
        (b"ssh-ed25519-cert-v01@openssh.com", found[0].blob),
        (b"ecdsa-sha2-nistp256-cert-v01@openssh.com", found[1].blob),
        (b"rsa-sha2-512-cert-v01@openssh.com", found[2].blob),
        (b"rsa-sha2-256-cert-v01@openssh.com", found[2].blob),
    )
    assert not any(one.blob in signer.announced for one in found)  # as in sshd, hostkeys-00 has only plain keys
    assert signer.sign(b"ssh-ed25519-cert-v01@openssh.com", b"data") == signer.sign(b"ssh-ed25519", b"data")
    assert signer.key_for(b"rsa-sha2-256-cert-v01@openssh.com") == machine.keys[2].public_blob


def test_a_certificate_is_offered_while_it_is_valid(machine: Machine) -> None:
    """Protects clients that refuse an expired certificate and ignore the plain key: the next valid one is offered."""
    key = machine.keys[0]
    short = judge(PATH, machine.certify(key, "-V", "20260921140000Z:20260921150000Z"), machine.keys)
    long = judge("/other", machine.certify(key, "-V", "20260921140000Z:20280921150000Z"), machine.keys)
    signer = HostKeySigner(machine.keys, (short, long))
    name = b"ssh-ed25519-cert-v01@openssh.com"
    assert dict(signer.offered_at(NOW))[name] == short.blob
    assert dict(signer.offered_at(NOW + 3600))[name] == long.blob
    assert name not in dict(signer.offered_at(NOW - 3600))
    assert short.trouble(NOW - 3600) == "it is not valid yet, for another 46m"
    assert short.trouble(NOW + 7200) == "it expired 1h13m ago"
    assert short.trouble(NOW) == ""


def test_what_is_no_certificate_of_this_server_is_told(machine: Machine, tmp_path: Path) -> None:
    """Each mistake is reported in a sentence, and does not affect the plain key."""
    ed25519, _, _, spare, following = machine.keys
    certified = machine.certify(ed25519)
    assert problem(certified, machine) == ""
    assert problem(b"# a comment\n\n" + certified, machine) == ""
    for text in (b"", b"nonsense", b"ssh-ed25519 !!!", ed25519.path.with_suffix(".pub").read_bytes()):
        assert problem(text, machine) == "there is no certificate in OpenSSH's one-line form in it"
    public = ed25519.path.with_name(f"{ed25519.path.name}.pub")
    assert problem(machine.authority.certify(public).read_bytes(), machine).startswith("it is a user's, not a host's")
    assert "critical options" in problem(machine.certify(ed25519, "-O", "critical:x@example.com=y"), machine)
    other = make_key(tmp_path, "other").with_suffix(".pub")
    known_as = fingerprint(blob_of(other))
    assert problem(machine.authority.certify(other, "-h").read_bytes(), machine) == (
        f"its key {known_as} is no host key of this server: sign the public key beside the one in use"
    )
    for key in (spare, following):
        told = f"its key {key.fingerprint} is announced to clients only, and not used"
        assert problem(machine.certify(key), machine) == told


def test_what_no_client_would_take_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong signatures, SHA-1 signatures, and malformed or too long certificates are reported."""
    name = "ssh-ed25519-cert-v01@openssh.com"
    assert problem(_line(made_up(kind=2)), machine) == "its signature is wrong"
    weak = made_up(kind=2, signature=_sha1_signature())
    assert problem(_line(weak), machine) == "it is signed with ssh-rsa, which clients refuse"
    assert problem(line(name), machine) == "it can't be used: it is cut off"
    monkeypatch.setattr(host_certificates, "MAX_BYTES", 100)
    assert problem(_line(made_up(kind=2)), machine) == "it is longer than 100 bytes"


def test_files_are_read_as_they_stand(machine: Machine, tmp_path: Path) -> None:
    """A file beside a key may be missing, a configured one may not; nobody else may write to it."""
    good, open_to_all = tmp_path / "good", tmp_path / "open"
    good.write_bytes(machine.certify(machine.keys[0]))
    open_to_all.write_bytes(good.read_bytes())
    open_to_all.chmod(0o666)
    places = [(str(path), is_required) for path, is_required in _places(tmp_path, good, open_to_all)]
    found = {Path(one.path).name: one.problem for one in load(places, machine.keys)}
    assert found.pop("open").startswith("it can't be read: mode 0666 of")
    assert found == {"good": "", "named": "it can't be read: No such file or directory"}


def test_a_renewed_certificate_counts_and_is_told(machine: Machine) -> None:
    """Protects certificates that last only days: SIGHUP renews them, and unchanged ones are not reported."""
    key, told = machine.keys[0], list[HostCertificateLoaded]()
    first, second = (machine.certify(key, "-z", serial) for serial in ("1", "2"))
    files: dict[str, bytes | OSError] = {"/a": first}
    signer = HostKeySigner(machine.keys, (judge("/a", first, machine.keys),))

    async def read(path: str) -> bytes:
        content = files.get(path, FileNotFoundError(2, "No such file or directory"))
        if isinstance(content, OSError):
            raise content
        return content

    def again() -> list[tuple[str, int, str]]:
        places = (("/a", True), ("/b", False))
        asyncio.run(renew(signer, places, machine.keys, read=read, publish=told.append, now=NOW))
        seen = [(one.path, one.serial, one.problem) for one in told]
        told.clear()
        return seen

    assert again() == []
    files["/a"] = second
    assert again() == [("/a", 2, "")]
    assert dict(signer.offered_at(NOW))[b"ssh-ed25519-cert-v01@openssh.com"] == _blob(second)
    files |= {"/a": OSError("it belongs to somebody else"), "/b": first}
    assert again() == [("/a", 0, "it can't be read: it belongs to somebody else"), ("/b", 1, "")]


def test_what_people_are_told(machine: Machine) -> None:
    """Reports have key, authority, hosts and validity."""
    data = machine.certify(machine.keys[0], "-I", "box", "-z", "5", "-V", "20260101000000Z:20270101000000Z")
    found = (judge(PATH, data, machine.keys), HostCertificate("/none", problem="it can't be read"))
    good, bad = reports(found, NOW)
    assert (good.key, good.authority) == (machine.keys[0].fingerprint, fingerprint(machine.authority.blob))
    assert (good.key_id, good.serial, good.principals) == ("box", 5, ("amos",))
    assert (good.valid_after, good.valid_before, good.problem) == (1767225600, 1798761600, "")
    assert (bad.path, bad.key, bad.problem) == ("/none", "", "it can't be read")
    assert [one.problem for one in loaded(found, NOW)] == ["", "it can't be read"]
    (forever,) = reports((judge(PATH, machine.certify(machine.keys[0]), machine.keys),), NOW)
    assert forever.valid_before is None


def _line(blob: bytes) -> bytes:
    return certificates.type_of(blob).encode() + b" " + base64.b64encode(blob)


def _blob(data: bytes) -> bytes:
    return base64.b64decode(data.split()[1])


def _sha1_signature() -> bytes:
    return string(b"ssh-rsa") + string(b"\0" * 64)


def _places(directory: Path, *required: Path) -> list[tuple[Path, bool]]:
    missing = [(directory / "beside", False), (directory / "named", True)]
    return [*((path, True) for path in required), *missing]
