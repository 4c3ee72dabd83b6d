"""The log as the monitor keeps it: written, required, signed, and in files that do not grow for ever."""
