"""Staging: settled files become an arrival, each moved once to its permanent address."""
