"""Revoked keys and certificates, by revocation lists of ssh-keygen, as OpenSSH's client sees them."""

import shutil
from pathlib import Path

from tests.conftest import KeyPair, MakeServer
from tests.support import krl
from tests.support.certificates import Authority
from tests.support.client import Client
from tests.support.commands import as_root
from tests.support.server import Server

CERTIFICATES_ONLY = ("-o", "PubkeyAcceptedAlgorithms=ssh-ed25519-cert-v01@openssh.com")


def holder_of(server: Server, key: KeyPair, certificate: Path) -> Client:
    """A client whose key has this certificate beside it, where ssh looks for it."""
    private = certificate.with_name(certificate.name.removesuffix("-cert.pub"))
    shutil.copy(key.private, private)
    private.chmod(0o600)
    return Client(server, private)


def test_a_certificate_is_revoked_by_its_serial_number(
    make_server: MakeServer, user_key: KeyPair, tmp_path: Path
) -> None:
    """Protects against a stolen certificate: it is refused, its connection ends, and all others go on.

    While the list can't be read nobody can log in, and connected clients stay.
    """
    authority, revoked = Authority(tmp_path), tmp_path / "revoked"
    keys = [f"file:{user_key.public}", f"ca:{authority.public}"]
    revoked.write_text("# nobody yet\n")
    server = make_server({"keys": {"revoked": f"file:{revoked}"}}, login_settings={"keys": keys})
    stolen, other = (
        holder_of(server, user_key, authority.certify(user_key.public, "-z", serial, principals=server.login))
        for serial in ("7", "8")
    )
    certificate = stolen.key.with_name(f"{stolen.key.name}-cert.pub")
    assert server.wait_for("keys.revoked_list")["entries"] == 0
    with stolen.terminal("cat", *CERTIFICATES_ONLY) as terminal:
        terminal.ask("hello", "hello.*hello")
        specification = tmp_path / "specification"
        specification.write_text("serial: 7\n")
        krl.make(tmp_path / "made", specification, authority=authority.public)
        (tmp_path / "made").rename(revoked)

        since = server.mark()
        assert as_root(other, "keys", "test", str(certificate)).stdout.splitlines()[1:] == [
            f"  {server.login}: no, the certificate's serial number 7 is revoked by file:{revoked}"
        ]
        terminal.expect(r"pyssh-gateway: the certificate's serial number 7 is revoked by .* ends in 10 s")
        assert server.wait_for("connection.revoked", since=since)["seconds"] == 10
        assert stolen.run("true", *CERTIFICATES_ONLY).status == 255
        assert server.wait_for("auth.attempt", since=since, result="denied")["code"] == "revoked"
        assert other.run("true", *CERTIFICATES_ONLY).status == 0

        since = server.mark()
        revoked.unlink()
        assert as_root(other, "keys", "refresh").returncode == 1
        assert Client(server, user_key.private).run("true").status == 255
        assert server.wait_for("auth.attempt", since=since, result="denied")["code"] == "revoked-list"
        assert f"! file:{revoked}" in as_root(other, "status").stdout
        assert "nobody gets in while that is so" in as_root(other, "check").stdout
        revoked.write_text("# nobody any more\n")
        assert as_root(other, "keys", "refresh").returncode == 0
        terminal.expect("is back. This connection stays")
    assert Client(server, user_key.private).run("true").status == 0
