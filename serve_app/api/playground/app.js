// Puts the page together: what the form says is sent, and what the service says is shown.

import { BASE, inputs as contract } from "./api.js";
import { Inputs } from "./inputs.js";
import { Player } from "./player.js";
import * as recent from "./recent.js";
import { Request } from "./request.js";
import { LANGUAGES } from "./snippets.js";
import { Source } from "./source.js";
import { ServiceError, bytes, duration, number } from "./words.js";

const $ = (id) => document.getElementById(id);
const EXAMPLE = "https://example.org/clip.mp4";

let settings = null; // the controls, once the contract is read
let running = null;
let told = null; // the quarter of the frames that screen readers heard of
let sent = null; // the input of the request that is shown; its code is below
const player = new Player();
const source = new Source(() => edited(), () => refresh());

const key = () => $("key").value.trim();
const ready = () => settings && !running && Boolean(source.file || source.address);

function edited() {
  sent = null;
  refresh();
}

function refresh() {
  $("start").disabled = !ready();
  $("estimate").textContent = settings && !running ? estimate() : "";
  if (settings) code();
}

function estimate() {
  if (!source.file) return source.address ? "How long it takes shows once the service has read the video." : "";
  const { seconds, rate: fps } = source.facts ?? {};
  const speed = recent.rateOf(settings.values);
  const frames = seconds && fps ? Math.round(seconds * fps) : null;
  const length = frames ? `About ${frames} frames` : "A number of frames that this browser cannot tell";
  if (!speed) return `${length}; how long they take is unknown until the first run with these settings.`;
  const measured = `${number(speed)} frames/s, as measured here last`;
  return frames ? `${length} at ${measured}: about ${duration(frames / speed)}.` : `${length}, at ${measured}.`;
}

// The request as code

function code() {
  const { help, code: write } = LANGUAGES[$("language").value];
  const input = sent ?? { video_url: source.address || EXAMPLE, ...settings.values };
  const { video_url } = input;
  $("code").textContent = write({ video_url, ...settings.changed(input) }, key());
  const pending = !sent && source.file ? " The file has an address once it is uploaded; until then an example stands for it." : "";
  $("code-help").textContent = help + pending;
}

async function copy() {
  try {
    await navigator.clipboard.writeText($("code").textContent);
    say("Copied.");
    $("copy").textContent = "Copied";
    setTimeout(() => ($("copy").textContent = "Copy"), 2000);
  } catch {
    getSelection().selectAllChildren($("code")); // without https, a page may only select
    say("Selected: copy it with your keyboard.");
  }
}

// A request under way

const say = (text) => ($("live").textContent = text);

function uploading(share) {
  $("stage").textContent = "Uploading";
  $("bar").value = share;
  $("figures").textContent = `${Math.round(share * 100)} %`;
}

function show(status) {
  const { status: state, progress, queue_position: position } = status;
  log(status.logs ?? []);
  if (state === "IN_QUEUE") stage("Waiting", position ? `${position} before it` : "");
  else if (progress) {
    const { stage: name, frames_done: done, frames_total: total, frames_per_second: rate, seconds_left: left } = progress;
    $("bar").max = 1;
    if (total) $("bar").value = done / total;
    const quarter = Math.floor((4 * done) / total) || 0;
    const parts = [total && `${done} of ${total} frames`, rate && `${number(rate)} frames/s`, left != null && rate && `${duration(left)} left`];
    stage(name[0].toUpperCase() + name.slice(1), parts.filter(Boolean).join(" · "), quarter);
  } else if (state === "IN_PROGRESS") stage("Reading the video", "");
}

/** Shows where a request is. Screen readers hear of a new stage and of each quarter of its frames, not of every event. */
function stage(name, figures, quarter = null) {
  if ($("stage").textContent !== name || quarter !== told) {
    $("stage").textContent = name;
    if (quarter === null) $("bar").removeAttribute("value");
    told = quarter;
    say(`${name}. ${figures}`);
  }
  $("figures").textContent = figures;
}

function log(lines) {
  for (const { message, level, timestamp } of lines) {
    const line = document.createElement("p");
    line.className = level.toLowerCase();
    line.textContent = `${new Date(timestamp).toLocaleTimeString()}  ${message}`;
    $("log").append(line);
  }
  if (lines.length) $("log").scrollTop = $("log").scrollHeight;
}

/** Runs `work`, which gets a `Request`, with the page in its state of running. */
async function run(values, name, before, work) {
  player.clear();
  for (const id of ["error", "done", "empty"]) $(id).hidden = true;
  for (const id of ["progress", "log-box"]) $(id).hidden = false;
  $("log").replaceChildren();
  $("bar").removeAttribute("value");
  $("stage").textContent = "";
  stage("Starting", "");
  const request = new Request(key(), {
    uploading,
    queued: (id, input) => {
      sent = input;
      recent.remember({ id, at: Date.now(), name, state: "running", input });
      list();
      code();
    },
    status: show,
  });
  running = request;
  list();
  refresh();
  $("result").scrollIntoView({ block: "nearest" });
  $("cancel").focus();
  let output = null;
  let problem = null;
  try {
    output = await work(request);
  } catch (error) {
    problem = error;
  }
  const cancelled = problem?.name === "AbortError" || problem?.type === "client_cancelled";
  const unknown = [0, 401, 404].includes(problem?.status); // says nothing about the request itself
  if (request.id && !unknown) recent.settle(request.id, cancelled ? "cancelled" : problem ? "failed" : "finished");
  if (output && request.seconds) recent.measured(values, output.video.num_frames / request.seconds);
  running = null;
  list();
  refresh();
  if (output) finished(output, before(output));
  else failed(cancelled ? null : problem);
}

