"""Self-hosted video background removal: BiRefNet behind Ray Serve."""

__version__ = "0.1.0"
