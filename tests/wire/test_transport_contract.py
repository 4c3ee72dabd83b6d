# ruff: noqa: SLF001 - private parts are what these tests are about
"""The private parts of asyncssh that we override and use still exist, and still have the same meaning.

asyncssh is pinned to a minor version because of ssh/, preauth/ and postauth/. When the pin is moved, these tests notice
a method that was renamed, split or given another argument, before that lets somebody in.
"""

import ast
import asyncio
import inspect
from pathlib import Path
from types import FunctionType, ModuleType

import asyncssh
import asyncssh.auth
import asyncssh.channel
import asyncssh.connection
import asyncssh.crypto.cipher
import asyncssh.encryption
import pytest
from asyncssh.channel import SSHChannel, SSHServerChannel
from asyncssh.connection import SSHConnection, SSHServerConnection, SSHServerConnectionOptions
from asyncssh.encryption import BasicEncryption, Encryption, GCMEncryption, get_encryption
from asyncssh.kex_dh import _KexDHBase, _KexECDH, _KexHybridECDH
from asyncssh.public_key import SSHKeyPair

from pyssh_gateway.postauth import channel, client, connection, session
from pyssh_gateway.preauth import authentication
from pyssh_gateway.ssh import (
    ciphers,
    dispatch,
    handover,
    key_exchange,
    lenient,
    packets,
    receiving,
    sending,
    transport,
    windowed,
)
from pyssh_gateway.ssh.options import KEX_ALGORITHMS, PublicHostKey

SIGNATURES = {
    "SSHConnection.__init__": "self, loop, options, acceptor, error_handler, wait, server",
    "SSHConnection._choose_alg": "self, alg_type, local_algs, remote_algs",
    "SSHConnection._cleanup": "self, exc",
    "SSHConnection._force_close": "self, exc",
    "SSHConnection._process_global_response": "self, pkttype, _pktid, packet",
    "SSHConnection._process_newkeys": "self, _pkttype, _pktid, packet",
    "SSHConnection._process_service_request": "self, _pkttype, _pktid, packet",
    "SSHConnection._process_userauth_request": "self, _pkttype, _pktid, packet",
    "SSHConnection._report_global_response": "self, result",
    "SSHServerConnection._process_hostkeys_prove_00_at_openssh_dot_com_global_request": "self, packet",
    "SSHServerConnection.choose_server_host_key": "self, peer_host_key_algs",
    "SSHConnection._recv_version": "self",
    "SSHConnection._reset_keepalive_timer": "self",
    "SSHConnection._send": "self, data",
    "SSHConnection._send_deferred_packets": "self",
    "SSHConnection._send_kexinit": "self",
    "SSHConnection._send_version": "self",
    "SSHConnection.connection_made": "self, transport",
    "SSHConnection.create_task": "self, coro, task_logger",
    "SSHConnection.disconnect": "self, code, reason, lang",
    "SSHConnection.internal_error": "self, exc_info, error_logger",
    "SSHConnection.pause_writing": "self",
    "SSHConnection.resume_writing": "self",
    "SSHConnection.send_newkeys": "self, k, h",
    "SSHConnection.send_packet": "self, pkttype, args, handler",
    "SSHConnection.send_userauth_failure": "self, partial_success",
    "SSHConnection.send_userauth_success": "self",
    "SSHServerConnection.__init__": "self, loop, options, acceptor, error_handler, wait",
    "SSHServerConnection._process_cancel_streamlocal_forward_at_openssh_dot_com_global_request": "self, packet",
    "SSHServerConnection._process_cancel_tcpip_forward_global_request": "self, packet",
    "SSHServerConnection._process_session_open": "self, packet",
    "SSHServerConnection.create_server_channel": "self, encoding, errors, window, max_pktsize",
    "SSHChannel._accept_data": "self, data, datatype",
    "SSHChannel._cleanup": "self, exc",
    "SSHChannel._close_send": "self",
    "SSHChannel._deliver_data": "self, data, datatype",
    "SSHChannel._discard_recv": "self",
    "SSHChannel._finish_open_request": "self, result",
    "SSHChannel._flush_send_buf": "self",
    "SSHChannel._pause_resume_writing": "self",
    "SSHChannel._process_close": "self, _pkttype, _pktid, packet",
    "SSHChannel._process_data": "self, _pkttype, _pktid, packet",
    "SSHChannel._process_eof": "self, _pkttype, _pktid, packet",
    "SSHChannel._process_extended_data": "self, _pkttype, _pktid, packet",
    "SSHChannel._process_request": "self, _pkttype, _pktid, packet",
    "SSHChannel._process_window_adjust": "self, _pkttype, _pktid, packet",
    "SSHChannel._report_response": "self, result",
    "SSHChannel._send_request": "self, request, args, want_reply",
    "SSHChannel._service_next_request": "self",
    "SSHChannel.close": "self",
    "SSHChannel.resume_reading": "self",
    "SSHChannel.send_packet": "self, pkttype, args",
    "SSHChannel.set_write_buffer_limits": "self, high, low",
    "SSHChannel.write": "self, data, datatype",
    "SSHChannel.write_eof": "self",
    "SSHServerChannel.__init__": (
        "self, conn, loop, allow_pty, line_editor, line_echo, line_history, max_line_length, encoding, errors, window, "
        "max_pktsize"
    ),
    "SSHServerChannel._process_env_request": "self, packet",
    "SSHServerChannel._process_exec_request": "self, packet",
    "SSHServerChannel._process_pty_req_request": "self, packet",
    "SSHServerChannel._process_shell_request": "self, packet",
    "SSHServerChannel._process_signal_request": "self, packet",
    "SSHServerChannel._process_subsystem_request": "self, packet",
    "SSHServerChannel._process_window_change_request": "self, packet",
    "SSHServerChannel._start_session": "self, command, subsystem",
    "GCMEncryption.__init__": "self, cipher",
    "GCMEncryption.decrypt_header": "self, seq, first_block, header_len",
    "GCMEncryption.decrypt_packet": "self, seq, first, rest, header_len, mac",
    "GCMEncryption.encrypt_packet": "self, seq, header, packet",
    "_KexDHBase._compute_hash": "self, host_key_data, k",
    "_KexDHBase._perform_reply": "self, key, key_data",
    "_KexDHBase._send_reply": "self, key_data, sig",
    "_KexECDH._compute_server_shared": "self",
    "_KexHybridECDH._compute_server_shared": "self",
    "SSHKeyPair.__init__": (
        "self, algorithm, sig_algorithm, sig_algorithms, host_key_algorithms, public_data, comment, cert, filename, "
        "use_executor, use_webauthn"
    ),
}
"""The names of each method's parameters."""