function start() {
  if (!ready()) return;
  const values = settings.values;
  const local = source.url;
  sent = null;
  run(values, source.name, () => local, (request) => request.send(source, values));
}

function finished(output, before) {
  const { video, mask_video: mask } = output;
  $("progress").hidden = true;
  $("done").hidden = false;
  player.show(output, before);
  const facts = {
    Size: video.width && `${video.width} × ${video.height}`,
    Length: video.duration && `${video.duration.toFixed(2)} s`,
    Frames: video.num_frames && `${video.num_frames} at ${number(video.fps ?? 0)}/s`,
    File: video.file_size && bytes(video.file_size),
    Type: video.content_type,
  };
  $("facts").replaceChildren(
    ...Object.entries(facts).filter(([, value]) => value).map(([name, value]) => {
      const pair = document.createElement("div");
      pair.append(Object.assign(document.createElement("dt"), { textContent: name }), Object.assign(document.createElement("dd"), { textContent: value }));
      return pair;
    }),
  );
  $("downloads").replaceChildren(...[["Download", video], ["Download the mask", mask]].filter(([, file]) => file).map(([text, file]) => link(text, file)));
  say("Finished. The result is below.");
  $("result").focus({ preventScroll: true });
}

function link(text, file) {
  const made = Object.assign(document.createElement("a"), { textContent: text, href: file.url, download: file.file_name ?? "", className: "button" });
  made.addEventListener("click", async (event) => {
    if (made.href.startsWith("blob:")) return;
    event.preventDefault(); // files are on another port, where browsers ignore `download`
    try {
      made.href = URL.createObjectURL(await (await fetch(file.url)).blob());
      made.click();
    } catch {
      window.open(file.url, "_blank", "noopener"); // a bucket need not let pages read it
    }
  });
  return made;
}

function failed(error) {
  $("progress").hidden = true;
  if (error && !(error instanceof ServiceError)) console.error(error);
  if (!error) {
    $("empty").hidden = false;
    say("Cancelled.");
    $("start").focus();
    return;
  }
  const remedy = error.remedy ?? "Reload the page; if it happens again, report it with this message.";
  $("error").replaceChildren(
    Object.assign(document.createElement("strong"), { textContent: "That did not work. " }),
    Object.assign(document.createElement("span"), { textContent: error.message }),
    Object.assign(document.createElement("p"), { textContent: remedy }),
  );
  $("error").hidden = false;
  if (error.status === 401) {
    $("access").open = true;
    $("key").focus();
  } else $("result").focus({ preventScroll: true });
}

// Requests of this browser

function list() {
  const found = recent.requests();
  $("no-recent").hidden = found.length > 0;
  $("forget").hidden = found.length === 0;
  $("recent-list").replaceChildren(
    ...found.map((one) => {
      const item = document.createElement("li");
      const open = Object.assign(document.createElement("button"), { type: "button", textContent: "Show", disabled: Boolean(running) || !settings });
      open.setAttribute("aria-label", `Show the request for ${one.name}`);
      open.addEventListener("click", () => again(one));
      const name = Object.assign(document.createElement("span"), { className: "name", textContent: one.name });
      const state = Object.assign(document.createElement("span"), { className: `state ${one.state}`, textContent: one.state });
      const at = Object.assign(document.createElement("time"), { textContent: new Date(one.at).toLocaleString([], { dateStyle: "short", timeStyle: "short" }) });
      item.append(name, state, at, open);
      return item;
    }),
  );
}

function again(one) {
  settings.values = one.input;
  source.address = one.input.video_url ?? "";
  sent = one.input.video_url ? one.input : null;
  run(settings.values, one.name, (output) => playable(one.input.video_url, output), (request) => request.follow(one.id));
}

/** `url` if the page's policy lets it load videos from there: from this service, and from where results come from. */
function playable(url, { video }) {
  const origin = (address) => new URL(address).origin;
  return URL.canParse(url) && [BASE, video.url].map(origin).includes(origin(url)) ? url : "";
}

// Start

for (const [name, { title }] of Object.entries(LANGUAGES)) $("language").add(new Option(title, name));
$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
$("inputs").addEventListener("change", edited);
$("key").addEventListener("input", () => settings && code());
$("cancel").addEventListener("click", () => running?.cancel().catch(failed));
$("language").addEventListener("change", code);
$("copy").addEventListener("click", copy);
$("forget").addEventListener("click", () => {
  recent.forget();
  list();
  refresh();
});
list();
refresh();
try {
  const found = await contract();
  settings = new Inputs(found, $("inputs"));
  list();
  $("url-help").textContent = found.find(([name]) => name === "video_url")[1].description;
  refresh();
} catch (error) {
  failed(error);
}
