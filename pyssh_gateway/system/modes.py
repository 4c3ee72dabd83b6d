"""Permission bits that decide whether a file can be trusted."""

OTHERS_MAY_WRITE = 0o022
"""Set if the group or everybody may write: then anybody may have written the content."""
