"""The commands for people: who can log in, who is connected, what is wrong. Not `serve`, which has to start fast."""
