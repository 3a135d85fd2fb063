"""Webhooks: notifications of the end of jobs."""
