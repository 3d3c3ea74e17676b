"""Arrivals on the disk: moving settled files to their permanent folder, manifests, duplicates, links to failed files.

Nothing here watches a folder or calls Prefect.
"""
