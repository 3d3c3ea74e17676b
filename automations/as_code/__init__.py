"""Automations as files: compare a folder of files with a server, apply it, or export a server's automations.

Nothing here sends an alert.
"""