CLASSES = {
    kind.__name__: kind
    for kind in (
        SSHConnection,
        SSHServerConnection,
        SSHChannel,
        SSHServerChannel,
        SSHKeyPair,
        GCMEncryption,
        _KexDHBase,
        _KexECDH,
        _KexHybridECDH,
    )
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_methods_have_the_signatures_that_we_override(name: str) -> None:
    """With a parameter more or less, arguments would be passed to the wrong place, or not at all."""
    kind, _, method = name.partition(".")
    assert method in vars(CLASSES[kind]), f"asyncssh's {kind} has no {method} of its own any more"
    assert ", ".join(inspect.signature(vars(CLASSES[kind])[method]).parameters) == SIGNATURES[name]


def _overrides(ours: type, theirs: type) -> set[str]:
    """The names of functions of `ours` that override one of `theirs`."""
    return {name for name, value in vars(ours).items() if isinstance(value, FunctionType) and hasattr(theirs, name)}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (receiving.Receiving, SSHServerConnection),
        (dispatch.Dispatch, SSHServerConnection),
        (key_exchange.KeyExchange, SSHServerConnection),
        (transport.Transport, SSHServerConnection),
        (handover.Movable, SSHServerConnection),
        (connection.Connection, SSHServerConnection),
        (sending.FairChannel, SSHServerChannel),
        (lenient.LenientChannel, SSHChannel),
        (channel.SessionChannel, SSHServerChannel),
        (windowed.WindowedChannel, SSHChannel),
        (ciphers.GcmCipher, Encryption),
        (ciphers.ChachaCipher, Encryption),
        (ciphers.CtrCipher, Encryption),
        (authentication.Authentication, SSHServerConnection),
        (authentication.Stranger, asyncssh.SSHServer),
        (client.Client, asyncssh.SSHServer),
        (session.Session, asyncssh.SSHServerSession),
    ],
)
def test_what_we_override_takes_what_asyncssh_passes(ours: type, theirs: type) -> None:
    """Each override can be called with asyncssh's arguments, by position and by name."""
    for name in _overrides(ours, theirs) - {"__init__"}:
        mine, original = inspect.signature(getattr(ours, name)), inspect.signature(getattr(theirs, name))
        required = [p for p in original.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        mine.bind(*required)
        assert asyncio.iscoroutinefunction(getattr(ours, name)) == asyncio.iscoroutinefunction(getattr(theirs, name)), (
            name
        )


@pytest.mark.parametrize(
    ("method", "expression"),
    [
        (SSHConnection._process_global_request, "'_process_' + map_handler_name(request) + '_global_request'"),
        (SSHConnection._process_channel_open, "'_process_' + map_handler_name(chantype) + '_open'"),
        (SSHChannel._service_next_request, "'_process_' + map_handler_name(request) + '_request'"),
    ],
)
def test_asyncssh_still_finds_handlers_by_their_names(method: FunctionType, expression: str) -> None:
    """asyncssh calls request handlers by a name that it composes; under other names ours would never be called."""
    assert expression in inspect.getsource(method)


def test_the_packet_tables_are_whole() -> None:
    """Our tables are copies with some entries replaced: every message that asyncssh handles is still handled."""
    for ours, theirs in (
        (authentication.Authentication, SSHServerConnection),
        (connection.Connection, SSHServerConnection),
        (channel.SessionChannel, SSHServerChannel),
    ):
        mine, original = ours._packet_handlers, theirs._packet_handlers
        assert mine.keys() == original.keys()
        for number, handler in mine.items():
            if handler is not original[number]:
                assert getattr(ours, handler.__name__) is handler
                assert handler.__name__ == original[number].__name__


@pytest.mark.parametrize(
    ("module", "kinds"),
    [
        (dispatch, (SSHServerConnection,)),
        (key_exchange, (SSHServerConnection, _KexDHBase)),
        (transport, (SSHServerConnection,)),
        (handover, (transport.Transport,)),
        (receiving, (SSHServerConnection,)),
        (sending, (SSHServerChannel,)),
        (packets, (asyncssh.packet.SSHPacket,)),
        (authentication, (SSHServerConnection,)),
        (connection, (SSHServerConnection,)),
        (lenient, (SSHChannel,)),
        (channel, (SSHServerChannel,)),
        (windowed, (SSHChannel,)),
        (
            ciphers,
            (
                GCMEncryption,
                BasicEncryption,
                asyncssh.crypto.cipher.GCMCipher,
                asyncssh.crypto.cipher.BasicCipher,
                asyncssh.crypto.chacha.ChachaCipher,
                asyncssh.mac._HMAC,
            ),
        ),
    ],
)
def test_every_private_attribute_that_we_use_is_set_by_asyncssh(module: ModuleType, kinds: tuple[type, ...]) -> None:
    """A private name that neither we nor asyncssh define is stale: it is set, but never read."""
    tree = ast.parse(Path(str(module.__file__)).read_text())
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")}
    set_here = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr.startswith("_")
    }
    defined_here = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    theirs = _names_of(kinds)
    stale = {name for name in used - defined_here - theirs if not name.startswith("__")}
    # A name that our own __init__ sets, and that asyncssh does not know, is ours.
    assert stale <= set_here, f"asyncssh does not have {sorted(stale - set_here)}"


