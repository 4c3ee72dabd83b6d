"""audit.report.render and its assets: the page's policy, its data, and where the player in it is from."""

import gzip
import html
import json
import re
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from pyssh_gateway.audit.report import render
from pyssh_gateway.audit.report.make import make
from pyssh_gateway.audit.report.page import Asked, Page
from tests.support.example_log import ExampleLog
from tests.support.places import ROOT

NOW = 1_761_933_600.0

VENDORED = {
    "asciinema-player.min.js": "752c9b528b664f5b16f27c68ba22fc7973d1d6063a1c3e4795a4c8015943acf6",
    "asciinema-player.css": "981fe7bc6042048b2a373b6da297f747e324e90a8b6264e833e3a92cec22dfb9",
    "asciinema-player.LICENSE": "63422284ed65be54ab38d8a94e7518d27e222fbb26c9ae4cd984c63926e91c12",
}
"""SHA-256 of the files of npm's asciinema-player 3.18.0 (assets/README.md says which they are)."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page of a believable week."""
    directory = tmp_path_factory.mktemp("log")
    ExampleLog(NOW, days=8).write(directory)
    asked = Asked("my-box", "0.1", NOW - 30 * 86400, NOW, NOW, 0.5, ())
    return make(directory, asked, recordings=1 << 20)


@pytest.fixture(scope="module")
def text(page: Page) -> str:
    """Its HTML."""
    return "".join(render.render(page))


def test_the_policy_names_what_is_in_the_page(text: str) -> None:
    """Each script and style is there with its hash; nothing else is allowed but the player's WebAssembly."""
    policy = html.unescape(re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)[0])
    parts = dict(part.split(" ", 1) for part in policy.split("; "))
    for element, directive in (("script", "script-src"), ("style", "style-src")):
        bodies = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
        assert len(bodies) == 2
        hashes = {f"'sha256-{b64encode(sha256(body.encode()).digest()).decode()}'" for body in bodies}
        assert set(parts[directive].split()) - {"'wasm-unsafe-eval'"} == hashes
    assert {name: parts[name] for name in ("default-src", "base-uri", "form-action")} == dict.fromkeys(
        ("default-src", "base-uri", "form-action"), "'none'"
    )
    assert "unsafe-inline" not in policy


def test_the_page_is_complete_in_itself(text: str) -> None:
    """No address of another file in it, outside of the player's own texts."""
    own = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(
        r"""(?:src|href|action|url)\s*[=(]\s*["']?(?!#)[^"')\s>]*(?:\.|:)""", re.sub(r'href="#[^"]*"', "", own)
    )
    assert len(re.findall(r"<!DOCTYPE html>", text)) == 1


def test_recordings_in_the_page_are_asciicasts_of_version_3(page: Page, text: str) -> None:
    """What is packed can be unpacked: a recording with its header, and the lines that it showed."""
    blocks = re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    assert len(blocks) == len(page.recordings.found) > 0
    for block in blocks:
        data = json.loads(block)
        cast = gzip.decompress(b64decode(data["cast"])).splitlines()
        assert json.loads(cast[0])["version"] == 3
        assert all(isinstance(at, float) and line for at, line in json.loads(gzip.decompress(b64decode(data["lines"]))))


def test_json_can_not_end_its_element() -> None:
    """Neither an end tag nor a comment can be in it, and it means the same."""
    data = {"</script>": "<!--<script>&amp;", "x": "\u2028"}
    block = render.json_block(data)
    assert not set("<>&") & set(block)
    assert json.loads(block) == data


def test_what_does_not_print_is_shown_as_an_escape() -> None:
    """Text only: markup of ours stays, and so do numbers."""
    assert render.shown("a\u202e\x00b") == "a\\u202e\\x00b"
    assert render.shown(7) == 7


def test_without_its_packages_a_report_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy is in the message."""
    monkeypatch.setattr(render, "find_spec", lambda name: None)
    with pytest.raises(render.NotInstalled, match=r"jinja2.*pip install 'pyssh-gateway\[audit\]'"):
        render.check_installed()


@pytest.mark.parametrize("name", VENDORED)
def test_the_player_is_npms(name: str) -> None:
    """Protects the page from a changed player: the files are those of npm's package, whose version is written down."""
    assert sha256((render.ASSETS / name).read_bytes()).hexdigest() == VENDORED[name]
    assert "asciinema-player 3.18.0" in (render.ASSETS / "README.md").read_text()
    installed = ROOT / ".venv" / "node" / "node_modules" / "asciinema-player"
    npms = {"asciinema-player.LICENSE": "LICENSE"}.get(name, f"dist/bundle/{name}")
    if installed.exists():
        assert (installed / npms).read_bytes() == (render.ASSETS / name).read_bytes()


def test_nothing_in_the_scripts_ends_their_element() -> None:
    """Scripts and styles stand in the page as they are."""
    for path in Path(render.ASSETS).glob("*.js"):
        assert not re.search(r"</script|<!--", path.read_text(encoding="utf-8"), re.IGNORECASE)
    for path in Path(render.ASSETS).glob("*.css"):
        assert "</style" not in path.read_text(encoding="utf-8")
