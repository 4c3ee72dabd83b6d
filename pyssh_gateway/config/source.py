"""Raw configuration: the file, the environment and the command line, merged but not yet judged.

`serve` binds its listening socket with what this module finds, before anything heavy is imported. So nothing here may
import msgspec, typing or tomllib at the top (typing alone takes as long as the whole rest), and no value is checked
beyond what the merge needs: `config.parse` says what is wrong with a value.
"""

import os
from collections.abc import Iterable, Mapping

DEFAULT_PATH = "/etc/pyssh-gateway/config.toml"
PREFIX = "PYSSH_GATEWAY_"
PATH_VARIABLE = "PYSSH_GATEWAY_CONFIG"
# Variables of all programs that are the default of a key here. The first one that is set counts, in curl's order.
PROXY_VARIABLES = {"https_proxy": ("https_proxy", "HTTPS_PROXY"), "no_proxy": ("no_proxy", "NO_PROXY")}

# Fly's own service holds port 22 on the machine's private address, so 22 is mapped to this one at the edge. IPv4 only:
# there, neighbours on the private IPv6 network cannot reach the port.
DEFAULT_ADDRESS = "0.0.0.0"
DEFAULT_PORT = 2222

# A file with a thousand logins is a tenth of this.
MAX_FILE_BYTES = 1024 * 1024
# No key is deeper than login[0].keys. Without a bound, a header of a million dots would cost its square in paths.
MAX_DEPTH = 4
MAX_PORT = 65535
# More than anybody needs; each is a descriptor.
MAX_ENDPOINTS = 64
# Enough of a value or name to recognise it in an error.
MAX_SHOWN = 60
# More digits than any number here may have, and few enough for int() to take at once.
MAX_DIGITS = 18

Endpoint = tuple[str, int]
"""An address and a port."""

LISTS_AS_TEXT = frozenset(
    {
        "host_keys.types",
        "idle.schedule",
        "limits.penalty_exempt",
        "listen.address",
        "listen.trusted_proxies",
        "session.accept_env",
    }
)
"""Lists that the environment can set, too, as text with commas: no entry of these lists contains a comma."""

_ENVIRONMENT = "environment "
_COMMAND_LINE = "command line"


class ConfigError(Exception):
    """The configuration cannot be used. `problems` has one line for a person per mistake."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class RawConfig:
    """The configuration as it was written. Frozen.

    `values` are nested tables; `origins` maps the dotted path of a value or table to where it was set (a value that
    is not listed came from where its table did); `path` is the file that was read, if any.
    """

    __slots__ = ("origins", "path", "values")
    values: dict[str, object]
    origins: dict[str, str]
    path: str | None

    def __init__(self, values: dict[str, object], origins: dict[str, str], path: str | None) -> None:
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "origins", origins)
        object.__setattr__(self, "path", path)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse every assignment: the object is frozen."""
        raise AttributeError(f"RawConfig is frozen, {name} cannot be set to {value!r}")


def read(
    path: str | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
    default_path: str = DEFAULT_PATH,
) -> RawConfig:
    """Merge `HTTPS_PROXY` and `NO_PROXY` from `environ`, then the file, then `PYSSH_GATEWAY_*`, then `overrides`.

    The later one wins.

    The file is `path` (--config), else what PYSSH_GATEWAY_CONFIG names, else `default_path` if it exists. `overrides`
    maps dotted paths to scalars or lists; None means that the option was not given. Raises ConfigError with every
    problem: a file that cannot be read, or a name that contradicts the shape of what is already there.
    """
    problems: list[str] = []
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    chosen = None
    try:
        chosen, values = _find_file(path, environ, default_path)
    except ConfigError as error:
        problems.extend(error.problems)
    if chosen is not None:
        _note_origins(values, "", printable(chosen), origins)

    _put_proxies(values, origins, environ)
    for name in sorted(environ):
        if name.startswith(PREFIX) and name != PATH_VARIABLE:
            keys = name.removeprefix(PREFIX).lower().split("__")
            origin = _ENVIRONMENT + printable(name)
            problem = _put(values, origins, keys, environ[name], origin)
            if problem:
                problems.append(f"{problem} (from {origin})")
    for dotted, value in overrides.items():
        if value is not None:
            problem = _put(values, origins, dotted.split("."), value, _COMMAND_LINE)
            if problem:
                problems.append(f"{problem} (from {_COMMAND_LINE})")

    if problems:
        raise ConfigError(problems)
    return RawConfig(values, origins, chosen)


