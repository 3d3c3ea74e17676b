"""The drop page on SENSOR_PORT: files are dropped here, and their journey is seen."""
