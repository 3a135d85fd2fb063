// Figures and errors in words.

const REMEDIES = {
  file_download_error: "Open the address in a new tab: if it does not play there, the service cannot fetch it either. Or drop the file here instead.",
  unsupported_video_format: "Convert the video to MP4 (H.264) and try again.",
  file_too_large: "Shorten the video, or raise fetch.max_bytes or uploads.max_bytes in the service's profile.",
  video_duration_too_long: "Cut the video into parts, or raise source.max_frames or source.max_seconds in the service's profile.",
  image_too_large: "Scale the video down, or raise source.max_side or source.max_pixels in the service's profile.",
  feature_not_supported: "Change the settings that the message names.",
  concurrent_requests_limit: "Wait until others have finished, and start again.",
  client_cancelled: "Start again when you like.",
  request_timeout: "The service was busy for too long. Start again.",
  not_found: "Its result has expired, or another key sent it. Run the request again.",
};
const AGAIN = "Start again; if it fails once more, the service's log says why (birefnet-serve up prints where it is).";

/** An error of the service, with the message for a person. */
export class ServiceError extends Error {
  constructor(status, type, message) {
    super(message);
    this.status = status;
    this.type = type;
  }

  get remedy() {
    if (this.status === 0) return "Check that it is running: “make serve” or “birefnet-serve up” starts it.";
    if (this.status === 401) return "Enter a key under “API key”. An administrator makes one with “birefnet-serve keys create”.";
    if (REMEDIES[this.type]) return REMEDIES[this.type];
    return this.status === 422 ? "Change what the message names, and start again." : AGAIN;
  }

  /** From a reply and its body, which need not be JSON. */
  static of(status, text) {
    let body = {};
    try {
      body = JSON.parse(text);
    } catch {
      body = { detail: text.slice(0, 300) };
    }
    if (Array.isArray(body.detail)) {
      const message = body.detail.map(({ loc, msg }) => {
        const field = loc.slice(1).join(".");
        return msg.startsWith(field) ? msg : `${field}: ${msg}`;
      });
      return new ServiceError(status, body.detail[0].type, message.join("; "));
    }
    if (status === 404) return new ServiceError(404, "not_found", "The service does not know this request any more.");
    return new ServiceError(status, body.error_type ?? body.type ?? "", body.detail || `The service answered with status ${status}.`);
  }

  static unreachable(what) {
    return new ServiceError(0, "unreachable", `${what} cannot be reached.`);
  }
}

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

export function bytes(count) {
  if (count < 1e3) return `${count} B`;
  if (count < 1e6) return `${(count / 1e3).toFixed(0)} kB`;
  return count < 1e9 ? `${(count / 1e6).toFixed(1)} MB` : `${(count / 1e9).toFixed(2)} GB`;
}

export const number = (value) => String(Number(value.toFixed(value < 10 ? 1 : 0)));

/** "operating_resolution" -> "Operating resolution" */
export function title(name) {
  const words = name.replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
}
