"""Keys of every type, certificates for them, and login attempts with them."""

from pyssh_gateway.core.access.authorized_keys import KeySnapshot
from pyssh_gateway.core.access.certificates import type_of
from pyssh_gateway.core.access.denials import Deny
from pyssh_gateway.core.access.key_options import KeyOptions
from pyssh_gateway.core.access.policy import SIGNATURE_ALGORITHMS, Accept, Attempt, Proof, decide
from tests.support.certificates import option_list
from tests.support.denials import deny
from tests.support.key_lines import SK_ECDSA, SK_ED25519, blob, mpint, string
from tests.support.snapshots import USER, line, snapshot

NOW = 1_700_000_000
HOUR, DAY = 3600, 86400
PEER = "192.0.2.1"

# One key of each type. ED is the key in `certificates.made_up`, CA the authority that it names as its signer.
RSA_FIELDS = mpint(65537) + mpint((1 << 2047) | 1)
ED = blob("ssh-ed25519", string(b"\x05" * 32))
CA = OTHER = blob("ssh-ed25519", string(b"\x06" * 32))
RSA = blob("ssh-rsa", RSA_FIELDS)
EC = blob("ecdsa-sha2-nistp256", string(b"nistp256"), string(b"\4" * 65))
SK = blob(SK_ED25519, string(b"\x05" * 32), string(b"ssh:"))
SKEC = blob(SK_ECDSA, string(b"nistp256"), string(b"\4" * 65), string(b"ssh:"))
ODD = blob("ssh-of-tomorrow", string(b"?"))

AUTHORITY = KeyOptions(cert_authority=True)

FORCED = option_list((b"force-command", string(b"backup")))
NEARBY = option_list((b"source-address", string(b"192.0.2.0/24,10.1.2.3")))
VERIFY = option_list((b"verify-required", b""))
EVERYTHING = option_list(
    (b"permit-X11-forwarding", b""),
    (b"permit-agent-forwarding", b""),
    (b"permit-port-forwarding", b""),
    (b"permit-pty", b""),
    (b"permit-user-rc", b""),
)

UNKNOWN_ACCOUNT = deny("unknown account")
UNKNOWN_KEY = deny("key is not known")


def ask(
    key: bytes,
    keys: KeySnapshot,
    *,
    user: bytes = USER.encode(),
    algorithm: str = "",
    proof: Proof | None = None,
) -> Accept | Deny:
    """Offer `key`, or prove it, with an algorithm of its type unless one is given."""
    algorithm = algorithm or min(SIGNATURE_ALGORITHMS[type_of(key)])
    return decide(Attempt(user, algorithm, key, proof, PEER), keys, NOW)


def show(
    certificate: bytes,
    keys: KeySnapshot | None = None,
    *,
    algorithm: str = "ssh-ed25519-cert-v01@openssh.com",
    proof: Proof | None = None,
    peer: str = PEER,
    now: float = NOW,
) -> Accept | Deny:
    """Offer a certificate, or prove it, to an account that trusts CA."""
    attempt = Attempt(USER.encode(), algorithm, certificate, proof, peer)
    return decide(attempt, keys or snapshot(line(CA, AUTHORITY)), now)


def accepted(outcome: Accept | Deny) -> Accept:
    """Check that `outcome` is an acceptance, and return it."""
    assert isinstance(outcome, Accept), outcome
    return outcome
