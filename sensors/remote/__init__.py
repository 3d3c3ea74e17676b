"""Remote inboxes: a folder of an object store or of an SFTP server, listed instead of watched.

Only what is told by its URL is imported with this package; fsspec and its filesystems come with the first store.
"""
