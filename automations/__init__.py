"""What reacts to what: automations kept in files, and the bell that rings when a run fails."""