def _names_of(kinds: tuple[type, ...]) -> set[str]:
    """Every method and attribute that the sources of `kinds` and their bases set, in asyncssh and in our subclasses."""
    names: set[str] = set()
    for kind in {
        base for top in kinds for base in top.__mro__ if base.__module__.startswith(("asyncssh", "pyssh_gateway.ssh"))
    }:
        names |= set(vars(kind))
        for node in ast.walk(ast.parse(inspect.cleandoc("\n" + inspect.getsource(kind)))):
            if isinstance(node, ast.Attribute):
                names.add(node.attr)
    return names


CONNECTION_STATE = (
    "_auth", "_auth_complete", "_auth_final", "_auth_in_progress", "_can_send_ext_info", "_channels", "_client_version",
    "_cmp_alg_cs", "_cmp_alg_sc", "_deferred_packets", "_enc_algs", "_ignore_first_kex", "_inpbuf", "_kex",
    "_kex_complete", "_kexinit_sent", "_login_timer", "_next_recv_encryption", "_owner", "_protocol_factory",
    "_recv_blocksize", "_recv_encryption", "_recv_macsize", "_recv_seq", "_rekey_bytes", "_rekey_bytes_sent",
    "_rekey_seconds", "_rekey_time", "_send_blocksize", "_send_enchdrlen", "_send_encryption", "_send_seq",
    "_server_host_key", "_server_host_keys", "_server_version", "_session_id", "_strict_kex", "_transport", "_username",
)  # fmt: skip
CHANNEL_STATE = (
    "_request_queue",
    "_recv_buf",
    "_recv_paused",
    "_send_buf",
    "_send_buf_len",
    "_send_pktsize",
    "_send_state",
    "_send_window",
    "_session",
)


def test_the_state_that_we_share_with_asyncssh_is_there() -> None:
    """A new connection and a new channel have the attributes that we read and write."""

    async def make() -> tuple[SSHServerConnection, SSHServerChannel[bytes]]:
        loop = asyncio.get_running_loop()
        key = asyncssh.generate_private_key("ssh-ed25519")
        connection = SSHServerConnection(loop, SSHServerConnectionOptions(server_host_keys=[key], gss_host=None))
        connection._transport = asyncio.Transport()  # only an open connection numbers its channels
        timer = connection._login_timer
        assert timer is not None
        timer.cancel()
        return connection, SSHServerChannel(connection, loop, True, False, False, 0, 0, None, "strict", 1, 1)

    connection, made = asyncio.run(make())
    assert [name for name in CONNECTION_STATE if not hasattr(connection, name)] == []
    assert [name for name in CHANNEL_STATE if not hasattr(made, name)] == []


