"""pytest plugin of greenline."""