def listen_endpoints(raw: RawConfig) -> tuple[Endpoint, ...] | None:
    """The addresses and ports to bind, or None if `config.parse` will refuse them."""
    listen = raw.values.get("listen", {})
    if not isinstance(listen, dict):
        return None
    port = listen.get("port", DEFAULT_PORT)
    if isinstance(port, str) and is_text(raw.origins.get("listen.port", "")):
        port = whole_number(port)
    if type(port) is not int or not 0 <= port <= MAX_PORT:
        return None
    return endpoints_of(listen.get("address", DEFAULT_ADDRESS), port)


def endpoints_of(value: object, port: int) -> tuple[Endpoint, ...] | None:
    """The endpoints that a `listen.address` names, None if it can't be used; `port` is for addresses without a port.

    `value` is an address, or a list of addresses such as `0.0.0.0:2222` and `[::]:2222`, also as one text with commas.
    """
    texts = value.split(",") if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not 0 < len(texts) <= MAX_ENDPOINTS:
        return None
    found = [endpoint for text in texts if (endpoint := _endpoint(text)) is not None]
    fixed = [endpoint for endpoint in found if endpoint[1] != 0]  # port 0 gives another free port each time
    if len(found) < len(texts) or len(set(fixed)) < len(fixed):
        return None
    return tuple((address, port if own is None else own) for address, own in found)


def _endpoint(text: object) -> tuple[str, int | None] | None:
    """`address`, `address:port`, `[IPv6]` or `[IPv6]:port`; an IPv6 address without brackets has no port."""
    if not isinstance(text, str):
        return None
    text = text.strip(" ")
    if is_ip_address(text):
        return text, None
    port = None
    address, colon, digits = text.rpartition(":")
    if text.endswith("]"):
        address, colon, digits = text, "", ""
    if colon:
        port = whole_number(digits)
        if port is None or port > MAX_PORT:
            return None
    if address.startswith("[") and address.endswith("]") and ":" in address:
        address = address[1:-1]
    elif ":" in address:
        return None
    return (address, port) if is_ip_address(address) else None


def shown_endpoint(address: str, port: int) -> str:
    """An address and a port, as people write them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def is_ip_address(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 literal without a zone. The bind and the check both use this."""
    import socket  # late: only commands that bind need it

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
        except (OSError, ValueError):  # ValueError: a NUL or something that is not text
            continue
        return True
    return False


