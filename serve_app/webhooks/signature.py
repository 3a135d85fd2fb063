"""The four headers by which a receiver knows that a webhook is ours, and fresh."""

from __future__ import annotations

import hashlib

from serve_app.webhooks.keys import SigningKey


def signed_headers(
    key: SigningKey, request_id: str, user_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """Made anew for each attempt: receivers refuse a timestamp that is more than five minutes off."""
    message = "\n".join((request_id, user_id, str(timestamp), hashlib.sha256(body).hexdigest()))
    return {
        "X-Fal-Webhook-Request-Id": request_id,
        "X-Fal-Webhook-User-Id": user_id,
        "X-Fal-Webhook-Timestamp": str(timestamp),
        "X-Fal-Webhook-Signature": key.private.sign(message.encode()).hex(),
    }
