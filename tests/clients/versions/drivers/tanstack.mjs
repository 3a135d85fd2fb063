// The same for @tanstack/ai-fal: its video adapter submits, asks for the state, and returns the URL.
import { falVideo } from "@tanstack/ai-fal";
import { attempt } from "./functions.mjs";

const ENDPOINT = "fal-ai/birefnet/v2/video";
const [name, short] = process.argv.slice(2);
const quiet = { request: () => {}, errors: () => {} };

// The adapter in the shape of the official client, as far as it goes.
const adapter = falVideo(ENDPOINT, { apiKey: "any:key" });
const client = {
  config: () => {},
  storage: {},
  queue: {
    submit: async (_, { input: { video_url: value } }) => {
      const video = { type: "video", source: { type: "url", value } };
      const { jobId } = await adapter.createVideoJob({ prompt: [video], logger: quiet });
      return { request_id: jobId };
    },
    status: async (_, { requestId }) => {
      const { status } = await adapter.getVideoStatus(requestId);
      return { status: status === "completed" ? "COMPLETED" : "IN_PROGRESS", logs: [status] };
    },
    result: async (_, { requestId }) => {
      const { url } = await adapter.getVideoUrl(requestId);
      const reply = await fetch(url);
      return { video: { url, file_size: Number(reply.headers.get("content-length")) } };
    },
  },
};
console.log(JSON.stringify(await attempt(client, name, { short })));
process.exit();
