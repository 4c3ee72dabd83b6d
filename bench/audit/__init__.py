"""The log's readers on a large log: how long its index takes, how long questions take, and how much space both need."""
