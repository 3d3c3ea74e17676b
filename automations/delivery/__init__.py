"""Alert delivery: from an event through the outbox, with rate limits and quiet hours, to the channels.

Nothing here imports Prefect or calls its API; `block` and `as_code` do that.
"""
