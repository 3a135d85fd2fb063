// The result: the cutout over a background, the source under a slider, the mask beside it, all at one time.

import { duration } from "./words.js";

const $ = (id) => document.getElementById(id);
const DRIFT_S = 0.08; // by which two videos may differ before one is moved

function element(file, label) {
  const still = file.content_type === "image/gif";
  const shown = document.createElement(still ? "img" : "video");
  shown[still ? "alt" : "ariaLabel"] = label;
  if (!still) Object.assign(shown, { muted: true, loop: true, playsInline: true, preload: "auto" });
  shown.src = file.url;
  return shown;
}

export class Player {
  constructor() {
    this._followers = [];
    this._picture = "";
    $("play").addEventListener("click", () => (this.main?.paused ? this.main.play() : this.main?.pause()));
    $("seek").addEventListener("input", () => this.main && (this.main.currentTime = Number($("seek").value)));
    $("mute").addEventListener("click", () => {
      this.main.muted = !this.main.muted;
      this._mute();
    });
    $("compare").addEventListener("input", () => this._compare());
    for (const radio of document.getElementsByName("backdrop")) radio.addEventListener("change", () => this._backdrop());
    $("colour").addEventListener("input", () => this._choose("colour"));
    $("picture").addEventListener("change", () => {
      URL.revokeObjectURL(this._picture);
      this._picture = $("picture").files.length ? URL.createObjectURL($("picture").files[0]) : "";
      this._choose("picture");
    });
  }

  /** Shows an output; `before` is the address of the source, or "" if this page may not load it. */
  show({ video, mask_video: mask }, before) {
    this.clear();
    const plays = video.content_type !== "video/quicktime";
    const moving = plays && video.content_type !== "image/gif";
    const notes = [];
    if (!plays) notes.push("Browsers do not play ProRes: download the file, and open it in an editor.");
    if (video.content_type === "video/mp4") notes.push("MP4 has no transparency: the subject is over black. Choose WebM to see the background through it.");
    $("stage-box").hidden = !plays;
    $("player").hidden = !moving;
    $("backdrop").hidden = !plays || video.content_type === "video/mp4";
    const shown = plays ? element(video, "The video without its background") : null;
    if (shown) $("stage-box").append(shown);
    this.main = moving ? shown : null;
    const compares = plays && Boolean(before);
    $("compare-field").hidden = !compares;
    if (compares) {
      this.before = element({ url: before }, "The source video");
      this.before.className = "before";
      this.before.addEventListener("error", () => {
        $("compare-field").hidden = true;
        this.before?.remove();
        this._say([...notes, "This browser cannot play the source, so there is nothing to compare."]);
      });
      $("stage-box").append(this.before);
      if (moving) this._followers.push(this.before);
      else this.before.autoplay = true;
    } else if (plays) notes.push("Before and after needs a file from this device: the page loads nothing from other servers.");
    $("mask-figure").hidden = !mask || !plays;
    if (mask && plays) {
      const beside = element(mask, "The mask");
      $("mask-box").append(beside);
      if (mask.content_type !== "image/gif" && moving) this._followers.push(beside);
    }
    $("stage-box").style.aspectRatio = $("mask-box").style.aspectRatio = `${video.width || 16} / ${video.height || 9}`;
    this._say(notes);
    this._compare();
    this._backdrop();
    if (this.main) this._drive();
  }

  clear() {
    for (const video of document.querySelectorAll("#done video")) {
      video.pause();
      video.removeAttribute("src");
      video.load();
    }
    $("stage-box").replaceChildren();
    $("mask-box").replaceChildren();
    this._followers = [];
    this.main = this.before = null;
    $("compare").value = 0;
  }

  _say(notes) {
    $("note").textContent = notes.join(" ");
    $("note").hidden = notes.length === 0;
  }

  _drive() {
    const { main } = this;
    const button = () => ($("play").textContent = main.paused ? "Play" : "Pause");
    const step = () => {
      if (this.main !== main) return;
      this._clock();
      for (const one of this._followers) {
        if (one.readyState && Math.abs(one.currentTime - main.currentTime) > DRIFT_S) one.currentTime = main.currentTime;
      }
      if (!main.paused) requestAnimationFrame(step);
    };
    main.addEventListener("play", () => {
      button();
      for (const one of this._followers) one.play().catch(() => {});
      step();
    });
    main.addEventListener("pause", () => {
      button();
      for (const one of this._followers) one.pause();
      step();
    });
    main.addEventListener("seeked", step);
    main.addEventListener("loadedmetadata", () => {
      $("seek").max = main.duration;
      this._clock();
      if (!matchMedia("(prefers-reduced-motion: reduce)").matches) main.play().catch(() => {});
    });
    this._mute();
    button();
  }

  _clock() {
    const { currentTime: at, duration: length } = this.main;
    $("seek").value = at;
    $("seek").setAttribute("aria-valuetext", `${at.toFixed(1)} of ${duration(length || 0)}`);
    $("clock").textContent = `${at.toFixed(1)} / ${(length || 0).toFixed(1)} s`;
  }

  _mute() {
    $("mute").setAttribute("aria-pressed", String(!this.main.muted));
  }

  _compare() {
    const share = Number($("compare").value);
    $("compare").setAttribute("aria-valuetext", `${share} % of the width shows the source`);
    $("stage-box").style.setProperty("--split", `${share}%`);
    $("stage-box").classList.toggle("split", Boolean(this.before) && share > 0 && share < 100);
  }

  _choose(value) {
    document.querySelector(`[name=backdrop][value=${value}]`).checked = true;
    this._backdrop();
  }

  _backdrop() {
    const chosen = document.querySelector("[name=backdrop]:checked").value;
    const box = $("stage-box");
    box.classList.toggle("checkerboard", chosen === "checkerboard");
    box.style.backgroundColor = chosen === "colour" ? $("colour").value : "";
    box.style.backgroundImage = chosen === "picture" && this._picture ? `url("${this._picture}")` : "";
  }
}
