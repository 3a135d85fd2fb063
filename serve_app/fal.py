"""The vendor's names: the endpoint, its paths and the values of its inputs, and the hosts in whose place this service
can answer. The official clients have the paths and hosts fixed in their code.
"""

from __future__ import annotations

from enum import StrEnum

ENDPOINT_ID = "fal-ai/birefnet/v2/video"
ENDPOINT = f"/{ENDPOINT_ID}"  # the path, the same for run and queue
APP = "/fal-ai/birefnet"  # the application's path: the endpoint's without its last segments

# The vendor separates its services by host name; here each has a prefix of the path.
RUN = "/run"
QUEUE = "/queue"
REST = "/rest"

CLIENT_PROXY = "/api/fal/proxy"
QUEUE_OPENAPI = "/api/openapi/queue/openapi.json"
JWKS = "/.well-known/jwks.json"
JWKS_PATHS = (JWKS, REST + JWKS)

CDN = "fal.media"  # and every host below it
VENDOR_NAMES = (
    "fal.run",
    "queue.fal.run",
    "rest.fal.ai",
    "rest.alpha.fal.ai",  # of older clients, as is the name of the file server without a version
    "api.fal.ai",
    CDN,
    f"v3.{CDN}",
    # To these the Python client repeats a request, key included, whose connection failed.
    "falrun.com",
    "queue.falrun.com",
)


def is_cdn(host: str) -> bool:
    """Whether a Host header names one of the vendor's file servers."""
    name = host.lower().partition(":")[0]
    return name == CDN or name.endswith(f".{CDN}")


class Variant(StrEnum):
    """The six values of `model`; the names are the endpoint's and do not follow the weights' sizes."""

    LIGHT = "General Use (Light)"
    LIGHT_2K = "General Use (Light 2K)"
    HEAVY = "General Use (Heavy)"
    MATTING = "Matting"
    PORTRAIT = "Portrait"
    DYNAMIC = "General Use (Dynamic)"


class OutputType(StrEnum):
    """The four values of `video_output_type`."""

    MP4 = "X264 (.mp4)"
    WEBM = "VP9 (.webm)"
    MOV = "PRORES4444 (.mov)"
    GIF = "GIF (.gif)"


class Quality(StrEnum):
    """The four values of `video_quality`."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    MAXIMUM = "maximum"


class WriteMode(StrEnum):
    """The three values of `video_write_mode`."""

    FAST = "fast"
    BALANCED = "balanced"
    SMALL = "small"
