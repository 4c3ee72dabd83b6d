"""Proofs about the log, as in RFC 9162 and C2SP's tlog specifications: Merkle trees, signed notes, checkpoints."""
