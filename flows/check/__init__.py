"""Dry run of a load: check whether a file would load, by loading it into a scratch warehouse.

Files are read, planned and inserted by the code that a run uses; no code here decides whether a file loads.
"""
