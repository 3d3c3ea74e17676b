"""What the sensor does for the alarm bell: it rings it for what Prefect missed, and watches the server itself."""
