"""How stages and studies run: configs, records, locks, workers and logs."""
