"""Which patients train, select and test, by subject and by site."""
