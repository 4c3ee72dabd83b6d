"""What other settings would have done: the log as a recorded history, and that history replayed under two policies."""
