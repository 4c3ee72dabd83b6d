"""Requests to the spawner: any message is answered or refused, and each process may send only its own kinds."""

import os
import signal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyssh_gateway.ipc import log_files
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.processes import process
from pyssh_gateway.spawner.requests import SAMPLES_WAITING, FromTables
from pyssh_gateway.spawner.sampling.sampler import Sampler
from tests.support import processes
from tests.support.spawner_tables import PLAN, USER, Spawner, children_of, plan, spawner
from tests.support.waiting import until

__all__ = ["spawner"]


# -- arbitrary requests ----------------------------------------------------------------------------------------------

numbers = st.integers(-(2**63), 2**64 - 1) | st.integers(-2, 70) | st.sampled_from([0xFFFF, 0x10000, 2**31, 2**32])
texts = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from([USER.pw_name, "root", "\0", "a\0b", ""])
binaries = st.binary(max_size=8) | st.sampled_from([b"/bin/true", b"", b"\0", b"A=B", b"/dev/tty"])
leaves = st.none() | st.booleans() | numbers | texts | binaries | st.floats(allow_nan=False)
anything = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3), max_leaves=4)


def nearly(good: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Values that are mostly of the right type."""
    return st.one_of(good, good, good, good, anything)


terminals = st.fixed_dictionaries(
    {
        "term": nearly(texts),
        **{name: nearly(numbers) for name in ("columns", "rows", "width", "height")},
        "modes": nearly(st.lists(st.tuples(numbers, numbers), max_size=3)),
    }
)
plans = st.fixed_dictionaries(
    {
        "user": nearly(st.just(USER.pw_name)),
        "executable": nearly(binaries),
        "argv": nearly(st.lists(binaries, max_size=3)),
        "env": nearly(st.dictionaries(binaries, binaries, max_size=3)),
        "cwd": nearly(binaries),
        "terminal": nearly(st.none() | terminals),
        "greet": st.booleans(),
    },
    optional={
        "builtin": nearly(st.sampled_from(["", "sftp"])),
        "peer": nearly(texts),
        **{name: nearly(binaries) for name in ("xauth", "banner", "rc_input")},
        "user_rc": nearly(st.booleans()),
    },
)
spawns = st.fixed_dictionaries({"type": st.just("spawn"), "id": nearly(numbers), "plan": nearly(plans)})
messages = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [
                *("start-preauth", "start-postauth", "kill", "await-account", "read-keys", "run-hook", "suspend"),
                *("spawn", "signal", "make-sockets"),
            ]
        )
    },
    optional={
        "id": nearly(numbers),
        "plan": nearly(plans),
        "number": nearly(numbers),
        "process": nearly(numbers),
        "path": nearly(texts),
        "user": nearly(texts),
        "index": nearly(numbers),
    },
)


def answered(spawner: Spawner) -> list[int]:
    """The numbers of the answered requests."""
    news = protocol.Exited | protocol.News | protocol.Reread | protocol.TakeOver
    others = protocol.NewMonitor | protocol.NewRecorder
    return [report.id for report in spawner.reports if not isinstance(report, news | others)]


@settings(max_examples=150)
@given(spawns)
def test_whatever_an_account_asks_is_no_request_or_is_answered(message: dict[str, object]) -> None:
    """Protects the spawner from a compromised process: only the decoding raises, always with ProtocolError."""
    try:
        request = protocol.decode_postauth_request(msgspec.msgpack.encode(message))
    except protocol.ProtocolError:
        return
    spawner = Spawner()
    spawner.ask(request)
    spawner.settle()
    assert answered(spawner) == [request.id]


@settings(max_examples=150)
@given(messages)
def test_whatever_the_monitor_asks_is_no_request_or_is_answered(message: dict[str, object]) -> None:
    """The same for the monitor, none of whose requests can start a user's command."""
    try:
        request = protocol.decode_monitor_request(msgspec.msgpack.encode(message))
    except protocol.ProtocolError:
        return
    spawner = Spawner()
    assert isinstance(request, FromTables)  # the test's messages have no other kinds
    spawner.monitor.answer(request)
    spawner.settle()
    assert answered(spawner) == ([] if isinstance(request, protocol.Kill) else [request.id])
    assert not spawner.account.children.pids


# -- which process may send what -------------------------------------------------------------------------------------

ONLY_THE_MONITORS: tuple[protocol.Request, ...] = (
    protocol.StartPreauth(1),
    protocol.StartPostauth(1, USER.pw_name),
    protocol.Kill(1, 1),
    protocol.AwaitAccount(1, USER.pw_name),
    protocol.ReadKeys(1, "/etc/shadow"),
    protocol.RunHook(1, 0),
    protocol.RunWarning(1, 0, 60),
    protocol.Suspend(1),
    protocol.SampleActivity(1),
    protocol.AwaitSocket(1, "control"),
    protocol.StopServices(1),
    protocol.Reload(1),
    protocol.TakeConfig(1),
    log_files.OpenLog(1),
    log_files.SealLog(1, 0, 1),
    log_files.TidyLog(1),
)
ONLY_AN_ACCOUNTS: tuple[protocol.Request, ...] = (protocol.Spawn(1, PLAN),)


def test_the_tables_are_whole() -> None:
    """Each kind of request is in exactly one of the two tables."""
    assert {type(each) for each in ONLY_THE_MONITORS} == set(protocol.MonitorRequest.__args__)
    assert {type(each) for each in ONLY_AN_ACCOUNTS} == {protocol.PostauthRequest}


@pytest.mark.parametrize("request_", ONLY_THE_MONITORS, ids=lambda each: type(each).__name__)
def test_what_only_the_monitor_may_ask_is_no_request_of_an_account(request_: protocol.Request) -> None:
    """The monitor's requests are refused for an account, before they are looked at."""
    packet = protocol.encode(request_)
    assert protocol.decode_monitor_request(packet) == request_
    with pytest.raises(protocol.ProtocolError, match="bad request"):
        protocol.decode_postauth_request(packet)


@pytest.mark.parametrize("request_", ONLY_AN_ACCOUNTS, ids=lambda each: type(each).__name__)
def test_what_only_an_account_may_ask_is_no_request_of_the_monitor(request_: protocol.Request) -> None:
    """A compromised monitor can start an account's postauth process, but not a command."""
    packet = protocol.encode(request_)
    assert protocol.decode_postauth_request(packet) == request_
    with pytest.raises(protocol.ProtocolError, match="bad request"):
        protocol.decode_monitor_request(packet)


@pytest.mark.parametrize(
    "asked", [protocol.AwaitAccount(1, "root"), protocol.StartPostauth(1, "root")], ids=lambda each: type(each).__name__
)
def test_only_accounts_of_the_configuration(asked: protocol.MonitorRequest, spawner: Spawner) -> None:
    """A compromised monitor gets no process for an account that may not log in, such as root."""
    assert isinstance(asked, FromTables)
    spawner.monitor.answer(asked)
    assert spawner.reports == [protocol.Refused(1, "root is not an account that may log in")]


def test_an_account_may_be_closed(spawner: Spawner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's rules about an account are reported before a login, without a fork."""
    monkeypatch.setattr(process, "refusal_now", lambda account: f"{account.pw_name} is closed\n".encode())
    spawner.monitor.answer(protocol.AwaitAccount(1, USER.pw_name))
    assert spawner.reports == [protocol.AccountReady(1, f"{USER.pw_name} is closed\n".encode())]
    monkeypatch.setattr(process, "refusal_now", lambda _account: None)
    spawner.monitor.answer(protocol.AwaitAccount(2, USER.pw_name))
    assert spawner.reports[1:] == [protocol.AccountReady(2, b"")]
    assert not children_of(os.getpid())


# -- hooks and samples ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [True, False])
def test_a_hook_is_killed_with_what_it_has_started(spawner: Spawner, at_once: bool) -> None:
    """Protects a stop from a hook that does not end: it is killed with its children, and no account's process is."""
    spawner.ask(protocol.Spawn(2, plan(b"exec sleep 1000")))
    spawner.monitor.answer(protocol.RunHook(1, 0))
    if not at_once:
        spawner.until(lambda: len(spawner.pids) == 2, "start of both")
        until(lambda: len(processes.descendants(os.getpid())) == 3, what="what the hook starts")
    spawner.monitor.answer(protocol.Kill(3, 2))  # a number among the account's requests
    spawner.monitor.answer(protocol.Kill(4, 1))
    killed = protocol.Exited(1, None, signal.SIGKILL, core_dumped=False)
    spawner.until(lambda: killed in spawner.reports, "end of the hook")
    until(
        lambda: not [child for child in processes.descendants(os.getpid()) if child.state != "Z"][1:], what="the rest"
    )
    assert not any(isinstance(report, protocol.Exited) and report.id == 2 for report in spawner.reports)


def test_samples_asked_for_together_are_taken_one_after_the_other(
    spawner: Spawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects a build from a stop: a sample requested for another reason must not replace the one for the build."""
    taken: list[int] = []
    begin = Sampler.begin

    def noted(sampler: Sampler, number: int, now: float) -> None:
        assert not sampler.busy
        taken.append(number)
        begin(sampler, number, now)

    monkeypatch.setattr(Sampler, "begin", noted)
    for number in range(SAMPLES_WAITING + 1):
        spawner.monitor.answer(protocol.SampleActivity(number))
    spawner.until(lambda: len(taken) == SAMPLES_WAITING, "all samples")
    assert taken == list(range(SAMPLES_WAITING))
    assert [report.id for report in spawner.reports if isinstance(report, protocol.Refused)] == [SAMPLES_WAITING]
