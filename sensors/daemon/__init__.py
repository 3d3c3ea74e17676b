"""The sensor's process: its loops, put together, and its housekeeping.

Nothing else may import it but `__main__`.
"""
