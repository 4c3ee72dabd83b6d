"""How single values about the machine are written and read."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.config import machine_values as values
from pyssh_gateway.config.values import UnfitError, fingerprint, optional_base_url, secret, socket_path

Read = Callable[[object], object]
READERS: tuple[Read, ...] = (
    values.banner,
    values.network,
    values.hours,
    values.timezone,
    values.absolute_path,
    values.optional_path,
    values.chroot_directory,
    values.file_mode,
    values.nonempty_command,
    values.metrics_address,
    values.revoked_lists,
    values.warning,
    socket_path,
    secret,
    fingerprint,
    optional_base_url,
)


@pytest.mark.parametrize(
    ("read", "given", "means"),
    [
        (values.network, "172.16.0.0/12", "172.16.0.0/12"),
        (values.network, "192.0.2.1", "192.0.2.1/32"),
        (values.network, "2001:db8::/32", "2001:db8::/32"),
        (values.hours, "mon-fri 08:00-18:00", "mon-fri 08:00-18:00"),
        (values.hours, "00:00-24:00", "00:00-24:00"),
        (values.timezone, "UTC", "UTC"),
        (values.timezone, "America/Argentina/Buenos_Aires", "America/Argentina/Buenos_Aires"),
        (values.absolute_path, "/data/docker", "/data/docker"),
        (values.optional_path, "", ""),
        (values.optional_path, "/a", "/a"),
        (values.chroot_directory, "", ""),
        (values.chroot_directory, "/srv/%u/%U%%", "/srv/%u/%U%%"),
        (values.chroot_directory, "%h/in", "%h/in"),
        (values.file_mode, "0750", "0750"),
        (values.nonempty_command, "dockerd --debug", "dockerd --debug"),
        (values.revoked_lists, "", ""),
        (values.revoked_lists, "file:/etc/krl", "file:/etc/krl"),
        (values.revoked_lists, ["file:/a", "file:/b"], ("file:/a", "file:/b")),
        (values.warning, "notify https://x", "notify https://x"),
        (values.warning, "https://hooks.example/T0?a=b", "https://hooks.example/T0?a=b"),
        (values.warning, "http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        (values.metrics_address, "off", "off"),
        (values.metrics_address, "127.0.0.1:9100", "127.0.0.1:9100"),
        (values.metrics_address, "[::1]:9100", "[::1]:9100"),
        (values.metrics_address, "/run/metrics.sock", "/run/metrics.sock"),
        (socket_path, "auto", "auto"),
        (socket_path, "/run/x.sock", "/run/x.sock"),
        (optional_base_url, "", ""),
        (optional_base_url, "https://example.com/api/", "https://example.com/api"),
    ],
)
def test_what_fits_is_taken(read: Read, given: object, means: object) -> None:
    """Each documented spelling of each kind of value is accepted."""
    assert read(given) == means


@pytest.mark.parametrize(
    ("read", "given"),
    [
        (values.network, "172.16.0.1/12"),
        (values.network, "example.com"),
        (values.network, "fe80::1%eth0"),
        (values.network, 10),
        (values.hours, "08:00-08:00"),
        (values.hours, 8),
        (values.timezone, "../../etc/passwd"),
        (values.timezone, "/etc/localtime"),
        (values.timezone, ""),
        (values.timezone, "Berlin"),
        (values.timezone, "Europe"),
        (values.absolute_path, "data"),
        (values.absolute_path, "/data/../etc"),
        (values.absolute_path, "/a\0b"),
        (values.absolute_path, None),
        (values.chroot_directory, "srv"),
        (values.chroot_directory, "%u"),
        (values.chroot_directory, "/srv/%d"),
        (values.chroot_directory, "/srv/%"),
        (values.chroot_directory, "/srv/../%u"),
        (values.chroot_directory, ["/srv"]),
        (values.file_mode, 755),
        (values.file_mode, "rwx"),
        (values.file_mode, "99"),
        (values.nonempty_command, "  "),
        (values.nonempty_command, ["dockerd"]),
        (values.revoked_lists, "/etc/krl"),
        (values.revoked_lists, "url:https://example.com/krl"),
        (values.revoked_lists, "file:krl"),
        (values.revoked_lists, ["file:/a", "file:/a"]),
        (values.revoked_lists, ["file:/a", 7]),
        (values.metrics_address, "localhost:9100"),
        (values.metrics_address, "127.0.0.1:"),
        (values.metrics_address, "127.0.0.1:65536"),
        (values.metrics_address, 9100),
        (socket_path, "run/x.sock"),
        (socket_path, "/" + "x" * 107),
        (socket_path, ["auto"]),
        (secret, "two words"),
        (fingerprint, "MD5:aa:bb"),
        (fingerprint, "SHA256:short"),
    ],
)
def test_what_does_not_fit_is_refused(read: Read, given: object) -> None:
    """Nothing is guessed: a value that is not understood stops the start, with the expected form."""
    with pytest.raises(UnfitError):
        read(given)


@given(st.sampled_from(READERS), st.text() | st.integers() | st.booleans() | st.none() | st.lists(st.text()))
def test_any_value_is_taken_or_refused(read: Read, value: object) -> None:
    """Any value from a file or the environment is read or refused with UnfitError."""
    with contextlib.suppress(UnfitError):
        read(value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("Berlin", 'did you mean "Europe/Berlin"?'),
        ("europe/berlin", 'did you mean "Europe/Berlin"?'),
        ("New York", 'did you mean "America/New_York"?'),
        ("Europe/Berln", 'did you mean "Europe/Berlin"?'),
        ("utc", 'did you mean "UTC"?'),
        ("Mars/Olympus_Mons", "such as UTC or Europe/Berlin"),
        (7, "such as UTC or Europe/Berlin"),
    ],
)
def test_a_city_is_no_time_zone_but_leads_to_one(given: object, said: str) -> None:
    """A time zone that does not exist is refused when the file is read, not later when its hours come."""
    with pytest.raises(UnfitError) as caught:
        values.timezone(given)
    assert said in str(caught.value)


def test_a_machine_without_time_zones_judges_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration checked on a small image, which lacks the time zone package, is not refused for that."""
    monkeypatch.setattr("zoneinfo.available_timezones", set)
    monkeypatch.setattr(values, "_is_zone", lambda _: False)
    assert values.timezone("Europe/Berlin") == "Europe/Berlin"
    with pytest.raises(UnfitError):
        values.timezone("no zone")


def test_banners() -> None:
    """Protects clients' terminals from control characters, and the text after a banner from sharing its last line."""
    for written in ("", "Hello\n\tthere", "file:/etc/issue.net"):
        assert values.banner(written) == written
    for unfit in ("\x1b[2J", "file:etc/issue.net", "file:", "file:/etc/../x", "x" * (values.MAX_BANNER + 1), 5, None):
        with pytest.raises(UnfitError):
            values.banner(unfit)
    assert [values.whole_lines(text) for text in ("", "a", "a\n")] == [b"", b"a\n", b"a\n"]


@pytest.mark.parametrize(
    "given", ["HTTPS://hooks.example/T0", " https://hooks.example/T0", "'https://hooks.example/T0'"]
)
def test_an_address_is_never_taken_for_a_command(given: str) -> None:
    """Protects a webhook's token: of a command the first word is logged, which here would be the whole address."""
    with pytest.raises(UnfitError, match="address of a webhook"):
        values.warning(given)
