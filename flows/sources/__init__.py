"""Finding and fetching the files of a run's source: `file://` and `http(s)://`, and the spool for downloads.

Nothing here opens a warehouse or knows how the rows of a file are read.
"""
