"""Watching: hints say when to look into an inbox, a scan says what lies there."""
