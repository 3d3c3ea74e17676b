"""Find or download the files of a run's source, `file://` or `http(s)://`, and check them against their manifest.

Nothing here opens a warehouse. The only reader used is that of JSON text, to join the pages of an HTTP API.
"""
