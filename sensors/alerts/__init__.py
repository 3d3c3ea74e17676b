"""Alerts about the sensor's own issues, about failed, overdue and missing runs, and about a silent server.

Delivering them is the work of `automations`.
"""
