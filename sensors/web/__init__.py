"""The drop page on SENSOR_PORT: uploads, the state of files and arrivals, metrics and health.

It shows data that `reports` reads from the ledger; accounts, log-ins and the audit log are in `access`.
"""
