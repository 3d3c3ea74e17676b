"""The front door: everything that brings the stack up, watches over it and takes it down."""
