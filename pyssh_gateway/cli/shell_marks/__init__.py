"""`shell-marks`: what makes a shell mark its commands in recordings, a file for each shell."""
