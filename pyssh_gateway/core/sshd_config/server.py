"""Our settings for everybody, from sshd's configuration. Pure."""

import re
from collections.abc import Callable, Iterator, Sequence

from pyssh_gateway.core.sshd_config import arguments
from pyssh_gateway.core.sshd_config.arguments import Untranslatable
from pyssh_gateway.core.sshd_config.effective import Effective
from pyssh_gateway.core.sshd_config.lines import Directive

Settings = dict[str, object]
"""Values by the dotted names of our settings."""

Words = tuple[str, ...]

PORT = 22
ANYWHERE = {"any": ("0.0.0.0", "::"), "inet": ("0.0.0.0",), "inet6": ("::",)}
"""Where sshd listens without a ListenAddress, by its AddressFamily."""

LOOPBACK = ("127.0.0.1", "::1")

HOST_KEYS = {kind: f"/etc/ssh/ssh_host_{kind}_key" for kind in ("ed25519", "ecdsa", "rsa")}
"""sshd's default host keys, if the files exist."""

_TYPE_OF_KEY = re.compile(r"(?:^|[^a-z0-9])(ed25519|ecdsa|rsa)(?![a-z0-9])")

NAME = "OpenSSH_9.9"
"""The beginning of the server's name for which clients look (listen.identification)."""


def _time_or_off(words: Words) -> str:
    return "off" if arguments.seconds(words[0]) == 0 else arguments.duration(words[0])


def _login_grace(words: Words) -> Settings:
    if arguments.seconds(words[0]) == 0:
        raise Untranslatable("there is a limit here: at most 10m")
    return {"limits.login_grace": arguments.duration(words[0])}


def _max_startups(words: Words) -> Settings:
    numbers = [arguments.number(part) for part in words[0].split(":")]
    if len(numbers) == 1:
        return {"limits.unauthenticated": numbers[0], "limits.early_drop_start": numbers[0]}
    if len(numbers) != 3:
        raise Untranslatable(f"{words[0]} is neither one number nor three")
    start, rate, most = numbers
    return {"limits.early_drop_start": start, "limits.early_drop_rate": rate, "limits.unauthenticated": most}


def _penalties(words: Words) -> Settings:
    settings: Settings = {}
    for word in words:
        name, _, value = word.partition(":")
        if name in {"max", "min"} and value:
            settings[f"limits.penalty_{name}"] = arguments.duration(value)
        elif value:
            raise Untranslatable(f"{name}: each offence has OpenSSH's default, and no setting")
        else:
            settings["limits.penalties"] = arguments.switch(name)
    return settings


def _rekey(words: Words) -> Settings:
    settings: Settings = {}
    if words[0].lower() not in {"default", "none"}:
        settings["session.rekey_bytes"] = arguments.size(words[0])
    if len(words) > 1:
        settings["session.rekey_time"] = "off" if words[1].lower() == "none" else _time_or_off(words[1:])
    return settings


def _per_source(words: Words) -> Settings:
    if words[0].lower() == "none":
        raise Untranslatable("there is a limit for each source here: limits.unauthenticated_per_source")
    return {"limits.unauthenticated_per_source": arguments.number(words[0])}


def _banner(words: Words) -> Settings:
    return {} if words[0].lower() == "none" else {"listen.banner": f"file:{words[0]}"}


def _revoked(words: Words) -> Settings:
    return {} if words[0].lower() == "none" else {"keys.revoked": [f"file:{word}" for word in words]}


def _switch(key: str) -> Callable[[Words], Settings]:
    return lambda words: {key: arguments.switch(words[0])}


def _number(key: str) -> Callable[[Words], Settings]:
    return lambda words: {key: arguments.number(words[0])}


TRANSLATED: dict[str, Callable[[Words], Settings]] = {
    "acceptenv": lambda words: {"session.accept_env": list(words)},
    "allowagentforwarding": _switch("forwarding.agent"),
    "banner": _banner,
    "clientalivecountmax": _number("session.keepalive_misses"),
    "clientaliveinterval": lambda words: {"session.keepalive": _time_or_off(words)},
    "exposeauthinfo": _switch("session.expose_auth_info"),
    "gatewayports": lambda words: {"forwarding.gateway_ports": words[0].lower()},
    "hostcertificate": lambda words: {"host_keys.certificates": list(words)},
    "logingracetime": _login_grace,
    "maxauthtries": _number("limits.auth_attempts"),
    "maxsessions": _number("limits.sessions_per_connection"),
    "maxstartups": _max_startups,
    "persourcemaxstartups": _per_source,
    "persourcepenalties": _penalties,
    "persourcepenaltyexemptlist": lambda words: {"limits.penalty_exempt": words[0].split(",")},
    "rekeylimit": _rekey,
    "revokedkeys": _revoked,
    "streamlocalbindmask": lambda words: {"forwarding.socket_mask": words[0]},
    "streamlocalbindunlink": _switch("forwarding.socket_unlink"),
    "versionaddendum": lambda words: {} if words[0].lower() == "none" else {
        "listen.identification": " ".join((NAME, *words))
    },
    "x11forwarding": _switch("forwarding.x11"),
}  # fmt: skip
"""The translation of a keyword's arguments, for each keyword that has a setting for everybody here."""

