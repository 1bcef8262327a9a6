"""The guest of greenline in a test environment: see plugin.py."""
