"""Facts about flow runs, read from Prefect's API: what waits and why, what failed, what the schedule wanted.

Nothing here alerts anybody or changes a run; alerts, the status and the page are made from it elsewhere.
"""
