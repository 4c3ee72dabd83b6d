"""A server for scp's old protocol, for machines without scp."""