LISTENING = frozenset({"port", "listenaddress", "addressfamily"})
"""Keywords that are translated together into one setting."""

FOR_EVERYBODY = TRANSLATED.keys() | LISTENING | {"hostkey"}
"""All keywords that this module handles."""

FOR_LOGINS_AS_WELL = frozenset({"allowagentforwarding", "x11forwarding"})
"""The keywords of `TRANSLATED` that each login can also have."""


def settings(found: Effective) -> Iterator[tuple[Directive, Settings | Untranslatable]]:
    """The translation of each keyword for everybody, with a line from which it comes."""
    for keyword, lines in found.lines.items():
        if keyword in TRANSLATED:
            try:
                yield lines[0], TRANSLATED[keyword](found.words(keyword))
            except Untranslatable as why:
                yield lines[0], why


def listening(found: Effective, *, ipv6: bool) -> tuple[Settings, list[tuple[Directive, Untranslatable]]]:
    """Our settings for listening, and the lines that can't be translated. `ipv6`: whether the machine has it."""
    endpoints: list[str] = []
    problems: list[tuple[Directive, Untranslatable]] = []
    ports = []
    for directive in found.lines.get("port", ()):
        try:
            ports.append(arguments.port_number(directive.arguments[0]))
        except Untranslatable as why:
            problems.append((directive, why))
    ports = ports or [PORT]
    for directive in found.lines.get("listenaddress", ()):
        try:
            endpoints += _endpoints(directive, ports, ipv6=ipv6)
        except Untranslatable as why:
            problems.append((directive, why))
    family = found.word("addressfamily", "any").lower()
    if not found.lines.get("listenaddress"):
        anywhere = ANYWHERE.get(family, ANYWHERE["any"]) if ipv6 else ANYWHERE["inet"]
        endpoints = [arguments.listen_address(f"[{address}]", port) for address in anywhere for port in ports]
    if not endpoints:  # our default would listen everywhere, which sshd did not
        endpoints = [f"{LOOPBACK[0]}:{port}" for port in ports]
    return {"listen.address": list(dict.fromkeys(endpoints))}, problems


def _endpoints(directive: Directive, ports: Sequence[int], *, ipv6: bool) -> list[str]:
    """What a ListenAddress line listens on. Raises Untranslatable."""
    argument, *domain = directive.arguments
    if domain:
        raise Untranslatable("there are no routing domains")
    return [arguments.listen_address(address, port) for address in _addresses(argument, ipv6=ipv6) for port in ports]


def _addresses(argument: str, *, ipv6: bool) -> tuple[str, ...]:
    """The addresses of a ListenAddress argument: itself, or those of the one name that is the same on every machine."""
    host, colon, port = argument.partition(":")
    if host.lower() != "localhost":
        return (argument,)
    return tuple(f"[{address}]{colon}{port}" for address in LOOPBACK[: 1 + ipv6])


def host_keys(
    found: Effective, is_file: Callable[[str], bool]
) -> tuple[Settings, list[tuple[Directive, Untranslatable]]]:
    """The types of sshd's host keys, by the names of their files, and the files whose names have no type of ours.

    Of several keys of one type, the first becomes the key of that type, and the others become additional files.
    """
    kinds: set[str] = set()
    further: list[str] = []
    problems: list[tuple[Directive, Untranslatable]] = []
    for directive in found.lines.get("hostkey", ()):
        kind = _TYPE_OF_KEY.search(directive.arguments[0].rpartition("/")[2])
        if kind is None:
            problems.append((directive, Untranslatable("the name says none of the types ed25519, ecdsa and rsa")))
        elif kind[1] in kinds:
            further.append(directive.arguments[0])
        else:
            kinds.add(kind[1])
    if "hostkey" not in found.lines:
        kinds = {kind for kind, path in HOST_KEYS.items() if is_file(path)}
    types = [kind for kind in HOST_KEYS if kind in kinds]
    found_keys: Settings = {"host_keys.types": types} if types else {}
    return found_keys | ({"host_keys.files": further} if further else {}), problems
