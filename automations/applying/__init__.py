"""Putting the automations of a folder on a server: what is there, what differs, what is done about it."""
