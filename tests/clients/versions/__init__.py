"""Clients of other years and makers, tried against the vendor's names; see __main__.py."""
