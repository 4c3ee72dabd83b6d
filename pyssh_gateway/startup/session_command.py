"""Puts `pyssh-gateway` on sessions' PATH, wherever the server was started: a virtual environment, an image, ~/.local.

If a directory of the default PATH has the command already, as after an installation, nothing is done. Otherwise a
directory that contains only the command is added to the end of sessions' PATH: the directory of our own script may be a
virtual environment's, whose python and pip sessions must not get. Login shells on Debian replace PATH (/etc/profile),
so a trial makes a link where those look, until it ends: in /usr/local/bin for root, in ~/.local/bin for others. If the
command is in root's home, a trial copies it, because the account that logs in can't read it there.
"""

import os
import stat
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from pwd import getpwuid

from pyssh_gateway.core.launch import USER_PATH
from pyssh_gateway.spawner.key_files import others_may_write

NAME = "pyssh-gateway"

NOTE = "trial-link"
"""Beside the control socket: a link to the link that a trial has made."""

_EVERYBODYS_PLACE = Path("/usr/local/bin")
_ONES_OWN_PLACE = Path(".local/bin")
"""In a home directory; the ~/.profile of Debian and Ubuntu adds it to PATH if it exists."""

_DIRECTORY_MODE = 0o755

_PACKAGES = ("pyssh_gateway", "msgspec", "backports.zstd")
"""What the command imports. Python has a module of its own in place of the last one from 3.14 on."""

_LAUNCHER = """\
#!{python} -I
import sys

sys.path.insert(0, {library!r})
from pyssh_gateway.__main__ import main

sys.exit(main())
"""
"""`-I`: Python ignores the account's environment and working directory when it imports."""


class SessionCommand:
    """How sessions find the command: by a `directory` at the end of their PATH (or b""), or by the link `linked`."""

    def __init__(self, directory: bytes = b"", remark: str = "") -> None:
        self.directory = directory
        self.remark = remark
        self._note: Path | None = None
        self._made: list[Path] = []

    def link(self, link: Path, script: Path, note: Path) -> None:
        """Make `link` a link to `script` until `take_away`. Raises OSError.

        `note` is a link that remembers it: if the server is killed, the next one removes what it has left.
        """
        _point(note, link)
        self._note = note
        for directory in reversed(link.parents):
            if not directory.exists():
                directory.mkdir()
                self._made.append(directory)
        _point(link, script)
        self._made.append(link)
        self.remark = f"linked {link} for sessions, until the server ends"

    def take_away(self) -> None:
        """Remove the link of a trial that has ended, and the directories that were made for it and are empty."""
        for path in reversed(self._made):
            with suppress(OSError):
                path.unlink() if path.is_symlink() else path.rmdir()
        if self._note is not None:
            self._note.unlink(missing_ok=True)


def provide(place: str | None, *, trial: bool, link_in: Path | None = None, path: bytes = USER_PATH) -> SessionCommand:
    """Make sessions find the command. `place` is the server's control socket; None: the command would be useless.

    A failure does not prevent the start. `link_in` is the directory of a trial's link, if it differs from the default
    for the account that started the trial.
    """
    if place is None:
        return SessionCommand()
    beside = Path(place).parent
    note = beside / NOTE
    _remove_left(note)
    if _is_found(path):
        return SessionCommand()
    try:
        script = _script()
        root = os.geteuid() == 0
        if script is not None and root and not _everybody_can_run(script):
            script = _copied(beside / "command") if trial else None
        if script is None:
            return SessionCommand(remark=_remark(f"{sys.executable} is out of their accounts' reach") if trial else "")
        directory = _private_directory(beside / "bin")
        _point(directory / NAME, script)
        command = SessionCommand(os.fsencode(directory))
        link = (link_in or _link_place()) / NAME
        if trial and (not os.path.lexists(link) or (link.is_symlink() and not link.exists())):
            command.link(link, script, note)
    except OSError as error:
        return SessionCommand(remark=_remark(str(error)) if trial else "")
    return command


