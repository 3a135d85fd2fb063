// The service's routes, as any client uses them. The key is an argument: nothing here keeps it.

import { ServiceError } from "./words.js";

export const BASE = new URL("..", import.meta.url).href.replace(/\/$/, ""); // this file is in playground/
export const ENDPOINT = "/fal-ai/birefnet/v2/video";
const REQUESTS = "/queue/fal-ai/birefnet/requests/";

async function ask(path, key, options = {}) {
  const headers = { ...(key ? { Authorization: `Key ${key}` } : {}), ...options.headers };
  let reply;
  try {
    reply = await fetch(BASE + path, { ...options, headers });
  } catch {
    throw ServiceError.unreachable("The service");
  }
  if (!reply.ok) throw ServiceError.of(reply.status, await reply.text());
  return reply;
}

const post = (path, key, body) =>
  ask(path, key, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });

/** The contract's inputs: [name, schema], with references replaced. */
export async function inputs() {
  const { schemas } = (await (await ask("/openapi.json")).json()).components;
  return Object.entries(schemas.VideoInput.properties).map(([name, schema]) => {
    const { enum: values, type } = schema.$ref ? schemas[schema.$ref.split("/").pop()] : schema;
    return [name, { ...schema, enum: values, type }];
  });
}

/** Uploads `file` and returns its URL. `told` gets the share that was sent; `signal` aborts. */
export async function upload(file, key, told, signal) {
  const type = file.type || "video/mp4";
  const announced = { file_name: file.name || "video.mp4", content_type: type };
  const target = await (await post("/rest/storage/upload/initiate", key, announced)).json();
  await new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not say how much it has sent
    request.open("PUT", target.upload_url);
    request.setRequestHeader("Content-Type", type);
    request.upload.onprogress = (event) => told(event.loaded / event.total);
    request.onload = () =>
      request.status < 300 ? resolve() : reject(ServiceError.of(request.status, request.responseText));
    request.onerror = () => reject(ServiceError.unreachable("The service's file server"));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    if (signal.aborted) request.abort();
    else request.send(file);
  });
  return target.file_url;
}

/** Queues a request and returns its id. */
export const submit = async (input, key) => (await (await post("/queue" + ENDPOINT, key, input)).json()).request_id;

/** Yields the status objects of a request until it ends. EventSource could not send the key. */
export async function* statuses(id, key) {
  const reply = await ask(`${REQUESTS}${id}/status/stream?logs=1`, key);
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch {
      throw ServiceError.unreachable("The service");
    }
    if (part.done) return;
    text += part.value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      if (event.startsWith("data: ")) yield JSON.parse(event.slice(6));
    }
  }
}

export const result = async (id, key) => (await ask(REQUESTS + id, key)).json();

export async function cancel(id, key) {
  try {
    await ask(`${REQUESTS}${id}/cancel`, key, { method: "PUT" });
  } catch (error) {
    if (error.status !== 400) throw error; // it has just ended, and its stream says how
  }
}
