"""What docs/scale.md says of containers and of systemd, done by root with an engine of the tests' own."""