def _remove_left(note: Path) -> None:
    """Remove the link of a trial that was killed, if nobody has made it lead elsewhere."""
    with suppress(OSError):
        link = note.readlink()
        if link.is_symlink() and link.readlink() in {_script(), note.with_name("command") / NAME}:
            link.unlink()
        note.unlink()


def _link_place() -> Path:
    return _EVERYBODYS_PLACE if os.geteuid() == 0 else Path(getpwuid(os.geteuid()).pw_dir) / _ONES_OWN_PLACE


def _remark(why: str) -> str:
    return f"sessions will not find the command {NAME}: {why}"


def _is_found(path: bytes) -> bool:
    """Whether sessions find the command already, in one of the directories of `path`."""
    return any(os.access(os.path.join(place, NAME.encode()), os.X_OK) for place in path.split(b":"))  # noqa: PTH118 - pathlib has no bytes


def _script() -> Path | None:
    """Our own console script: the one that started the server, or the one beside our interpreter."""
    for path in (Path(sys.argv[0]), Path(sys.executable).with_name(NAME)):
        if path.name == NAME and path.exists():
            return path.absolute()
    return None


def _everybody_can_run(script: Path) -> bool:
    """Whether every account can read the script, its interpreter and the code that it runs."""
    needed = (script, Path(sys.executable), *(package / "__init__.py" for package in _packages().values()))
    return all(_everybody_can_read(path) for each in needed for path in (each, each.resolve()))


def _packages() -> dict[str, Path]:
    """Where the packages of `_PACKAGES` are that this Python has."""
    found = {}
    for name in _PACKAGES:
        with suppress(ModuleNotFoundError):  # of `backports` itself
            if (spec := find_spec(name)) is not None and spec.origin is not None:
                found[name] = Path(spec.origin).parent
    return found


def _everybody_can_read(path: Path) -> bool:
    if not path.stat().st_mode & stat.S_IROTH:
        return False
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)


def _copied(directory: Path) -> Path | None:
    """A copy of the command and its imports in `directory`; None if accounts can't run an interpreter either."""
    python = _python()
    if python is None:
        return None
    import shutil  # late: trials only

    new = directory.with_name(f"{directory.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    _private_directory(new)
    for name, source in _packages().items():
        shutil.copytree(source, new / "library" / Path(*name.split(".")))
    _open_to_all(new / "library")
    script = new / NAME
    script.write_text(_LAUNCHER.format(python=python, library=str(directory / "library")))
    script.chmod(_DIRECTORY_MODE)
    shutil.rmtree(directory, ignore_errors=True)
    new.rename(directory)
    return directory / NAME


def _python() -> Path | None:
    """An interpreter of our version that everybody can run: the copy has parts that are compiled for this version."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    ours = Path(sys.executable).resolve()
    for path in (ours, Path("/usr/bin") / name, Path("/usr/local/bin") / name):
        if path.exists() and _everybody_can_read(path):
            return path
    return None


def _open_to_all(tree: Path) -> None:
    """Let everybody read the tree, whatever root's umask is."""
    for directory, _, files in os.walk(tree):
        Path(directory).chmod(_DIRECTORY_MODE)
        for name in files:
            (Path(directory) / name).chmod(0o644)


def _private_directory(path: Path) -> Path:
    """A directory at `path` that nobody else can write to. Raises OSError."""
    parent = path.parent
    if not parent.exists():
        parent.mkdir(parents=True)
        parent.chmod(_DIRECTORY_MODE if os.geteuid() == 0 else 0o700)
    for each in (parent, path):
        if each == path:
            with suppress(FileExistsError):
                path.mkdir()
                path.chmod(_DIRECTORY_MODE)
        found = each.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {0, os.geteuid()} or others_may_write(found):
            raise PermissionError(f"others may write to {each}, or it belongs to somebody else")
    return path


def _point(link: Path, script: Path) -> None:
    """Make `link` a link to `script`, whatever was there before."""
    if os.path.lexists(link) and link.is_symlink() and link.readlink() == script:
        return
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(script)
    new.rename(link)
