"""Commands that look and change nothing: status, history, show, logs, check, preview.

What they show is read by `reports`.
"""
