"""Arrivals on the disk: settled files are moved once to their permanent address, with a manifest, duplicates and links.

Nothing here watches a folder or talks to Prefect.
"""
