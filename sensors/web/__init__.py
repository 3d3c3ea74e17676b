"""The drop page on SENSOR_PORT: uploads, what became of files, metrics and health.

What it shows is read by `reports`; who may ask is decided in `access`.
"""
