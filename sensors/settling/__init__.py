"""Settling: which files are ours, and when each is complete."""
