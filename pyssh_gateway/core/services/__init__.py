"""Services of the boot: when they start again, and what they write."""
