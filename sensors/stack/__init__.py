"""Start, supervise and stop the stack: Prefect's server and worker, and the sensor."""
