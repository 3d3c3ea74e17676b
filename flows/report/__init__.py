"""What a run reports to Prefect about its files: the artifact, the log and the progress.

Nothing here changes what is loaded.
"""
