"""The report in a real browser: it shows what it should, runs nothing from the log, and everybody can use it."""

import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from pyssh_gateway.cli.main import run
from pyssh_gateway.core.recordings.asciicast import Encoder, Header
from pyssh_gateway.core.timestamps import timestamp
from tests.conftest import KeyPair, MakeServer
from tests.support.browser import Seen, chromium, needs_chromium
from tests.support.client import Client
from tests.support.example_log import ExampleLog, build_recording, write_recording

pytestmark = [pytest.mark.soak, needs_chromium]

NOW = 1_761_933_600.0
"""Fri 31 Oct 2025 18:00 UTC."""

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}

Look = Callable[..., Seen]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests."""
    with chromium() as running:
        yield running


@pytest.fixture
def look(browser: Browser) -> Iterator[Look]:
    """Opens a page in a window of its own; afterwards nothing may have gone wrong in it."""
    opened: list[Seen] = []

    def open_page(path: Path, fragment: str = "", **settings: Any) -> Seen:  # noqa: ANN401 - playwright's
        context = browser.new_context(**{"viewport": DESKTOP, **settings})
        opened.append(Seen(context, path, fragment))
        return opened[-1]

    yield open_page
    for seen in opened:
        seen.page.context.close()


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a believable week."""
    directory = tmp_path_factory.mktemp("example")
    ExampleLog(NOW, days=8).write(directory / "audit")
    return report(directory)


def report(directory: Path, *words: str) -> Path:
    """The report of the log in `audit` in this directory."""
    path = directory / "report.html"
    command = ["audit", "report", "--dir", str(directory / "audit"), "-o", str(path), "--since", "2025-10-01"]
    assert run([*command, "--until", "2025-11-01", *words], {}) == 0
    return path


def one_session(directory: Path, *, cast: bytes | None = None, **fields: object) -> Path:
    """The report of a log with one session, whose event has these fields, and its recording."""
    identity = {"person": "github:example", "id": 1, "fingerprint": "SHA256:x"}
    conn = {"conn": "c1", "user": "dev", "identity": identity}
    peer = {"conn": "c1", "peer": "203.0.113.9", "peer_port": 1, "proxy": "", "proxy_id": ""}
    opened = conn | {"session": "c1.1", "kind": "shell", "command": "", "tty": "/dev/pts/0", "term": "xterm"} | fields
    events: list[tuple[str, dict[str, object]]] = [
        ("connection.opened", peer),
        ("connection.authenticated", conn | {"peer": "203.0.113.9", "fingerprint": "SHA256:x", "seconds": 0.1}),
        ("session.opened", opened),
        ("idle.tick", {"idle": 0, "remaining": 0, "message": ""}),
    ]
    lines = [
        json.dumps({"ts": timestamp(NOW + at), "seq": at + 1, "event": event} | rest)
        for at, (event, rest) in enumerate(events)
    ]
    (directory / "audit").mkdir()
    (directory / "audit" / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))
    if cast is not None:
        write_recording(directory / "audit", "dev", "c1.1", cast)
    return report(directory)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_keeps_quiet(look: Look, example: Path, size: dict[str, int], scheme: str) -> None:
    """No error, no request, nothing that the policy stops, and nothing to scroll sideways, with all sessions open."""
    seen = look(example, viewport=size, color_scheme=scheme)
    expect(seen.page.get_by_role("heading", level=1)).to_be_visible()
    assert not seen.is_scrolled_sideways()
    seen.page.get_by_role("button", name="Expand all").click()
    assert seen.page.locator(".session[open]").count() > 50
    assert not seen.is_scrolled_sideways()
    seen.page.locator(".play:visible").first.click()
    expect(seen.page.locator(".ap-player").first).to_be_visible()
    assert not seen.is_scrolled_sideways()
    seen.check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(look: Look, example: Path, scheme: str) -> None:
    """Every text has a contrast of 4.5 or more to what is behind it (WCAG 2.2, 1.4.3)."""
    seen = look(example, color_scheme=scheme)
    seen.page.get_by_role("button", name="Expand all").click()
    faint = seen.page.evaluate("""() => {
        const parse = (text) => text.match(/[\\d.]+/g).map(Number);
        const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
            .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const behind = (element) => {
            for (let at = element; at; at = at.parentElement) {
                const colour = parse(getComputedStyle(at).backgroundColor);
                if (colour.length < 4 || colour[3] > 0) return colour;
            }
            return [255, 255, 255];
        };
        const found = new Set();
        for (const element of document.querySelectorAll("body *")) {
            const texts = Array.from(element.childNodes).filter((node) => node.nodeType === 3 && node.data.trim());
            if (!texts.length || element.closest("script, style, svg, .skip") || !element.checkVisibility()) continue;
            const [one, other] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
            const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
            if (contrast < 4.5) found.add(`${element.tagName} ${element.className} ${contrast.toFixed(2)}`);
        }
        return Array.from(found);
    }""")
    assert faint == []


