"""What a person sees first: who may log in, with what, how, and when it ends."""

from pyssh_gateway.config import Config, format_duration
from pyssh_gateway.core.authorized_keys import AuthorizedKey, KeySnapshot
from pyssh_gateway.keys.host_keys import HostKey
from pyssh_gateway.keys.keyring import SourceStatus

MAX_KEYS_SHOWN = 10
"""Keys listed for one account; a company's worth would push the rest off the screen."""

_ANY_ADDRESS = frozenset({"0.0.0.0", "::"})


def start_banner(
    config: Config,
    endpoint: tuple[str, int],
    host_key: HostKey,
    *,
    snapshot: KeySnapshot,
    sources: tuple[SourceStatus, ...],
    identity: str,
) -> str:
    """The text, ready to print. `identity` is a private key that the command has to name, or empty."""
    address, port = endpoint
    lines = ["", f"pyssh-gateway listens on {address}:{port}", ""]
    for login in config.login:
        lines.append(f"  {login.user} may log in with")
        lines += [f"    {line}" for line in _keys(tuple(snapshot.accounts.get(login.user, {}).values()))]
    for source in sources:
        if source.failure:
            kept = f"{source.accepted} keys from before stay in force" if source.accepted else "nobody gets in by it"
            lines.append(f"  ! {source.spec}: {source.failure}; {kept}")
        elif not source.accepted:
            lines.append(f"  ! {source.spec}: there is no usable key in it")
    made = " (new)" if host_key.created else ""
    timeout = config.idle.timeout
    stop = (
        f"stops by itself {format_duration(timeout)} after the last login has ended"
        if timeout is not None
        else "does not stop by itself"
    )
    host = "localhost" if address in _ANY_ADDRESS else address
    command = f"ssh {f'-i {identity} ' if identity else ''}-p {port} {config.login[0].user}@{host}"
    lines += ["", f"  host key  {host_key.fingerprint}{made}", f"  log in    {command}", f"  {stop}", "", ""]
    return "\n".join(lines)


def _keys(keys: tuple[AuthorizedKey, ...]) -> list[str]:
    if not keys:
        return ["no key at all: nobody gets in"]
    shown = [f"{key.key_type:<12} {key.fingerprint}  from {key.source}" for key in keys[:MAX_KEYS_SHOWN]]
    if len(keys) > MAX_KEYS_SHOWN:
        shown.append(f"and {len(keys) - MAX_KEYS_SHOWN} more")
    return shown
