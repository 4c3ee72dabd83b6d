"""The text that a person sees first: who may log in, with which keys, how, and when the machine stops."""

from pyssh_gateway.config.source import Endpoint, shown_endpoint
from pyssh_gateway.config.types import Config
from pyssh_gateway.config.values import format_duration
from pyssh_gateway.core.access.authorized_keys import AccountKeys, KeySnapshot
from pyssh_gateway.core.access.randomart import short_name
from pyssh_gateway.core.idle.usage import quiet_after
from pyssh_gateway.keys.host_keys import HostKey
from pyssh_gateway.keys.source_state import SourceStatus

MAX_KEYS_SHOWN = 10
"""How many keys are listed for one account; a whole company's would push the rest off the screen."""

_ANY_ADDRESS = frozenset({"0.0.0.0", "::"})


def start_banner(
    config: Config,
    endpoints: tuple[Endpoint, ...],
    host_keys: tuple[HostKey, ...],
    *,
    snapshot: KeySnapshot,
    sources: tuple[SourceStatus, ...],
    identity: str,
) -> str:
    """The text, ready to print. `identity` is a private key that the command has to name, or empty."""
    address, port = endpoints[0]
    lines = ["", f"pyssh-gateway listens on {', '.join(shown_endpoint(*endpoint) for endpoint in endpoints)}", ""]
    for login in config.login:
        lines.append(f"  {login.user} may log in with")
        lines += [f"    {line}" for line in _keys(snapshot.accounts[login.user])]
    for source in sources:
        if source.failure:
            kept = f"{source.accepted} keys from before stay in force" if source.accepted else "nobody gets in by it"
            kept = "what it said last is too old, nobody gets in by it" if source.stale else kept
            kept = "what it said last is dated in the future, nobody gets in by it" if source.ahead else kept
            lines.append(f"  ! {source.spec}: {source.failure}; {kept}")
        elif source.ahead:
            lines.append(
                f"  ! {source.spec}: its last good copy is dated in the future, nobody gets in by it until it answers"
            )
        elif source.origin == "none":
            lines.append(f"  ! {source.spec}: has not answered yet")
        elif not source.accepted:
            lines.append(f"  ! {source.spec}: there is no usable key in it")
    lines += [
        f"  ! {listed.spec}: {listed.failure}; NOBODY GETS IN while it is not known what is revoked"
        for listed in snapshot.revoked
        if listed.failure
    ]
    timeout = config.idle.timeout
    stop = (
        f"stops by itself {format_duration(timeout)} after the last login has ended{_unused(config)}"
        if timeout is not None
        else "does not stop by itself"
    )
    host = "localhost" if address in _ANY_ADDRESS else address
    user = next((login.user for login in config.login if _lets_in(snapshot.accounts[login.user])), None)
    lines += ["", *(f"  host key  {_host_key(key)}" for key in host_keys)]
    if user is None:
        lines.append("  NOBODY CAN LOG IN yet: no key is known that would be let in, see above")
    else:
        lines.append(f"  log in    ssh {f'-i {identity} ' if identity else ''}-p {port} {user}@{host}")
    lines += [f"  {stop}", "", ""]
    return "\n".join(lines)


def _unused(config: Config) -> str:
    after = quiet_after(config.idle)
    return "" if after is None else f", or was not used for {format_duration(after)}"


def _lets_in(account: AccountKeys) -> bool:
    return bool(account.keys or account.authorities)


def _host_key(key: HostKey) -> str:
    remark = " (announced, not in use yet)" if key.next else " (new)" if key.created else ""
    if key.spare:
        remark = " (announced only: another one of its type comes first)"
    if key.was_empty:
        remark = f" (NEW HOST KEY: {key.path} was empty; clients that know another one will be warned)"
    return f"{short_name(key.key_type):<8} {key.fingerprint}{remark}"


def _keys(account: AccountKeys) -> list[str]:
    lines = [(key, "") for found in account.keys.values() for key in found]
    lines += [(key, "certificates of ") for found in account.authorities.values() for key in found]
    if not lines:
        return ["no key at all: nobody gets in"]
    shown = [f"{what}{key.key_type:<12} {key.fingerprint}  from {key.source}" for key, what in lines[:MAX_KEYS_SHOWN]]
    if len(lines) > MAX_KEYS_SHOWN:
        shown.append(f"and {len(lines) - MAX_KEYS_SHOWN} more")
    if account.only_fingerprints or account.key_types:
        shown.append("of these, only the fingerprints and key types that the configuration names")
    return shown
