"""What all events have in common."""

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Something that happened. The tag is the event's stable, dotted name."""


class Algorithms(msgspec.Struct, frozen=True):
    """What a connection negotiated (RFC 4253 section 7.1). `in` is the direction from the client.

    A MAC is empty if the cipher has integrity of its own.
    """

    kex: str
    host_key: str
    cipher_in: str
    cipher_out: str
    mac_in: str
    mac_out: str
    compression_in: str
    compression_out: str


class PreviousLogin(msgspec.Struct, frozen=True):
    """When the same person logged in before, in the form of `ts`, and from which address."""

    time: str
    peer: str


_VOUCHED = frozenset({"github", "gitlab", "codeberg", "launchpad", "sourcehut", "ca"})
"""Kinds of sources that vouch for the owner of their keys."""


class Identity(msgspec.Struct, frozen=True):
    """The person who logged in, whatever the account.

    `person` names them with the kind of source that vouches for them (`github:example`, `file:amos@laptop`, `ca:amos`)
    and has no spaces; `id` is the number of their account there, where that is known; `fingerprint` is their key's.
    """

    person: str
    id: int | None
    fingerprint: str

    @property
    def known_by(self) -> str:
        """What identifies the person: the number or name of an account, a name given by an authority, or else the key.

        A comment in a file proves nothing: two keys with the same comment are two people. So are two keys of one URL.
        """
        kind = self.person.partition(":")[0]
        if self.id is not None:
            return f"{kind}#{self.id}"
        return self.person if kind in _VOUCHED else self.fingerprint

    @property
    def facts(self) -> str:
        """For a session's programs: the person, the number of their account if that is known, a space, the key."""
        number = "" if self.id is None else f"#{self.id}"
        return f"{self.person}{number} {self.fingerprint}"
