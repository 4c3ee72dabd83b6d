"""Samples of the resources that the processes of sessions use: how they are taken, and by whose rights."""
