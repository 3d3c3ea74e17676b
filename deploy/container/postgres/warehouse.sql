-- Run once, by the image of PostgreSQL, when its volume is empty; POSTGRES_DB has made the database of Prefect.
CREATE DATABASE warehouse;
