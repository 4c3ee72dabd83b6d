"""The log's events in the words of other schemas."""