def test_everything_works_from_the_keyboard(look: Look, example: Path) -> None:
    """Past the navigation, to the search, into a session, and its recording: without a mouse."""
    seen = look(example)
    page = seen.page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the report")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.keyboard.press("/")
    box = page.get_by_role("searchbox")
    expect(box).to_be_focused()
    page.keyboard.type("rm -rf build")
    expect(page.get_by_role("status")).to_contain_text("by what the recording showed")
    for _ in range(4):  # two lists of choices, a button, the first session
        page.keyboard.press("Tab")
    session = page.locator(".session:visible").first
    expect(session.locator("summary")).to_be_focused()
    page.keyboard.press("Enter")
    expect(session).to_have_attribute("open", "")
    page.keyboard.press("Tab")
    expect(session.get_by_role("button", name="Play the recording")).to_be_focused()
    page.keyboard.press("Enter")
    expect(session.locator(".ap-wrapper")).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.press("Shift+Tab")  # out of the player again
    expect(session.locator(".ap-wrapper")).not_to_be_focused()
    box.focus()
    page.keyboard.press("Escape")
    expect(box).to_have_value("")
    expect(page.get_by_role("status")).to_be_empty()
    seen.check()


def test_everything_has_a_name_for_a_screen_reader(look: Look, example: Path) -> None:
    """Controls, pictures and regions have names, tables have headings, and headings leave no level out."""
    page = look(example).page
    tree = page.locator("body").aria_snapshot()
    roles = "button|link|searchbox|combobox|img|region|navigation|search|table|group"
    found = re.findall(rf"^ *- ({roles})( \".+?\")?(?: \[.*\])?:?.*$", tree, re.MULTILINE)
    assert {role for role, _ in found} >= {"button", "link", "searchbox", "combobox", "img", "region", "navigation"}
    named = [role for role, name in found if not name and role not in {"search", "group"}]
    assert [role for role in named if role != "table"] == []
    levels = [
        int(tag[1]) for tag in page.evaluate("Array.from(document.querySelectorAll('h1,h2,h3,h4'), h => h.tagName)")
    ]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.locator("table:not(:has(th[scope]))").count() == 0
    assert page.locator("html").get_attribute("lang") == "en"


def test_the_theme_can_be_chosen(look: Look, example: Path) -> None:
    """The system's, light, dark, and again the system's."""
    page = look(example, color_scheme="dark").page

    def background() -> object:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    dark = background()
    button = page.locator("#theme")
    button.click()
    expect(button).to_have_text("Theme: light")
    light = background()
    button.click()
    assert (button.text_content(), background()) == ("Theme: dark", dark)
    assert light != dark
    page.reload()
    expect(button).to_have_text("Theme: dark")
    button.click()
    expect(button).to_have_text("Theme: auto")


def test_the_search_finds_commands_files_people_and_recorded_text(look: Look, example: Path) -> None:
    """Each kind of text is found, and nothing else is shown; a hit in a recording leads to its place."""
    seen = look(example)
    page = seen.page
    shown = page.locator(".session:visible")
    everything, recorded = shown.count(), page.locator(".badge.rec").count()
    box, status = page.get_by_role("searchbox"), page.get_by_role("status")
    for wanted in ("docker compose", "train.csv", "2001:db8:12::5", "NOT OK 5 - UNICODE: NAÏVE, ΩΜΈΓΑ"):
        box.fill("")
        expect(status).to_be_empty()
        box.fill(wanted)
        expect(status).to_contain_text("sessions match")
        expect(page.locator(".session:visible", has_text=wanted)).to_have_count(shown.count())
        assert 0 < shown.count() < everything
    first = shown.first
    first.locator("summary").click()
    first.locator(".hits button").first.click()
    expect(first.locator(".ap-term-text")).to_contain_text("not ok 5")
    box.fill("no such text")
    expect(page.get_by_text("No session matches.")).to_be_visible()
    box.fill("")
    page.get_by_label("Kind", exact=True).select_option("recorded")
    expect(status).to_have_text(f"{recorded} of {everything} sessions match.")
    page.get_by_label("Person", exact=True).select_option("github:amos")
    expect(page.locator(".session:visible .who", has_text="github:example")).to_have_count(0)
    seen.check()