def test_a_gcm_object_has_the_key_and_the_nonce_that_we_take_over() -> None:
    """GcmCipher continues from asyncssh's object; `_iv` is the nonce of its next packet."""
    theirs = get_encryption(b"aes128-gcm@openssh.com", bytes(16), bytes(12))
    assert isinstance(theirs, GCMEncryption)
    inner = theirs._cipher
    assert (inner._key, inner._iv) == (bytes(16), bytes(12))
    theirs.encrypt_packet(0, b"\0\0\0\x10", bytes(16))
    assert inner._iv == bytes(11) + b"\1"


def test_asyncssh_signs_in_the_reply_and_nowhere_else() -> None:
    """`KeyExchange._serve_key_exchange` repeats these steps, but has the signature made by another process."""
    steps = [line.strip() for line in inspect.getsource(_KexDHBase._perform_reply).splitlines()[3:] if line.strip()]
    assert steps == [
        "k = self._compute_server_shared()",
        "h = self._compute_hash(key_data, k)",
        "self._send_reply(key_data, key.sign(h))",
        "self._conn.send_newkeys(k, h)",
    ]
    assert (
        inspect.getsource(_KexDHBase._process_init)
        .rstrip()
        .endswith("self._perform_reply(host_key, host_key.public_data)")
    )


def test_all_key_exchanges_that_are_offered_reply_in_one_way() -> None:
    """No key exchange that we offer has its own `_perform_reply` or its own handler."""
    for name in KEX_ALGORITHMS:
        kind, _, _ = asyncssh.kex._kex_handlers[name.encode()]
        assert issubclass(kind, _KexECDH)
        assert "_perform_reply" not in vars(kind)
        assert kind._packet_handlers[30] is _KexDHBase._process_init


def test_a_host_key_of_ours_can_not_sign() -> None:
    """Protects the private keys: the object that asyncssh gets has none, and choosing it does not modify it."""
    key = PublicHostKey(b"rsa-sha2-256", b"blob")
    assert (key.algorithm, key.public_data, list(key.host_key_algorithms)) == (
        b"rsa-sha2-256",
        b"blob",
        [key.algorithm],
    )
    with pytest.raises(RuntimeError):
        key.sign(b"data")
    assert "if alg != keypair.algorithm:" in inspect.getsource(SSHServerConnection.choose_server_host_key)


def test_asyncssh_lets_nobody_in_by_itself() -> None:
    """Logins are decided in one place: all of asyncssh's paths to a success begin in the handler that we override."""
    source = inspect.getsource(asyncssh.connection)
    assert source.count("send_userauth_success()") == 1
    assert "await self.send_userauth_success()" in inspect.getsource(SSHConnection._finish_userauth)
    assert source.count("._finish_userauth(") == 1
    assert "self._finish_userauth(" in inspect.getsource(SSHConnection._process_userauth_request)
    assert source.count("lookup_server_auth(") == 1
    ours = authentication.Authentication._packet_handlers[50]
    assert ours is authentication.Authentication._process_userauth_request
    assert "super()" not in inspect.getsource(ours)


def test_a_success_is_said_before_all_that_follows_it() -> None:
    """For a connection that was taken over, asyncssh sends SUCCESS, calls its owner, and announces the host keys."""
    source = inspect.getsource(SSHConnection.send_userauth_success)
    steps = (
        "self.send_packet(MSG_USERAUTH_SUCCESS)",
        "self._auth_in_progress = False",
        "self._auth_complete = True",
        "self._set_keepalive_timer()",
        "self._owner.auth_completed()",
        "send_server_host_keys()",
    )
    assert sorted(steps, key=source.index) == list(steps)


def test_the_identification_line_is_the_last_step_of_a_new_connection() -> None:
    """A connection that was taken over sends SUCCESS in that place, when its owner knows of it."""
    source = inspect.getsource(SSHConnection.connection_made)
    assert source.count("_send_version()") == 1
    assert source.index("self._owner.connection_made(self)") < source.index("self._send_version()")


def test_what_a_message_number_means_is_decided_as_by_asyncssh() -> None:
    """`ssh/dispatch.py` replaces `_recv_packet`: a rule that asyncssh adds there has to be reviewed for ours."""
    source = inspect.getsource(SSHConnection._recv_packet)
    assert source.count("elif ") == 6
    assert source.count("exc_reason = ") == 9
