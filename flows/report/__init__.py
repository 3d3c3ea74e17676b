"""Reports of a run about its files, written to Prefect: the table artifact, the log lines and the progress.

Nothing here changes the loaded data.
"""
