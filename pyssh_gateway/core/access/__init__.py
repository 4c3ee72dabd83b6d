"""Access: keys, their options, certificates, and the decision about a login."""
