"""Building blocks of a long-running program: clock, loops, JSON logging, memory, crash points.

Nothing here knows about dropped files, inboxes or Prefect.
"""