def relevant(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that the configuration depends on."""
    others = {name for names in PROXY_VARIABLES.values() for name in names}
    return {name: value for name, value in environ.items() if name.startswith(PREFIX) or name in others}


def variable(path: str) -> str:
    """The environment variable that sets the value at `path`."""
    return PREFIX + path.replace(".", "__").upper()


def is_text(origin: str) -> bool:
    """Whether a value from `origin` has no type of its own, so that `"2222"` may stand for a number."""
    return origin.startswith((_ENVIRONMENT, _COMMAND_LINE))


def kind_of_origin(origin: str) -> tuple[str, str]:
    """The kind of `origin` (default, file, environment or command-line), and the name of the file or variable."""
    if origin == _COMMAND_LINE:
        return "command-line", ""
    if origin.startswith(_ENVIRONMENT):
        return "environment", origin.removeprefix(_ENVIRONMENT)
    return ("file", origin) if origin else ("default", "")


def whole_number(text: str) -> int | None:
    """The number that `text` spells in ASCII digits, or None."""
    if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS:
        return int(text)
    return None


def join(path: str, key: str) -> str:
    """The dotted path of `key` below `path`, with quotes where TOML would need them, safe to print."""
    bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum() and len(key) <= MAX_SHOWN
    name = key if bare else quoted(key)
    return f"{path}.{name}" if path else name


def quoted(text: str) -> str:
    """The beginning of `text` in double quotes, safe to print on a terminal."""
    shown = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
    return '"' + repr(shown)[1:-1] + '"'


def printable(text: str) -> str:
    """`text`, or its escaped form if a terminal would act on it."""
    return text if text.isprintable() else repr(text)


def _find_file(path: str | None, environ: Mapping[str, str], default_path: str) -> tuple[str | None, dict[str, object]]:
    """Choose the file and load it. An empty PYSSH_GATEWAY_CONFIG is an unset one."""
    if path is not None:
        return path, _load(path, "named by --config")
    named = environ.get(PATH_VARIABLE)
    if named:
        return named, _load(named, f"named by {PATH_VARIABLE}")
    if os.path.lexists(default_path):
        return default_path, _load(default_path, "the default")
    return None, {}


def _load(path: str, why: str) -> dict[str, object]:
    """The tables of the TOML file `path`; `why` it is this file goes into the error."""
    import tomllib  # late: with typing and re it costs 10 ms, and a machine set by environment has no file

    name = printable(path)
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib is another import before the socket is bound
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError([f"{name}: cannot be read: {reason} (this file is {why})"]) from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError([f"{name}: is longer than {MAX_FILE_BYTES // 1024} KiB, so it is hardly a configuration"])
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{name}: not UTF-8 text (at line {line})"]) from None
    except ValueError as error:  # TOMLDecodeError, or int() refusing thousands of digits
        raise ConfigError([f"{name}: not valid TOML: {printable(str(error))}"]) from None
    except RecursionError:
        raise ConfigError([f"{name}: not usable: lists or tables are nested too deeply"]) from None


def _note_origins(table: dict[str, object], path: str, origin: str, origins: dict[str, str], depth: int = 1) -> None:
    """Note `origin` for everything in `table` that is not deeper than a key can be."""
    for key, value in table.items():
        below = join(path, key)
        origins[below] = origin
        if isinstance(value, dict) and depth < MAX_DEPTH:
            _note_origins(value, below, origin, origins, depth + 1)


def _put_proxies(values: dict[str, object], origins: dict[str, str], environ: Mapping[str, str]) -> None:
    """Take the proxies that the file does not set from the environment's variables for all programs."""
    keys = values.get("keys", {})
    for key, names in PROXY_VARIABLES.items():
        name = next((name for name in names if environ.get(name)), None)
        if name is not None and isinstance(keys, dict) and key not in keys:
            _put(values, origins, ["keys", key], environ[name], _ENVIRONMENT + name)


def _put(values: dict[str, object], origins: dict[str, str], keys: list[str], value: object, origin: str) -> str | None:
    """Set the value at `keys`, making tables on the way. Returns the problem, if there is one."""
    if "" in keys or len(keys) > MAX_DEPTH:
        return "names no key; two underscores separate a table from its key, as in PYSSH_GATEWAY_IDLE__TIMEOUT"
    table, path = values, ""
    for key in keys[:-1]:
        path = join(path, key)
        origins.setdefault(path, origin)
        below = table.setdefault(key, {})
        if not isinstance(below, dict):
            return f"{path}: is not a table, nothing can be set in it"
        table = below
    key = keys[-1]
    path = join(path, key)
    if isinstance(table.get(key), dict):
        return f"{path}: is a table, only the keys in it can be set"
    if isinstance(table.get(key), list) and origin != _COMMAND_LINE and path not in LISTS_AS_TEXT:
        return f"{path}: is a list, which only the configuration file can set"
    table[key] = value
    origins[path] = origin
    return None
