// The same for `generateVideo` of the AI SDK with @ai-sdk/fal.
//   DOWNLOAD=own: with a download function of one's own, as docs/2-clients.md has it.
import { createFal } from "@ai-sdk/fal";
import { experimental_generateVideo as generateVideo } from "ai";

const [, short] = process.argv.slice(2);

const download = async ({ url, abortSignal }) => {
  const reply = await fetch(url, { signal: abortSignal });
  return { data: new Uint8Array(await reply.arrayBuffer()), mediaType: reply.headers.get("content-type") ?? undefined };
};

let outcome;
try {
  const { video } = await generateVideo({
    model: createFal({ apiKey: "any:key" }).video("fal-ai/birefnet/v2/video"),
    prompt: "",
    providerOptions: { fal: { video_url: short, pollIntervalMs: 200 } },
    ...(process.env.DOWNLOAD === "own" ? { download } : {}),
  });
  const mp4 = new TextDecoder().decode(video.uint8Array.slice(4, 8)) === "ftyp";
  outcome = mp4 ? { outcome: "works" } : { outcome: "fails", remark: "the output is no MP4" };
} catch (error) {
  let first = error;
  while (first.cause) first = first.cause;
  outcome = { outcome: "fails", remark: first.message };
}
console.log(JSON.stringify(outcome));
process.exit();
