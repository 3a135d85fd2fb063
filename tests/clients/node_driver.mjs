// Runs one action with the official client and prints the outcome as one line of JSON, which the tests check.
//   node --import ./hosts.mjs node_driver.mjs ACTION SHORT_CLIP_URL LONG_CLIP_URL
import { createHash } from "node:crypto";
import { fal } from "@fal-ai/client";

const ENDPOINT = "fal-ai/birefnet/v2/video";
const UNKNOWN = "00000000-0000-4000-8000-000000000000";
const LARGE = 91 * 2 ** 20; // the client sends more than 90 MiB in parts
const [action, short, long] = process.argv.slice(2);

const failure = async (promise) => {
  try {
    await promise;
  } catch ({ name, message, status, body, requestId, timeoutType }) {
    return { name, message, status, body, requestId, timeoutType };
  }
  return null;
};

const download = async (url) => {
  const reply = await fetch(url);
  return { status: reply.status, bytes: (await reply.arrayBuffer()).byteLength };
};

const digest = (bytes) => createHash("sha256").update(bytes).digest("hex");

// Uploads a blob and compares the download with the original bytes.
const uploaded = async (blob) => {
  const url = await fal.storage.upload(blob);
  const reply = await fetch(url);
  const same = digest(new Uint8Array(await reply.arrayBuffer())) === digest(new Uint8Array(await blob.arrayBuffer()));
  return { url, same, type: reply.headers.get("content-type") };
};

// A subscription and the updates that its caller received.
const subscribe = async (options) => {
  const updates = [];
  let enqueued = null;
  const result = await fal.subscribe(ENDPOINT, {
    input: { video_url: short },
    logs: true,
    onEnqueue: (id) => (enqueued = id),
    onQueueUpdate: (update) => updates.push(structuredClone(update)),
    ...options,
  });
  return { enqueued, updates, result, file: await download(result.data.video.url) };
};

const until = async (requestId, state) => {
  let status;
  do {
    status = await fal.queue.status(ENDPOINT, { requestId, logs: true });
  } while (status.status !== state && status.status !== "COMPLETED");
  return status;
};

const actions = {
  run: async () => {
    const result = await fal.run(ENDPOINT, { input: { video_url: short } });
    return { result, file: await download(result.data.video.url) };
  },

  polling: () => subscribe({ pollInterval: 100 }),

  streaming: () => subscribe({ mode: "streaming" }),

  stream_status: async () => {
    const { request_id: requestId } = await fal.queue.submit(ENDPOINT, { input: { video_url: short } });
    const stream = await fal.queue.streamStatus(ENDPOINT, { requestId, logs: true });
    const updates = [];
    for await (const update of stream) updates.push(structuredClone(update));
    return { requestId, updates, last: await stream.done() };
  },

  submit: async () => {
    const submitted = await fal.queue.submit(ENDPOINT, {
      input: { video_url: short, output_mask: true, video_output_type: "VP9 (.webm)" },
      priority: "low",
      hint: "here",
      startTimeout: 300,
      storageSettings: { expiresIn: "1d" },
    });
    const requestId = submitted.request_id;
    const completed = await until(requestId, "COMPLETED");
    const result = await fal.queue.result(ENDPOINT, { requestId });
    const late = await failure(fal.queue.cancel(ENDPOINT, { requestId }));
    return { submitted, completed, result, late };
  },

  // A file by itself, and as part of the input, which the client then uploads.
  upload: async () => {
    const clip = new File([await (await fetch(short)).arrayBuffer()], "my clip.mp4", { type: "video/mp4" });
    const upload = await uploaded(clip);
    const result = await fal.run(ENDPOINT, { input: { video_url: clip } });
    return { upload, run: { result, file: await download(result.data.video.url) } };
  },

  large_upload: async () => uploaded(new Blob([new Uint8Array(LARGE).fill(7)], { type: "video/webm" })),

  cancel: async () => {
    const { request_id: requestId } = await fal.queue.submit(ENDPOINT, { input: { video_url: long } });
    const running = await until(requestId, "IN_PROGRESS");
    await fal.queue.cancel(ENDPOINT, { requestId });
    const after = await fal.queue.status(ENDPOINT, { requestId });
    const result = await failure(fal.queue.result(ENDPOINT, { requestId }));
    const again = await failure(fal.queue.cancel(ENDPOINT, { requestId }));
    return { requestId, running, after, result, again };
  },

  timeout: async () => {
    let requestId;
    const input = { video_url: long };
    const error = await failure(
      fal.subscribe(ENDPOINT, { input, timeout: 2000, pollInterval: 100, onEnqueue: (id) => (requestId = id) }),
    );
    return { error, after: await until(requestId, "COMPLETED") };
  },

  invalid: async () => ({
    run: await failure(fal.run(ENDPOINT, { input: {} })),
    queue: await failure(fal.subscribe(ENDPOINT, { input: { video_url: short, video_quality: "ultra" } })),
    source: await failure(fal.subscribe(ENDPOINT, { input: { video_url: "http://127.0.0.1:9/none.mp4" } })),
  }),

  unknown: async () => ({
    status: await failure(fal.queue.status(ENDPOINT, { requestId: UNKNOWN })),
    stream: await failure(fal.queue.streamStatus(ENDPOINT, { requestId: UNKNOWN }).then((stream) => stream.done())),
    result: await failure(fal.queue.result(ENDPOINT, { requestId: UNKNOWN })),
    cancel: await failure(fal.queue.cancel(ENDPOINT, { requestId: UNKNOWN })),
  }),
};

console.log(JSON.stringify(await actions[action]()));
