"""What a person at the terminal looks at: the status, the latest arrivals, one arrival, the logs."""
