"""API keys and their verification."""
