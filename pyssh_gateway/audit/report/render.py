"""Writes the page as one HTML file, in which nothing from the log can run.

All text passes through Jinja2's escaping, and what does not print is shown as in the log. Data for scripts stands in
blocks of JSON without any `<`. The content security policy names the scripts and styles by their hashes, and allows
nothing else: no network, no inline code. asciinema-player, and with it WebAssembly, is only in a page with recordings.
"""

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pyssh_gateway.audit.report import words
from pyssh_gateway.audit.report.page import Page
from pyssh_gateway.audit.report.recordings import Recording

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent
ASSETS = HERE / "assets"


class NotInstalled(Exception):
    """A package that a report needs is not installed. The message is one line for a person."""


def check_installed() -> None:
    """Raises NotInstalled if a report can't be made here: better before the log is read than after it."""
    for name in ("jinja2", "pyte"):
        if find_spec(name) is None:
            raise NotInstalled(
                f"a report needs {name}, which is not installed here: pip install 'pyssh-gateway[audit]'"
            )


def render(page: Page) -> Iterator[str]:
    """The file, piece by piece."""
    environment = _environment()
    has_player = bool(page.recordings.found)
    styles = [(ASSETS / "report.css").read_text()]
    scripts = [(ASSETS / "report.js").read_text()]
    if has_player:
        styles.insert(0, (ASSETS / "asciinema-player.css").read_text())
        scripts.insert(0, (ASSETS / "asciinema-player.min.js").read_text())
    return environment.get_template("report.html").generate(
        page=page,
        policy=policy(scripts, styles, has_player=has_player),
        scripts=scripts,
        styles=styles,
    )


def policy(scripts: list[str], styles: list[str], *, has_player: bool) -> str:
    """The content security policy of the page."""
    wasm = " 'wasm-unsafe-eval'" if has_player else ""
    parts = [
        "default-src 'none'",
        f"script-src {' '.join(map(_hash, scripts))}{wasm}",
        f"style-src {' '.join(map(_hash, styles))}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    # The player builds its controls from strings of its own; our script does not, and the browser holds it to that.
    parts += [] if has_player else ["require-trusted-types-for 'script'", "trusted-types 'none'"]
    return "; ".join(parts)


def json_block(data: object) -> str:
    """JSON that can stand in a script element: no `<` could end it, or begin a comment in it."""
    text = msgspec.json.encode(data).decode()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def shown(value: object) -> object:
    """What is put into the page. Markup, which is a str of another type, is ours."""
    return words.visible(value) if type(value) is str else value


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # late: it is in an extra
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=shown,
    )
    environment.filters |= {
        "iso": words.iso,
        "day": words.day,
        "date": words.date,
        "clock": words.clock,
        "when": words.when,
        "duration": words.duration,
        "hours": words.hours,
        "size": words.size,
        "money": words.money,
        "number": words.number,
        "percent": words.percent,
        "position": words.position,
        # Ours, from the package's own files.
        "code": Markup,
        "recording": lambda one: Markup(json_block(_packed(one))),  # noqa: S704 - it has no markup
    }
    return environment


def _packed(recording: Recording) -> dict[str, object]:
    return {"cast": recording.cast, "lines": recording.lines, "seconds": recording.seconds}
