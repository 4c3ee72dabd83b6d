"""What the monitor asks of the spawner about the log's files, which it may write to but not open, rename or delete."""

from typing import Annotated

import msgspec

Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class OpenLog(msgspec.Struct, frozen=True, tag="open-log"):
    """Open the log anew, at the path in the configuration. Answered by `Opened` or `Refused`.

    `Opened` has the log, and the files of its state and of its checkpoints beside it if they can be opened.
    """

    id: Number


class SealLog(msgspec.Struct, frozen=True, tag="seal-log"):
    """Close the current file, and open a new one; the answer is that to `OpenLog`.

    `first` is the index of the file's first line, by which it is named from then on; `inode` is the file's number.
    """

    id: Number
    first: Annotated[int, msgspec.Meta(ge=0, lt=10**18)]
    inode: Number


class TidyLog(msgspec.Struct, frozen=True, tag="tidy-log"):
    """Compress closed files, none of which is written to any more, and delete what is too old. Not answered."""

    id: Number


Request = OpenLog | SealLog | TidyLog
