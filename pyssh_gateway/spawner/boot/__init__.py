"""The links, directories and accounts that are made at boot, before anybody logs in."""
