import sys

import fal_client

video_url = sys.argv[1]


def on_queue_update(update):
    if isinstance(update, fal_client.InProgress):
        for log in update.logs:
            print(log["message"])


result = fal_client.subscribe(
    "fal-ai/birefnet/v2/video",
    arguments={"video_url": video_url},
    with_logs=True,
    on_queue_update=on_queue_update,
)
print(result)
