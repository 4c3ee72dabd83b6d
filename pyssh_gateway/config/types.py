"""The configuration's types, with their defaults and limits.

A field's type has all the rules for it: the last item of a leaf's `Annotated` reads and checks the raw value.
`docs/configuration.md` describes the same for people, and tests compare the two.
"""

from typing import Annotated

import msgspec

from pyssh_gateway.config import audit_values, machine_values, sizes, values
from pyssh_gateway.config.sizes import Size
from pyssh_gateway.config.source import DEFAULT_ADDRESS, DEFAULT_PORT
from pyssh_gateway.config.values import Duration, Secret

ACCEPTED_ENV = ("LANG", "LC_*", "COLORTERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "GIT_*", "NO_COLOR")
"""Variables that a client may set by default (sshd's AcceptEnv): language, colours and git; none that loads code."""

KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
"""Types of keys that may log in. RSA keys sign with SHA-2 only."""

PRIVATE_NETWORKS = (
    *("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
    *("fc00::/7", "fe80::/10"),
)
"""Private addresses (RFC 1918, 6598, 3927, 4193 and 4291). Behind such an address there is often a bridge, a load
balancer or a proxy without a header, which many clients share: a penalty for one would keep out all of them."""

FORWARDING_SCOPES = ("all", "local", "remote", "none")
"""What a login may forward: both ways, outwards, towards the client, nothing (sshd's AllowTcpForwarding)."""

GITHUB_URL = "https://github.com"
GITHUB_API_URL = "https://api.github.com"

# Fly's maximum kill_timeout: past it the machine is gone, whatever we still wait for.
_MAX_DRAIN = 300
# A source that takes longer is down, and the next refresh will ask it again.
_MAX_FETCH = 60
# Every refresh asks every source; a shorter interval would load them and reach GitHub's rate limit.
_MIN_REFRESH = 10
# Time to find a security key in another room. A scanner can hold a place for as long.
_MAX_GRACE = 600
# OpenSSH's MaxAuthTries is 6. Larger agents exist; guessing keys is hopeless at any number of attempts.
_MAX_ATTEMPTS = 100
# Fly's proxy opens at most 2,048 connections per app and edge; a few edges fit.
_MAX_UNAUTHENTICATED = 10_000
# A day: to keep a source out for longer is a firewall's job.
_MAX_PENALTY = 86400
# OpenSSH's MaxSessions is 10. Each is a process and up to three descriptors.
_MAX_SESSIONS = 1_000
# With less, a connection does little else than exchange keys.
_MIN_REKEY = 64 * 1024
# RFC 4344 section 3.2: 2**32 blocks of AES, which have 16 bytes.
_MAX_REKEY = 64 * 2**30
# A smaller file is hardly worth its name; a larger one takes long to read again after a crash.
_MIN_SEGMENT, _MAX_SEGMENT = 64 * 1024, 1024 * 1024**2
_MAX_KEPT = 1024**4
# OpenSSH's ClientAliveCountMax is 3, with keepalives off; a day of silence at any sensible interval is within this.
_MAX_MISSES = 10_000


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where connections arrive."""

    address: Annotated[str | tuple[str, ...], values.listen_address] = DEFAULT_ADDRESS
    port: Annotated[int, values.whole_number(0, 65535)] = DEFAULT_PORT
    # npm's ssh2, and the editors that are built on it, refuse unix-socket forwarding to anything but OpenSSH.
    identification: Annotated[str, values.identification] = "OpenSSH_9.9 pyssh-gateway"
    banner: Annotated[str, machine_values.banner] = ""
    proxy_protocol: Annotated[str, values.choice("off", "v1", "v2", "any")] = "off"
    trusted_proxies: tuple[Annotated[str, machine_values.network], ...] = ()


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One Unix account that people may log in to, and where their keys come from.

    `chroot` may have tokens, and is empty for no chroot. `forward_sockets` None: it follows `forwarding`;
    `forward_agent` and `forward_x11` None: they follow the settings for everybody in `[forwarding]`. `record` None: it
    follows `audit.record`; `record_keys` are exceptions, `SHA256:...=all`.
    """

    user: Annotated[str, values.existing_account]
    keys: Annotated[tuple[Annotated[str, values.source_spec], ...], msgspec.Meta(min_length=1)]
    forwarding: Annotated[str, values.choice(*FORWARDING_SCOPES)] = "all"
    forward_sockets: Annotated[str | None, values.choice(*FORWARDING_SCOPES)] = None
    forward_agent: Annotated[bool | None, values.yes_or_no] = None
    forward_x11: Annotated[bool | None, values.yes_or_no] = None
    permit_open: tuple[Annotated[str, values.host_and_port], ...] = ()
    permit_listen: tuple[Annotated[str, values.host_and_port], ...] = ()
    force_command: Annotated[str, values.command] = ""
    chroot: Annotated[str, machine_values.chroot_directory] = ""
    set_env: tuple[Annotated[str, values.env_setting], ...] = ()
    only_fingerprints: tuple[Annotated[str, values.fingerprint], ...] = ()
    key_types: tuple[Annotated[str, values.choice(*KEY_TYPES)], ...] = ()
    record: Annotated[str | None, values.choice(*audit_values.RECORDED)] = None
    record_keys: tuple[Annotated[str, audit_values.recorded_key], ...] = ()
    break_glass: Annotated[bool, values.yes_or_no] = False


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How keys are fetched, how long they are valid, and what happens to connections when they are removed."""

    refresh: Annotated[Duration, values.duration(_MIN_REFRESH, values.YEAR)] = Duration(600)
    revalidate: Annotated[Duration, values.duration(0, values.YEAR)] = Duration(60)
    max_stale: Annotated[Duration, values.duration(values.MINUTE, values.YEAR)] = Duration(7 * 86400)
    timeout: Annotated[Duration, values.duration(values.MILLISECOND, _MAX_FETCH)] = Duration(5)
    on_revoke: Annotated[str, values.choice("end", "keep")] = "end"
    revoked: Annotated[str | tuple[str, ...], machine_values.revoked_lists] = ""
    github_url: Annotated[str, values.base_url] = GITHUB_URL
    github_api_url: Annotated[str, values.optional_base_url] = ""
    github_token: Annotated[Secret, values.secret] = Secret()
    gitlab_url: Annotated[str, values.base_url] = "https://gitlab.com"
    codeberg_url: Annotated[str, values.base_url] = "https://codeberg.org"
    launchpad_url: Annotated[str, values.base_url] = "https://launchpad.net"
    sourcehut_url: Annotated[str, values.base_url] = "https://meta.sr.ht"
    https_proxy: Annotated[Secret, machine_values.http_proxy] = Secret()
    no_proxy: Annotated[str, machine_values.no_proxy] = ""

    @property
    def revoked_lists(self) -> tuple[str, ...]:
        """The lists that `revoked` names, one or several."""
        given = self.revoked
        return given if isinstance(given, tuple) else (given,) if given else ()

    @property
    def github_api(self) -> str:
        """The address of GitHub's API: that of github.com, or of the Enterprise Server that `github_url` names."""
        if self.github_api_url:
            return self.github_api_url
        return f"{self.github_url}/api/v3" if self.github_is_own else GITHUB_API_URL

    @property
    def github_is_own(self) -> bool:
        """Whether `github_url` names an Enterprise Server, which may hide its pages of keys. github.com never does."""
        return self.github_url != GITHUB_URL


class HostKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The server's own keys. The key of the first type is the one that is displayed; a missing key is made.

    `files` are additional keys, which are never made; `certificates` may be for both kinds of keys.
    """

    types: Annotated[
        tuple[Annotated[str, values.choice("ed25519", "ecdsa", "rsa")], ...], msgspec.Meta(min_length=1)
    ] = ("ed25519",)
    files: tuple[Annotated[str, machine_values.absolute_path], ...] = ()
    certificates: tuple[Annotated[str, machine_values.absolute_path], ...] = ()


class Idle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the machine is not needed. `timeout` None: never. `boot_grace` None: the same as `timeout`."""

    timeout: Annotated[Duration | None, values.duration_or_off] = Duration(120)
    boot_grace: Annotated[Duration | None, values.duration_or("timeout")] = None
    wake_grace: Annotated[Duration, values.duration(0, values.YEAR)] = Duration(2)
    client_idle: Annotated[Duration | None, values.duration_or_off] = Duration(20 * 60)
    recent_use: Annotated[Duration, values.duration(0, values.YEAR)] = Duration(60)
    lost_client_grace: Annotated[Duration, values.duration(0, values.YEAR)] = Duration(300)
    background: Annotated[str, values.choice("ignore", "cpu")] = "cpu"
    background_cpu: Annotated[int, values.whole_number(1, 100)] = 10
    background_max: Annotated[Duration, values.duration(values.SECOND, values.YEAR)] = Duration(12 * 3600)
    hold_max: Annotated[Duration, values.duration(values.SECOND, values.YEAR)] = Duration(12 * 3600)
    schedule: tuple[Annotated[str, machine_values.hours], ...] = ()
    timezone: Annotated[str, machine_values.timezone] = "UTC"


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits on what a peer may request."""

    login_grace: Annotated[Duration, values.duration(values.MILLISECOND, _MAX_GRACE)] = Duration(30)
    signature_grace: Annotated[Duration, values.duration(values.MILLISECOND, _MAX_GRACE)] = Duration(120)
    auth_attempts: Annotated[int, values.whole_number(1, _MAX_ATTEMPTS)] = 6
    unauthenticated: Annotated[int, values.whole_number(1, _MAX_UNAUTHENTICATED)] = 100
    unauthenticated_per_source: Annotated[int, values.whole_number(1, _MAX_UNAUTHENTICATED)] = 10
    sessions_per_connection: Annotated[int, values.whole_number(1, _MAX_SESSIONS)] = 64
    early_drop_start: Annotated[int, values.whole_number(1, _MAX_UNAUTHENTICATED)] = 10
    early_drop_rate: Annotated[int, values.whole_number(1, 100)] = 30
    penalties: Annotated[bool, values.yes_or_no] = True
    penalty_min: Annotated[Duration, values.duration(0, _MAX_PENALTY)] = Duration(15)
    penalty_max: Annotated[Duration, values.duration(values.SECOND, _MAX_PENALTY)] = Duration(600)
    penalty_exempt: tuple[Annotated[str, machine_values.network], ...] = PRIVATE_NETWORKS


class Session(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client may set in a session, when the client counts as gone, and when the session is over.

    `keepalive` None: no keepalives are sent. `linger` None: a session waits for its output's end, as sshd's does.
    `rekey_time` None: new keys are only made after `rekey_bytes`.
    """

    accept_env: tuple[Annotated[str, values.env_pattern], ...] = ACCEPTED_ENV
    keepalive: Annotated[Duration | None, values.duration_or_off] = Duration(30)
    keepalive_misses: Annotated[int, values.whole_number(1, _MAX_MISSES)] = 10
    linger: Annotated[Duration | None, values.duration_or_off] = None
    banner: Annotated[bool, values.yes_or_no] = True
    update_motd: Annotated[bool, values.yes_or_no] = True
    expose_auth_info: Annotated[bool, values.yes_or_no] = False
    rekey_bytes: Annotated[Size, sizes.size(_MIN_REKEY, _MAX_REKEY)] = Size(2**30)
    rekey_time: Annotated[Duration | None, values.duration_or_off] = Duration(3600)


class Forwarding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is forwarded, for everybody. A login may permit less (`login.forwarding`)."""

    agent: Annotated[bool, values.yes_or_no] = True
    x11: Annotated[bool, values.yes_or_no] = False
    gateway_ports: Annotated[str, values.choice("no", "yes", "clientspecified")] = "no"
    socket_mask: Annotated[str, values.mask] = "0177"
    socket_unlink: Annotated[bool, values.yes_or_no] = False


class Stop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the server stops, and what happens to the machine then."""

    drain: Annotated[Duration, values.duration(0, _MAX_DRAIN)] = Duration(4)
    action: Annotated[str, values.choice("exit", "suspend", "command")] = "exit"
    command: Annotated[str, values.command] = ""
    hooks: tuple[Annotated[str, values.command], ...] = ()
    hook_timeout: Annotated[Duration, values.duration(values.MILLISECOND, _MAX_DRAIN)] = Duration(10)
    fly_api: Annotated[str, values.socket_path] = "auto"
    warn: tuple[Annotated[Secret, machine_values.warning], ...] = ()


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is written to standard output. `auto`: human on a terminal, JSON lines elsewhere."""

    format: Annotated[str, values.choice("auto", "human", "json")] = "auto"


class Audit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the log is kept, whether nobody gets in without it, what is recorded, and where else events are sent.

    Recordings have bounds of their own: for each session, and for all of them.
    """

    keep: Annotated[Duration, values.duration(values.MINUTE, 100 * values.YEAR)] = Duration(400 * 86400)
    keep_size: Annotated[Size, sizes.size(1024**2, _MAX_KEPT)] = Size(1024**3)
    segment_size: Annotated[Size, sizes.size(_MIN_SEGMENT, _MAX_SEGMENT)] = Size(16 * 1024**2)
    segment_age: Annotated[Duration, values.duration(values.SECOND, values.YEAR)] = Duration(7 * 86400)
    required: Annotated[bool, values.yes_or_no] = False
    record: Annotated[str, values.choice(*audit_values.RECORDED)] = "off"
    record_input: Annotated[bool, values.yes_or_no] = False
    record_notice: Annotated[str, audit_values.notice] = "This session is recorded."
    record_session_size: Annotated[Size, sizes.size(64 * 1024, _MAX_KEPT)] = Size(64 * 1024**2)
    record_session_time: Annotated[Duration, values.duration(values.SECOND, values.YEAR)] = Duration(86400)
    record_keep: Annotated[Duration, values.duration(values.MINUTE, 100 * values.YEAR)] = Duration(90 * 86400)
    record_keep_size: Annotated[Size, sizes.size(1024**2, _MAX_KEPT)] = Size(2 * 1024**3)
    syslog: Annotated[str, audit_values.syslog_address] = "off"
    otlp: Annotated[str, values.optional_base_url] = ""
    otlp_headers: tuple[Annotated[Secret, audit_values.http_header], ...] = ()


class Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A symbolic link that is made at boot: `path` leads to `target`, which is a directory that is made if missing."""

    path: Annotated[str, machine_values.absolute_path]
    target: Annotated[str, machine_values.absolute_path]


class Directory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A directory that is there after boot, with this owner and mode."""

    path: Annotated[str, machine_values.absolute_path]
    owner: Annotated[str, values.existing_account] = "root"
    mode: Annotated[str, machine_values.file_mode] = "0755"


class Account(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A Unix account that is made at boot if it is missing. `home` empty: /home and its name."""

    user: Annotated[str, values.account_name]
    shell: Annotated[str, machine_values.absolute_path] = "/bin/bash"
    groups: tuple[Annotated[str, values.account_name], ...] = ()
    home: Annotated[str, machine_values.optional_path] = ""
    sudo: Annotated[bool, values.yes_or_no] = False


class Service(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program that runs as long as the server does."""

    name: Annotated[str, values.account_name]
    command: Annotated[str, machine_values.nonempty_command]
    user: Annotated[str, values.existing_account] = "root"
    stop_timeout: Annotated[Duration, values.duration(values.MILLISECOND, _MAX_DRAIN)] = Duration(5)


class Boot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the server prepares and starts on the machine, once its socket is open and without delaying a login.

    `homes`: the directory, for example on a volume, that holds the homes of the accounts that may log in; empty: the
    homes stay where they are.
    """

    homes: Annotated[str, machine_values.optional_path] = ""
    link: tuple[Link, ...] = ()
    directory: tuple[Directory, ...] = ()
    account: tuple[Account, ...] = ()
    service: tuple[Service, ...] = ()


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Metrics for Prometheus."""

    listen: Annotated[str, machine_values.metrics_address] = "off"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration, parsed once."""

    listen: Listen = Listen()
    login: tuple[Login, ...] = ()
    keys: Keys = Keys()
    host_keys: HostKeys = HostKeys()
    idle: Idle = Idle()
    limits: Limits = Limits()
    session: Session = Session()
    forwarding: Forwarding = Forwarding()
    stop: Stop = Stop()
    boot: Boot = Boot()
    metrics: Metrics = Metrics()
    log: Log = Log()
    audit: Audit = Audit()
    account: Annotated[str, values.existing_account] = "pyssh-gateway"
    preauth_account: Annotated[str, values.existing_account] = "pyssh-preauth"
    control: Annotated[str, values.socket_path] = "auto"
    keys_dir: Annotated[str, values.directory] = "keys"
    audit_dir: Annotated[str, values.directory] = "audit"