def test_a_recording_plays_to_its_last_screen(look: Look, tmp_path: Path) -> None:
    """Resizes, wide characters, colours and the alternate screen: at its end the player shows what the terminal did."""
    encoder = Encoder()
    cast = [encoder.header(Header(cols=40, rows=6, term="xterm", timestamp=int(NOW)))]
    cast += [encoder.output(0.1 * at, f"\x1b[3{at % 8}mline {at}\x1b[0m\r\n".encode()) for at in range(20)]
    cast += [
        encoder.output(2.1, "你好".encode()[:4]),
        encoder.output(2.2, "你好".encode()[4:] + b", \xf0\x9f\x98\x80\r\n"),
    ]
    cast += [encoder.output(2.3, b"\x1b[?1049hanother screen"), encoder.resize(2.4, 50, 8)]
    cast += [encoder.output(40.0, b"\x1b[?1049l$ exit"), encoder.exit(40.1, 0)]
    seen = look(one_session(tmp_path, cast=b"".join(cast)), "#s-c1.1")
    session = seen.page.locator(".session")
    expect(session).to_have_attribute("open", "")
    session.get_by_role("button", name="Play the recording").click()
    text = session.locator(".ap-term-text")
    expect(text).to_contain_text("another screen")
    expect(text).to_contain_text("$ exit")
    last = [line.rstrip() for line in (text.text_content() or "").split("\n") if line.strip()]
    rows = seen.page.evaluate("Array.from(document.querySelectorAll('.ap-line'), line => line.textContent.trimEnd())")
    shown = [row for row in rows or last if row]
    assert "line 19" in "\n".join(shown)
    assert [row.replace(" ", "") for row in shown[-2:]] == ["你好,😀", "$exit"]
    seen.check()


HOSTILE = (
    "</script><script>window.ran=1</script>",
    "--><img src=x onerror=window.ran=1><!--",
    "\"'><svg/onload=window.ran=1>",
    "' autofocus onfocus='window.ran=1",
    "javascript:window.ran=1",
    "{{ 7 * 7 }}{% raw %}",
    "\x1b]52;c;cndu\x07\x1b[31m\x00",
    "txt.\u202egpj.exe\u2066",
    "\\u003cscript\\u003e",
    "A" * 150_000,
)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_from_the_log_runs(look: Look, tmp_path: Path, text: str) -> None:
    """Markup, handlers, sequences, invisible and endless text in every field and in the recording is only shown."""
    encoder = Encoder()
    shown = text if len(text) < 100 else text[:100]
    cast = encoder.header(Header(cols=80, rows=24, term=shown, title=shown)) + encoder.output(
        0.1, f"{shown}\r\n\x1b]133;A\x07$ \x1b]133;B\x07{shown}\r\n\x1b]133;C\x07".encode("utf-8", "replace")
    )
    identity = {"person": text, "id": None, "fingerprint": text}
    fields = {"command": text, "kind": text[:300], "tty": text, "term": text, "requested": text, "identity": identity}
    path = one_session(tmp_path, cast=cast, **fields)
    assert path.stat().st_size < 1_500_000
    seen = look(path)
    page = seen.page
    page.get_by_role("button", name="Expand all").click()
    page.get_by_role("searchbox").fill(shown)
    expect(page.get_by_role("status")).to_contain_text("match")
    page.get_by_role("searchbox").fill("")
    expect(page.get_by_role("status")).to_be_empty()
    page.get_by_role("button", name="Play the recording").click()
    expect(page.locator(".ap-player")).to_be_visible()
    assert page.evaluate("window.ran") is None
    assert (
        page.locator("img, iframe, object, embed, link, base, body script[src], [onload], [onerror], [onfocus]").count()
        == 0
    )
    assert page.evaluate("Array.from(document.scripts, one => one.type)").count("") == 2
    assert page.evaluate("Array.from(document.links, one => one.protocol)").count("javascript:") == 0
    page.evaluate("document.querySelectorAll('.screen').forEach((one) => one.remove())")  # a terminal's own text
    body = page.locator("main").inner_text()
    assert not {"\u202e", "\u2066", "\x1b", "\x07"} & set(body)
    assert "49" not in page.locator(".session .what").inner_text()
    seen.check()


