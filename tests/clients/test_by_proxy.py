"""Keys from GitHub on a machine that reaches it only through an HTTP proxy, with logins by the real client."""

from pathlib import Path
from tempfile import TemporaryDirectory

from tests.conftest import KeyPair, MakeServer
from tests.support import github as fake
from tests.support.client import Client
from tests.support.http_proxy import ConnectProxy
from tests.unit.keys.test_download import https_github


def test_keys_come_by_the_environment_s_proxy(make_server: MakeServer, user_key: KeyPair) -> None:
    """HTTPS_PROXY is enough on a machine behind a proxy; sessions do not get it, and its password is shown nowhere."""
    with TemporaryDirectory() as place, ConnectProxy("Basic YW1vczpzZXNhbWU=") as proxy:
        Path(place).chmod(0o755)  # the network side reads the certificate as an account without rights
        with https_github(Path(place)) as (github, trusted):
            trusted.chmod(0o644)
            github.script("example", fake.keys(user_key.public.read_text().strip()))
            environ = {
                "HTTPS_PROXY": proxy.url.replace("//", "//amos:sesame@"),
                "NO_PROXY": "10.0.0.0/8,.example.com",
                "SSL_CERT_FILE": str(trusted),
            }
            server = make_server(
                {"keys": {"github_url": github.url}}, login_settings={"keys": ["github:example"]}, environ=environ
            )
            result = Client(server, user_key.private).run("env")
            assert result.status == 0
            assert b"PROXY" not in result.stdout
            assert github.url.removeprefix("https://") in proxy.targets
            proxy.authorization = "changed"
            assert server.stop() == 0
            server.start()
            failed = server.wait_for("keys.failed")
            assert "it wants a user and a password in keys.https_proxy" in str(failed["reason"])
            said = b"".join(server.lines).decode() + server.stderr + (server.audit_dir / "events.jsonl").read_text()
            assert "sesame" not in said
