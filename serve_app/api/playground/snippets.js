// The request as code. A key stays out of it: the code reads FAL_KEY.

import { BASE, ENDPOINT } from "./api.js";

const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const indented = (text, by) => text.replaceAll("\n", "\n" + " ".repeat(by));

function python(input) {
  const value = (of) => (of === true ? "True" : of === false ? "False" : JSON.stringify(of));
  return `{\n${Object.entries(input).map(([name, of]) => `    ${JSON.stringify(name)}: ${value(of)},`).join("\n")}\n}`;
}

const FLAGS = {
  model: (value) => ["--model", shell(value)],
  operating_resolution: (value) => ["--resolution", value],
  output_mask: (value) => (value ? ["--mask"] : []),
  refine_foreground: (value) => (value ? [] : ["--no-refine"]),
  video_quality: (value) => ["--quality", value],
  video_write_mode: (value) => ["--write-mode", value],
};

export const LANGUAGES = {
  curl: {
    title: "curl",
    code: (input, key) =>
      [
        `curl --silent --show-error --request POST --url ${shell(BASE + ENDPOINT)}`,
        ...(key ? [`--header "Authorization: Key $FAL_KEY"`] : []),
        "--header 'Content-Type: application/json'",
        `--data ${shell(JSON.stringify(input, null, 2))}`,
      ].join(" \\\n  "),
    help: "Waits until the video is finished, and prints the result with its address.",
  },
  python: {
    title: "Python",
    code: (input, key) => `import json
${key ? "import os\n" : ""}import urllib.request

arguments = ${python(input)}
request = urllib.request.Request(
    ${JSON.stringify(BASE + ENDPOINT)},
    data=json.dumps(arguments).encode(),
    headers={"Content-Type": "application/json"${key ? ', "Authorization": "Key " + os.environ["FAL_KEY"]' : ""}},
)
with urllib.request.urlopen(request) as reply:
    result = json.load(reply)
print(result["video"]["url"])
`,
    help: "Needs nothing but Python. With the official fal-client: see docs/2-clients.md.",
  },
  javascript: {
    title: "JavaScript",
    code: (input, key) => `import { fal } from "@fal-ai/client";

fal.config({
  credentials: ${key ? "process.env.FAL_KEY" : '"any:key"'},
  proxyUrl: { url: ${JSON.stringify(BASE + "/api/fal/proxy")}, when: "always" },
});

const result = await fal.subscribe(${JSON.stringify(ENDPOINT.slice(1))}, {
  input: ${indented(JSON.stringify(input, null, 2), 2)},
});
console.log(result.data.video.url);
`,
    help: "Needs npm install @fal-ai/client.",
  },
  shell: {
    title: "Command line",
    code: (input) => {
      const { video_url: source, video_output_type: type = "X264 (.mp4)", ...others } = input;
      const extension = type.match(/\.(\w+)/)[1];
      const flags = Object.entries(others).flatMap(([name, value]) => FLAGS[name]?.(value) ?? []);
      return [`birefnet-serve remove ${shell(source)}`, `-o subject.${extension} --type ${extension}`, ...(flags.length ? [flags.join(" ")] : []), `--server ${shell(BASE)}`].join(" \\\n  ");
    },
    help: "Saves the finished video. It takes a key from FAL_KEY, and has no options for sync_mode and drop_audio.",
  },
};
