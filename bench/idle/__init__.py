"""How long the machine is awake, and for whom: simulated weeks. `python -m bench.idle --help`; docs/idle-simulation.md.

The server's rules are the real ones, on a fake clock (`pyssh_gateway.core.idle.replay`).
"""
