"""The report: the log of some days as one HTML file, for people."""
