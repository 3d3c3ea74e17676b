"""Announcing: arrivals are told to Prefect, and receipts and outcomes are read back from it."""
