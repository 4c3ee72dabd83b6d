"""The commands for people: who can log in, who is on, what is wrong. `serve` is not one of them: its start counts."""
