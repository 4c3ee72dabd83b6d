"""pyssh-gateway beside OpenSSH's sshd, on one machine in one run. `python -m bench --help`; docs/benchmarks.md."""
