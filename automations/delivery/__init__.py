"""Delivering alerts: the outbox, the channels and what limits them, from an event to a message that got through.

Nothing here knows Prefect's server or the automations' files; those are in `block` and `as_code`.
"""
