"""The `[[login]]` of one account, from sshd's configuration. Pure.

An account with a restriction that can't be translated gets no login: a login that may do more than with sshd is worse
than a missing one.
"""

from collections.abc import Callable

from pyssh_gateway.config.types import KEY_TYPES
from pyssh_gateway.core.access.source_match import wildcard
from pyssh_gateway.core.sshd_config import arguments
from pyssh_gateway.core.sshd_config.arguments import Untranslatable
from pyssh_gateway.core.sshd_config.effective import Account, Effective
from pyssh_gateway.core.transfers.sftp_options import is_internal_sftp, problem_of

Login = dict[str, object]

KEY_FILES = (".ssh/authorized_keys", ".ssh/authorized_keys2")
"""sshd's default for AuthorizedKeysFile."""

TRANSLATED = frozenset(
    {
        *("allowagentforwarding", "allowstreamlocalforwarding", "allowtcpforwarding", "disableforwarding"),
        *("allowgroups", "allowusers", "denygroups", "denyusers", "permitrootlogin"),
        *("authenticationmethods", "authorizedkeysfile", "trustedusercakeys", "pubkeyauthentication"),
        *("chrootdirectory", "forcecommand", "permitlisten", "permitopen", "pubkeyacceptedalgorithms"),
        *("refuseconnection", "setenv", "x11forwarding"),
    }
)
"""The keywords about accounts that this module handles."""

NARROWING = frozenset(
    {
        *("allowgroups", "allowusers", "denygroups", "denyusers", "permitrootlogin"),
        *("authenticationmethods", "pubkeyauthentication", "refuseconnection", "revokedkeys"),
        *("chrootdirectory", "forcecommand", "disableforwarding", "allowtcpforwarding", "permitopen", "permitlisten"),
    }
)
"""The keywords that restrict an account. If one of them depends on the connection, the account gets no login."""

_SCOPES = {"yes": "all", "all": "all", "no": "none", "local": "local", "remote": "remote"}
_WITHOUT_OPENING = {"all": "remote", "local": "none", "remote": "remote", "none": "none"}
_WITHOUT_LISTENING = {"all": "local", "local": "local", "remote": "none", "none": "none"}


def closed(account: Account, found: Effective) -> bool:
    """Whether sshd lets nobody in to the account (auth.c, allowed_user). `Untranslatable` if the client matters."""
    if any(_user_matches(account, pattern, "DenyUsers") for pattern in found.words("denyusers")):
        return True
    allowed = found.words("allowusers")
    if allowed and not any(_user_matches(account, pattern, "AllowUsers") for pattern in allowed):
        return True
    if any(_in_group(account, pattern) for pattern in found.words("denygroups")):
        return True
    groups = found.words("allowgroups")
    if groups and not any(_in_group(account, pattern) for pattern in groups):
        return True
    if arguments.switch(found.word("refuseconnection", "no")):
        return True
    if not arguments.switch(found.word("pubkeyauthentication", "yes")):
        raise Untranslatable("PubkeyAuthentication no: keys are the only way in here")
    methods = found.words("authenticationmethods")
    if methods and not {"any", "publickey"} & {method.lower() for method in methods}:
        raise Untranslatable(f"AuthenticationMethods {' '.join(methods)}: a key is enough here")
    return _root_is_closed(account, found.word("permitrootlogin", "prohibit-password").lower())


def keys_of(account: Account, found: Effective, is_file: Callable[[str], bool]) -> list[str]:
    """The account's sources of keys: its existing files, and the authorities. Raises `Untranslatable`."""
    patterns = found.words("authorizedkeysfile") or KEY_FILES
    sources = []
    for pattern in patterns if patterns[0].lower() != "none" else ():
        path = arguments.expanded(pattern, name=account.name, uid=account.uid, home=account.home)
        if is_file(path):
            sources.append(f"file:{path}")
    authority = found.word("trustedusercakeys", "none")
    principals = {found.word(f"authorizedprincipals{kind}", "none").lower() for kind in ("file", "command")}
    if authority.lower() != "none" and principals == {"none"}:
        sources.append(f"ca:{authority}")
    return sources


