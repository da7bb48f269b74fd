"""The back-ends and how one is chosen."""
