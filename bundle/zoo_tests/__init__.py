"""Tests that go into a package, in the manner of the model zoo's own."""
