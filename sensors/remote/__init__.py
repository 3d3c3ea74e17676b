"""Remote inboxes: a folder of an object store or of an SFTP server, listed instead of watched.

No other package imports fsspec.
"""
