"""What any long-running program needs: clock, loops, JSON logging, memory, crash points.

Nothing here knows a file, an inbox or Prefect.
"""
