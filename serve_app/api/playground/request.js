// One request from its start to its end: upload, submit, follow, result. It reports what happens, and shows nothing.

import * as api from "./api.js";
import { ServiceError } from "./words.js";

export class Request {
  /** `told`: {uploading(share), queued(id), status(object)}. */
  constructor(key, told) {
    this._key = key;
    this._told = told;
    this._aborted = new AbortController();
    this.id = null;
    this.seconds = null; // that the work took, once it has ended
  }

  /** Sends `source` with `settings`; returns the input as it was sent, and the output. */
  async send(source, settings) {
    const { signal } = this._aborted;
    const { file } = source;
    const url = file ? await api.upload(file, this._key, this._told.uploading, signal) : source.address;
    const input = { video_url: url, ...settings };
    const id = await api.submit(input, this._key);
    this._told.queued(id, input);
    if (signal.aborted) await api.cancel(id, this._key);
    return this.follow(id);
  }

  /** Follows a request that was sent, and returns its output. Throws `ServiceError`. */
  async follow(id) {
    this.id = id;
    let last = null;
    for await (const status of api.statuses(id, this._key)) {
      last = status;
      this._told.status(status);
    }
    if (last?.status !== "COMPLETED") throw ServiceError.unreachable("The service");
    this.seconds = last.metrics.inference_time ?? null;
    return api.result(id, this._key);
  }

  async cancel() {
    this._aborted.abort();
    if (this.id) await api.cancel(this.id, this._key);
  }
}