def test_the_policy_is_in_force(look: Look, example: Path, tmp_path: Path) -> None:
    """Even code that got into the page could not run, style or load anything."""
    quiet = one_session(tmp_path)  # without recordings, so without the player
    for path, expected in ((example, {"script-src-elem", "style-src-elem", "connect-src"}), (quiet, None)):
        page = look(path).page
        page.evaluate("""async () => {
            try {
                const script = document.createElement("script");
                script.text = "window.ran = 1";
                document.body.append(script);
            } catch {}
            const style = document.createElement("style");
            style.textContent = "body { color: red }";
            document.body.append(style);
            try { await fetch("https://example.com/"); } catch {}
        }""")
        assert page.evaluate("window.ran") is None
        found = set(page.evaluate("window.violations"))
        assert found >= (expected or {"style-src-elem", "connect-src"})
    policy = page.locator("meta[http-equiv]").get_attribute("content") or ""
    assert policy.endswith("; require-trusted-types-for 'script'; trusted-types 'none'")
    assert "wasm" not in policy
    assert "unsafe-inline" not in example.read_text()


def test_it_prints(look: Look, example: Path) -> None:
    """On paper there are no controls, dark is light, and every session has its line."""
    seen = look(example, color_scheme="dark")
    page = seen.page
    sessions = page.locator(".session").count()
    page.emulate_media(media="print")
    for selector in (".top", ".search", ".skip"):
        expect(page.locator(selector)).to_be_hidden()
    expect(page.locator(".session summary:visible")).to_have_count(sessions)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(format="A4", print_background=True).startswith(b"%PDF-")
    assert not seen.is_scrolled_sideways()
    seen.check()


def test_it_can_be_read_without_scripts(look: Look, example: Path) -> None:
    """Without JavaScript everything but the search and the player is there."""
    page = look(example, java_script_enabled=False).page
    expect(page.get_by_role("searchbox")).to_be_hidden()
    expect(page.get_by_role("button")).to_have_count(0)
    session = page.locator(".session").first
    session.locator("summary").click()
    expect(session.locator(".facts")).to_be_visible()


def test_what_real_clients_did_on_a_real_server(
    look: Look, make_server: MakeServer, make_key: Callable[..., KeyPair], user_key: KeyPair, tmp_path: Path
) -> None:
    """A terminal and a refused key are in the page as they happened; the terminal is found by its text, and played."""
    server = make_server({"audit": {"record": "pty"}})
    client = Client(server, user_key.private)
    with client.terminal(size=(24, 80)) as terminal:
        terminal.ask("stty -echo; PS1=; echo be''gun", "begun")
        terminal.send("printf 'gr\\303\\274n \\344\\270\\255\\n'; exit 7\n")
        assert terminal.wait() == 7
    client.run("sftp", "-s", input=b"")
    stranger = Client(server, make_key().private)
    assert stranger.run("true").status == 255
    server.wait_for("recording.ended")
    server.wait_for("auth.attempt", result="denied")
    path = tmp_path / "report.html"
    assert run(["audit", "report", "--dir", str(server.audit_dir), "-o", str(path), "--since", "1h"], {}) == 0
    seen = look(path)
    page = seen.page
    expect(page.locator(".headline")).to_contain_text("1 person logged in")
    expect(page.get_by_role("region", name="By source").locator("tbody tr")).to_have_count(1)
    page.get_by_role("searchbox").fill("grün 中")
    expect(page.get_by_role("status")).to_contain_text("1 by what the recording showed")
    session = page.locator(".session:visible")
    expect(session).to_have_count(1)
    expect(session.locator(".outcome")).to_have_text("exit 7")
    session.locator("summary").click()
    session.get_by_role("button", name="Play the recording").click()
    expect(session.locator(".ap-term-text")).to_contain_text("This session is recorded.")
    expect(session.locator(".ap-term-text")).to_contain_text("grün")
    seen.check()


def test_recordings_beyond_the_bound_are_left_out(look: Look, tmp_path: Path) -> None:
    """The page says how many are missing, and then needs no player."""
    one_session(tmp_path, cast=build_recording(Encoder()))
    page = look(report(tmp_path, "--recordings", "100")).page
    expect(page.get_by_text("1 recording (")).to_be_visible()
    assert page.locator(".play").count() == 0
    assert page.evaluate("typeof AsciinemaPlayer") == "undefined"
