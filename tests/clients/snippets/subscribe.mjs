import { fal } from "@fal-ai/client";

const video_url = process.argv[2];

const result = await fal.subscribe("fal-ai/birefnet/v2/video", {
  input: { video_url },
  logs: true,
  onQueueUpdate: (update) => {
    if (update.status === "IN_PROGRESS") {
      update.logs.map((log) => log.message).forEach(console.log);
    }
  },
});
console.log(result.data);
console.log(result.requestId);
