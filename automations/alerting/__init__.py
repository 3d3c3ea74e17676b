"""Alerts: from what has happened to a message that got through."""
