"""Watch an inbox: file events, scans, admission, and the step from a settled file to an arrival.

Remote inboxes are in `remote`.
"""