def login_of(account: Account, found: Effective, keys: list[str], everybody: Login) -> Login:
    """The account's `[[login]]`. `everybody` has the values of `[forwarding]`. Raises `Untranslatable`."""
    for line in found.unsure:
        if line.keyword in NARROWING:
            raise Untranslatable(f"{line.file} line {line.line}: {line.text} is for some connections only")
    login: Login = {"user": account.name, "keys": keys}
    forced = _forced(found)
    if forced:
        login["force_command"] = forced
    chroot = found.word("chrootdirectory", "none")
    if chroot.lower() != "none":
        if not is_internal_sftp(forced.encode("utf-8", "surrogateescape")):
            raise Untranslatable(f"ChrootDirectory {chroot}: nothing but a forced internal-sftp is served in one")
        login["chroot"] = chroot
    login |= _forwarding(found, everybody, confined="chroot" in login)
    if settings := found.words("setenv"):
        login["set_env"] = first_of_each(settings)
    if algorithms := found.word("pubkeyacceptedalgorithms", ""):
        login["key_types"] = _key_types(algorithms)
    return login


def first_of_each(settings: tuple[str, ...]) -> list[str]:
    """The settings `NAME=value`, only the first for each name (servconf.c, lookup_setenv_in_list)."""
    found: dict[str, str] = {}
    for setting in settings:
        found.setdefault(setting.partition("=")[0], setting)
    return list(found.values())


def _user_matches(account: Account, pattern: str, keyword: str) -> bool:
    """Whether a word of AllowUsers or DenyUsers means the account (match.c, match_user)."""
    user, at, _host = pattern.rpartition("@")
    if not at:
        return wildcard(pattern, account.name)
    if wildcard(user, account.name):
        raise Untranslatable(f"{keyword} {pattern} depends on the host: write from= before the keys")
    return False


def _in_group(account: Account, pattern: str) -> bool:
    return any(wildcard(pattern, group) for group in account.groups)


def _root_is_closed(account: Account, permit: str) -> bool:
    if account.uid != 0 or permit in {"yes", "prohibit-password", "without-password"}:
        return False
    if permit == "forced-commands-only":
        raise Untranslatable("PermitRootLogin forced-commands-only: keys without command= would let in, too")
    return True


def _forced(found: Effective) -> str:
    """The forced command, which is all that follows the keyword; empty for none."""
    line = found.lines.get("forcecommand")
    command = line[0].rest if line else ""
    if problem := problem_of(command.encode("utf-8", "surrogateescape")):
        raise Untranslatable(f"ForceCommand: {problem}")
    return "" if command.lower() == "none" else command


def _forwarding(found: Effective, everybody: Login, *, confined: bool) -> Login:
    """The settings for ports, sockets, agent and X11 that differ from the defaults."""
    scope = _scope(found, "allowtcpforwarding")
    sockets = _scope(found, "allowstreamlocalforwarding")
    agent = arguments.switch(found.word("allowagentforwarding", "yes"))
    x11 = arguments.switch(found.word("x11forwarding", "no"))
    opens, listens = found.words("permitopen"), found.words("permitlisten")
    if opens[:1] == ("none",):
        scope = _WITHOUT_OPENING[scope]
    if listens[:1] == ("none",):
        scope = _WITHOUT_LISTENING[scope]
    if arguments.switch(found.word("disableforwarding", "no")):
        scope, sockets, agent, x11 = "none", "none", False, False
    login: Login = {} if scope == "all" else {"forwarding": scope}
    if opens[:1] not in {(), ("any",), ("none",)}:
        login["permit_open"] = arguments.permits(opens, any_host=False)
    if listens[:1] not in {(), ("any",), ("none",)}:
        login["permit_listen"] = arguments.permits(listens, any_host=True)
    if confined:
        return login
    if sockets != scope or login.keys() & {"permit_open", "permit_listen"}:
        login["forward_sockets"] = sockets
    if agent != (scope != "none" and everybody.get("agent", True)):
        login["forward_agent"] = agent
    if x11 != (scope != "none" and everybody.get("x11", False)):
        login["forward_x11"] = x11
    return login


def _scope(found: Effective, keyword: str) -> str:
    word = found.word(keyword, "yes").lower()
    if word not in _SCOPES:
        raise Untranslatable(f"{keyword} {word} is none of yes, no, local and remote")
    return _SCOPES[word]


def _key_types(algorithms: str) -> list[str]:
    """The key types in a list of algorithms. The algorithms of certificates are left out."""
    if algorithms[0] in "+-^" or set(algorithms) & set("*?!"):
        raise Untranslatable(f"PubkeyAcceptedAlgorithms {algorithms}: only a list of types can be had")
    names = set(algorithms.split(","))
    names |= {"ssh-rsa"} if names & {"rsa-sha2-256", "rsa-sha2-512"} else set()
    types = [kind for kind in KEY_TYPES if kind in names]
    if not types:
        raise Untranslatable(f"PubkeyAcceptedAlgorithms {algorithms}: none of these is served")
    return types
