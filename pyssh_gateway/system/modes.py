"""Permission bits that decide whom a file is to be believed."""

OTHERS_MAY_WRITE = 0o022
"""Set where the group or everybody may write: what is there may be anybody's words."""
