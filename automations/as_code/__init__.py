"""Automations as files: what is on a server, what differs from a folder of files, and what is done about it.

Nothing here sends an alert.
"""
