"""Prefect automations kept in files, and the delivery of the alerts that they send."""
