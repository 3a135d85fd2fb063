"""Training of the small checkpoint that ships with the package; see README.md beside this file."""
