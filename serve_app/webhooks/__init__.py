"""Telling the receivers that clients name of the end of their jobs."""
