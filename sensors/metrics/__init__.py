"""What the sensor tells Prometheus of itself, of the files and of the arrivals."""
