"""Alerts of the sensor: its own issues, runs that Prefect missed, and the silence of the server.

Delivering them is the work of `automations`.
"""
