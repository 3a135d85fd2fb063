"""Each module prints the table that it feeds in the README. Speeds are ratios or figures of one run."""
