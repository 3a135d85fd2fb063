// What a version of the official client is asked to do, in Node and in a browser.
// Each function returns a remark, or null for none; it throws where the version fails, and NotOffered where it cannot.
const ENDPOINT = "fal-ai/birefnet/v2/video";
const LARGE = 101 * 2 ** 20; // clients that upload in parts do so from 90 or 100 MiB on

class NotOffered extends Error {}

const check = (holds, what) => {
  if (!holds) throw new Error(what);
};

const offered = (method) => {
  if (typeof method !== "function") throw new NotOffered();
};

const bytesOf = async (url) => {
  const reply = await fetch(url);
  check(reply.ok, `download: ${reply.status}`);
  return new Uint8Array(await reply.arrayBuffer());
};

// Newer versions wrap the output together with the request's id.
const checkOutput = async (result) => {
  const { video } = result.data ?? result;
  check((await bytesOf(video.url)).byteLength === video.file_size, "the downloaded output has another size");
};

const until = async (fal, requestId, state) => {
  let status;
  do {
    status = await fal.queue.status(ENDPOINT, { requestId, logs: true });
  } while (status.status !== state && status.status !== "COMPLETED");
  return status;
};

const upload = async (fal, blob) => {
  const sent = new Uint8Array(await blob.arrayBuffer());
  const got = await bytesOf(await fal.storage.upload(blob));
  check(got.length === sent.length && got.every((byte, at) => byte === sent[at]), "the download differs");
};

const functions = {
  run: async (fal, { short }) => {
    await checkOutput(await fal.run(ENDPOINT, { input: { video_url: short } }));
  },

  subscribe: async (fal, { short }) => {
    const updates = [];
    const onQueueUpdate = (update) => updates.push(structuredClone(update));
    const result = await fal.subscribe(ENDPOINT, { input: { video_url: short }, logs: true, onQueueUpdate });
    await checkOutput(result);
    const last = updates.at(-1);
    check(last?.status === "COMPLETED" && last.logs.length > 0, `the last update: ${JSON.stringify(last)}`);
  },

  queue: async (fal, { short }) => {
    const { request_id: requestId } = await fal.queue.submit(ENDPOINT, { input: { video_url: short } });
    const status = await until(fal, requestId, "COMPLETED");
    check(status.logs.length > 0, "no logs");
    await checkOutput(await fal.queue.result(ENDPOINT, { requestId }));
  },

  events: async (fal, { short }) => {
    offered(fal.queue.streamStatus);
    const { request_id: requestId } = await fal.queue.submit(ENDPOINT, { input: { video_url: short } });
    const stream = await fal.queue.streamStatus(ENDPOINT, { requestId, logs: true });
    const states = [];
    for await (const update of stream) states.push(update.status);
    const last = await stream.done();
    check(last.status === "COMPLETED", `states: ${states}, at last ${last.status}`);
    // The iterator of old versions ends with the stream, whatever it has still to give.
    return states.at(-1) === "COMPLETED" ? null : "the last one by `done()`";
  },

  cancel: async (fal, { long }) => {
    offered(fal.queue.cancel);
    const { request_id: requestId } = await fal.queue.submit(ENDPOINT, { input: { video_url: long } });
    const status = await until(fal, requestId, "IN_PROGRESS");
    check(status.status === "IN_PROGRESS", `before: ${status.status}`);
    await fal.queue.cancel(ENDPOINT, { requestId });
    const after = await fal.queue.status(ENDPOINT, { requestId });
    check(after.error_type === "client_cancelled", `after: ${JSON.stringify(after)}`);
  },

  error: async (fal) => {
    const refused = await fal.run(ENDPOINT, { input: {} }).then(
      () => null,
      (error) => error,
    );
    check(refused, "no error is thrown");
    check(refused.status === 422, `the status is ${refused.status}`);
  },

  upload: async (fal, { short }) => {
    const file = new File([await bytesOf(short)], "my clip.mp4", { type: "video/mp4" });
    await upload(fal, file);
    await checkOutput(await fal.subscribe(ENDPOINT, { input: { video_url: file } }));
  },

  large_upload: async (fal, _, requests) => {
    const noise = new Uint8Array(2 ** 20).map((_, at) => (at * 2654435761) >>> 13);
    await upload(fal, new Blob(Array(LARGE / 2 ** 20).fill(noise), { type: "video/webm" }));
    return requests.some((url) => url.includes("multipart")) ? "in parts" : "in one request";
  },
};

// The outcome of one function, as an object that JSON can hold.
export const attempt = async (fal, name, clips, config = {}) => {
  const requests = [];
  const send = globalThis.fetch;
  globalThis.fetch = (url, options) => {
    requests.push(String(url.url ?? url));
    return send(url, options);
  };
  try {
    fal.config({ credentials: "any:key", ...config });
    return { outcome: "works", remark: (await functions[name](fal, clips, requests)) ?? null };
  } catch (error) {
    if (error instanceof NotOffered) return { outcome: "not offered" };
    const body = error.body && JSON.stringify(error.body);
    return { outcome: "fails", remark: [error.message, error.cause?.message, body].filter(Boolean).join("; ") };
  } finally {
    globalThis.fetch = send;
  }
};
