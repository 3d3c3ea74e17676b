"""The sensor's process: its loops, put together, and its housekeeping.

Only `__main__` may import it.
"""
