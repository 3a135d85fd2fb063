// The video to send: a file that was picked, dropped or pasted, or an address.

import { bytes, duration } from "./words.js";

const $ = (id) => document.getElementById(id);
const FRAMES = 12; // whose distances tell the frame rate
const WAIT_MS = 4000;

export class Source {
  /** `changed` is called whenever there is another video, `probed` when more is known of the same one. */
  constructor(changed, probed) {
    this.file = null;
    this.url = ""; // of the file, in this page
    this.facts = null; // {seconds, rate} of the file, as far as this browser can tell
    this._changed = changed;
    this._probed = probed;
    $("file").addEventListener("change", () => this._take($("file").files[0]));
    $("url").addEventListener("input", () => {
      if (this.file) this._forget();
      changed();
    });
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      $("drop").classList.add("over");
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) $("drop").classList.remove("over"); // it left the page
    });
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      $("drop").classList.remove("over");
      this._take(event.dataTransfer.files[0]) || this._address(event.dataTransfer.getData("text/plain"));
    });
    document.addEventListener("paste", (event) => {
      const typing = event.target.matches?.("input:not([type=file]), textarea");
      if (this._take(event.clipboardData.files[0]) || (!typing && this._address(event.clipboardData.getData("text/plain"))))
        event.preventDefault();
    });
  }

  get address() {
    return $("url").value.trim();
  }

  get name() {
    return this.file ? this.file.name : this.address.startsWith("data:") ? "data URI" : this.address.split(/[?#]/)[0].split("/").pop() || this.address;
  }

  /** Shows an earlier request's address in place of a file. */
  set address(text) {
    this._forget();
    $("url").value = text;
    this._changed();
  }

  _address(text) {
    if (!/^(https?:\/\/|data:)/.test(text.trim())) return false;
    this.address = text.trim();
    return true;
  }

  _take(file) {
    if (!file) return false;
    this._forget();
    this.file = file;
    this.url = URL.createObjectURL(file);
    $("url").value = "";
    this._say();
    this._changed();
    probe(this.url).then((facts) => {
      if (this.file !== file) return;
      this.facts = facts;
      this._say();
      this._probed();
    });
    return true;
  }

  _forget() {
    this.file = this.facts = null;
    this.url = "";
    $("file").value = "";
    $("picked").hidden = true;
  }

  _say() {
    const { seconds } = this.facts ?? {};
    $("picked").hidden = false;
    $("picked").textContent = [this.file.name, bytes(this.file.size), seconds && duration(seconds)].filter(Boolean).join(" · ");
  }
}

/** Length and frame rate of a video; what this browser cannot tell is missing. */
async function probe(url) {
  const video = document.createElement("video");
  video.muted = true;
  video.preload = "auto";
  const once = (name) => new Promise((resolve) => video.addEventListener(name, () => resolve(true), { once: true }));
  const late = () => new Promise((resolve) => setTimeout(resolve, WAIT_MS, false));
  const loaded = Promise.race([once("loadedmetadata"), once("error").then(() => false), late()]);
  video.src = url;
  if (!(await loaded) || !Number.isFinite(video.duration)) return {};
  const facts = { seconds: video.duration };
  if (video.requestVideoFrameCallback) {
    const times = [];
    const enough = new Promise((resolve) => {
      const seen = (_, { mediaTime }) => {
        times.push(mediaTime);
        if (times.length < FRAMES) video.requestVideoFrameCallback(seen);
        else resolve();
      };
      video.requestVideoFrameCallback(seen);
    });
    await video.play().catch(() => {});
    await Promise.race([enough, once("ended"), late()]);
    video.pause();
    // A busy browser skips frames: the shortest distance is that of neighbours.
    const steps = times.slice(1).map((time, n) => time - times[n]).filter((step) => step > 0.004);
    if (steps.length) facts.rate = 1 / Math.min(...steps);
  }
  video.removeAttribute("src");
  video.load();
  return facts;
}
