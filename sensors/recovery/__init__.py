"""Recovery: what a person does when something has failed: retry, replay, rebuild."""
