"""The machine under the server: how it is stopped, suspended, and what is remembered of that."""
