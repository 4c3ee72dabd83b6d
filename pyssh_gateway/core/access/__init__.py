"""Who gets in: keys, their options, certificates, and what is decided by them."""
