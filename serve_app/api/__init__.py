"""What HTTP sees."""

ENDPOINT = "/fal-ai/birefnet/v2/video"  # the vendor's path, the same for run and queue
