"""Simulated patients of two hospitals, for a first run without data."""
