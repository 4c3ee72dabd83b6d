"""Every keyword of sshd_config(5) up to OpenSSH 10.5, and our setting for it. docs/from-sshd.md is this table."""

import msgspec


class Keyword(msgspec.Struct, frozen=True):
    """A keyword of sshd's.

    `here` names our settings; if it is empty there is none, and `remark` says what there is instead. `same` are
    arguments, in lower case, that describe what we do anyway: they need no setting.
    """

    name: str
    here: tuple[str, ...] = ()
    remark: str = ""
    same: frozenset[str] = frozenset()


def _is(name: str, *here: str, remark: str = "", same: str = "") -> Keyword:
    return Keyword(name, here, remark, frozenset(same.split("|")) if same else frozenset())


_KEYS_ONLY = "Public keys are the only way in."
_FIXED = "Fixed: modern algorithms only, see [security](security.md)."
_NO_KERBEROS = "There is no Kerberos and no GSSAPI."
_NO_HOSTS = "No client's host is trusted with its users."
_ACCOUNTS = "Each account that may log in has a `[[login]]`; `import-sshd-config` writes those that these lists permit."
_LOG = "Everything is in the event log, see [audit](audit.md)."
_PATHS = "The server is one program."

KEYWORDS: tuple[Keyword, ...] = (
    _is("AcceptEnv", "session.accept_env", remark="For everybody. Without it sshd takes none, this server some."),
    _is("AddressFamily", "listen.address", remark="`0.0.0.0`, `::`, or both."),
    _is("AllowAgentForwarding", "login[].forward_agent", "forwarding.agent"),
    _is("AllowGroups", "login[].user", remark=_ACCOUNTS),
    _is("AllowStreamLocalForwarding", "login[].forward_sockets"),
    _is("AllowTcpForwarding", "login[].forwarding"),
    _is("AllowUsers", "login[].user", remark=f"{_ACCOUNTS} For `user@host`, write `from=` before the keys."),
    _is("AuthenticationMethods", remark=f"{_KEYS_ONLY} One of them is enough.", same="any|publickey"),
    _is("AuthorizedKeysCommand", remark="Keys are fetched: `url:` or `github:` in `login[].keys`.", same="none"),
    _is("AuthorizedKeysCommandUser", remark="See AuthorizedKeysCommand.", same="none"),
    _is("AuthorizedKeysFile", "login[].keys", remark="`file:` and the path; patterns are not expanded."),
    _is("AuthorizedPrincipalsCommand", remark="The account's name is the principal.", same="none"),
    _is("AuthorizedPrincipalsCommandUser", remark="See AuthorizedPrincipalsCommand.", same="none"),
    _is("AuthorizedPrincipalsFile", remark="The account's name is the principal; `principals=` in a key file names "
        "others.", same="none"),
    _is("Banner", "listen.banner", remark="For everybody."),
    _is("CASignatureAlgorithms", remark=_FIXED),
    _is("ChannelTimeout", remark="`idle.client_idle` has the machine stop; no channel is closed for being idle."),
    _is("ChrootDirectory", "login[].chroot", remark="For the built-in SFTP server alone, see "
        "[A chroot](configuration.md#a-chroot)."),
    _is("Ciphers", remark=_FIXED),
    _is("ClientAliveCountMax", "session.keepalive_misses", remark="For everybody; at least 1."),
    _is("ClientAliveInterval", "session.keepalive", remark="For everybody."),
    _is("Compression", remark="Nothing is compressed.", same="no"),
    _is("DebianBanner", remark="`listen.identification` is all that is said of the version. (Debian's)", same="no"),
    _is("DenyGroups", "login[].user", remark=_ACCOUNTS),
    _is("DenyUsers", "login[].user", remark=_ACCOUNTS),
    _is("DisableForwarding", "login[].forwarding", remark='`forwarding = "none"`.'),
    _is("ExposeAuthInfo", "session.expose_auth_info", remark="For everybody."),
    _is("FingerprintHash", remark="Fingerprints are SHA256.", same="sha256"),
    _is("ForceCommand", "login[].force_command"),
    _is("GatewayPorts", "forwarding.gateway_ports", remark="For everybody."),
    _is("GSSAPIAuthentication", remark=_NO_KERBEROS, same="no"),
    _is("GSSAPICleanupCredentials", remark=_NO_KERBEROS, same="yes|no"),
    _is("GSSAPIDelegateCredentials", remark=_NO_KERBEROS, same="yes|no"),
    _is("GSSAPIKexAlgorithms", remark=f"{_NO_KERBEROS} (Debian's)"),
    _is("GSSAPIKeyExchange", remark=f"{_NO_KERBEROS} (Debian's)", same="no"),
    _is("GSSAPIStoreCredentialsOnRekey", remark=f"{_NO_KERBEROS} (Debian's)", same="yes|no"),
    _is("GSSAPIStrictAcceptorCheck", remark=_NO_KERBEROS, same="yes|no"),
    _is("HostbasedAcceptedAlgorithms", remark=_NO_HOSTS),
    _is("HostbasedAuthentication", remark=_NO_HOSTS, same="no"),
    _is("HostbasedUsesNameFromPacketOnly", remark=_NO_HOSTS, same="yes|no"),
    _is("HostCertificate", "host_keys.certificates"),
    _is("HostKey", "host_keys.types", "host_keys.files", remark="The first of each type is in `keys_dir`, where "
        "`keys import-host` brings sshd's."),
    _is("HostKeyAgent", remark="Keys are files.", same="none"),
    _is("HostKeyAlgorithms", remark=_FIXED),
    _is("IgnoreRhosts", remark=_NO_HOSTS, same="yes"),
    _is("IgnoreUserKnownHosts", remark=_NO_HOSTS, same="yes|no"),
    _is("Include", remark="One file, and the environment; `import-sshd-config` reads all files."),
    _is("IPQoS", remark="Packets are not marked."),
    _is("KbdInteractiveAuthentication", remark=_KEYS_ONLY, same="no"),
    _is("KerberosAuthentication", remark=_NO_KERBEROS, same="no"),
    _is("KerberosGetAFSToken", remark=_NO_KERBEROS, same="no"),
    _is("KerberosOrLocalPasswd", remark=_NO_KERBEROS, same="yes|no"),
    _is("KerberosTicketCleanup", remark=_NO_KERBEROS, same="yes|no"),
    _is("KexAlgorithms", remark=_FIXED),
    _is("ListenAddress", "listen.address", remark="Addresses and `localhost`; no other names, no `rdomain`."),
    _is("LoginGraceTime", "limits.login_grace", remark="At most 10 minutes; see also `limits.signature_grace`."),
    _is("LogLevel", remark=_LOG, same="info|verbose"),
    _is("LogVerbose", remark=_LOG),
    _is("MACs", remark=_FIXED),
    _is("Match", "login[]", remark="`User` and `Group`: each account has its own `[[login]]`. Of where a client comes "
        "from, `from=` before a key can say something; `Host`, `LocalAddress`, `LocalPort`, `RDomain` and `Version` "
        "have nothing here."),
    _is("MaxAuthTries", "limits.auth_attempts", remark="For everybody."),
    _is("MaxSessions", "limits.sessions_per_connection", remark="For everybody; at least 1."),
    _is("MaxStartups", "limits.early_drop_start", "limits.early_drop_rate", "limits.unauthenticated",
        remark="A newcomer takes the place of an idle connection, see [Strangers](security.md#strangers)."),
    _is("ModuliFile", remark="No group exchange: curve25519, ML-KEM and NIST curves."),
    _is("PAMServiceName", remark="PAM is not asked."),
    _is("PasswordAuthentication", remark=_KEYS_ONLY, same="no"),
    _is("PermitEmptyPasswords", remark=_KEYS_ONLY, same="no"),
    _is("PermitListen", "login[].permit_listen", remark="With a list, `login[].forward_sockets` says what becomes of "
        "unix sockets."),
    _is("PermitOpen", "login[].permit_open", remark="As PermitListen."),
    _is("PermitRootLogin", "login[].user", remark="Root may log in if there is a `[[login]]` for root."),
    _is("PermitTTY", remark="Each key's own: write `no-pty` before it.", same="yes"),
    _is("PermitTunnel", remark="No tunnels.", same="no"),
    _is("PermitUserEnvironment", remark="`environment=` in a key file counts; ~/.ssh/environment is not read."),
    _is("PermitUserRC", remark="Each key's own: write `no-user-rc` before it. With `login[].force_command` "
        "none is run.", same="yes"),
    _is("PerSourceMaxStartups", "limits.unauthenticated_per_source"),
    _is("PerSourceNetBlockSize", remark="A source is an IPv4 address or an IPv6 /64.", same="32:64"),
    _is("PerSourcePenalties", "limits.penalties", "limits.penalty_max", "limits.penalty_min",
        remark="The sums for each offence are OpenSSH's defaults."),
    _is("PerSourcePenaltyExemptList", "limits.penalty_exempt", remark="Without it, private networks are exempt here."),
    _is("PidFile", remark="The service manager knows the process.", same="none"),
    _is("Port", "listen.address", "listen.port"),
    _is("PrintLastLog", remark="The last login is not printed; `session.banner` says who woke the machine.", same="no"),
    _is("PrintMotd", remark="Shells show it, as PAM does on Debian, with /etc/update-motd.d; ~/.hushlogin hides it.",
        same="yes|no"),
    _is("PubkeyAcceptedAlgorithms", "login[].key_types", remark="A list of types, without `+`, `-`, `^` and patterns."),
    _is("PubkeyAuthentication", remark=_KEYS_ONLY, same="yes"),
    _is("PubkeyAuthOptions", remark="Security keys have to be touched; `verify-required` before a key asks for a PIN.",
        same="none|touch-required"),
    _is("RDomain", remark="No routing domains.", same="none"),
    _is("RefuseConnection", remark="No `[[login]]`, or a firewall.", same="no"),
    _is("RekeyLimit", "session.rekey_bytes", "session.rekey_time", remark="For everybody."),
    _is("RequiredRSASize", remark="RSA keys have at least 2048 bits.", same="1024|2048"),
    _is("RevokedKeys", "keys.revoked", remark="For everybody."),
    _is("SecurityKeyProvider", remark="No FIDO library is loaded: the client has the token.", same="internal"),
    _is("SetEnv", "login[].set_env"),
    _is("SshdAuthPath", remark=_PATHS),
    _is("SshdSessionPath", remark=_PATHS),
    _is("StreamLocalBindMask", "forwarding.socket_mask", remark="For everybody."),
    _is("StreamLocalBindUnlink", "forwarding.socket_unlink", remark="For everybody."),
    _is("StrictModes", remark="Key files that others could change are refused.", same="yes"),
    _is("Subsystem", remark="`sftp` is built in, and there is no other; its options are those of a forced "
        "`internal-sftp`."),
    _is("SyslogFacility", remark=_LOG, same="auth|authpriv"),
    _is("TCPKeepAlive", remark="Dead clients are found by `session.keepalive`.", same="yes|no"),
    _is("TrustedUserCAKeys", "login[].keys", remark="`ca:` and the path."),
    _is("UnusedConnectionTimeout", remark="`idle.client_idle` has the machine stop; no connection is closed.",
        same="none|0"),
    _is("UseDNS", remark="Names of clients are not looked up.", same="no"),
    _is("UsePAM", remark="PAM is not asked. /etc/nologin, expired accounts, /etc/motd, wtmp and utmp are seen to; "
        "limits.conf, pam_mkhomedir and the like are not.", same="no"),
    _is("VersionAddendum", "listen.identification"),
    _is("X11DisplayOffset", remark="Displays begin at 10.", same="10"),
    _is("X11Forwarding", "login[].forward_x11", "forwarding.x11"),
    _is("X11UseLocalhost", remark="Displays are on loopback.", same="yes"),
    _is("XAuthLocation", remark="`xauth` is looked for in /usr/bin, /usr/local/bin and /usr/X11R6/bin.",
        same="/usr/bin/xauth"),
)  # fmt: skip

DEPRECATED = frozenset(
    {
        *("serverkeybits", "keyregenerationinterval", "rhostsauthentication", "rhostsrsaauthentication"),
        *("rsaauthentication", "checkmail", "uselogin", "verifyreversemapping", "reversemappingcheck"),
        *("authorizedkeysfile2", "useprivilegeseparation", "kerberostgtpassing", "afstokenpassing", "protocol"),
    }
)
"""Keywords that sshd itself ignores (servconf.h, SSHCONF_DEPRECATE)."""

BY_NAME = {keyword.name.lower(): keyword for keyword in KEYWORDS}
"""The table, by the keywords' names in lower case."""
