// The settings: one control for each input of the contract, with the contract's own texts.

import { title } from "./words.js";

// Over a checkerboard there is something to see only where the output is transparent.
const PRESET = { video_output_type: "VP9 (.webm)" };

function control(name, schema) {
  const field = document.createElement("div");
  const label = document.createElement("label");
  const help = document.createElement("p");
  const code = document.createElement("code");
  const flag = schema.type === "boolean";
  const input = document.createElement(flag ? "input" : "select");
  field.className = flag ? "field flag" : "field";
  input.id = label.htmlFor = name;
  help.id = `${name}-help`;
  help.className = "help";
  help.textContent = schema.description;
  input.setAttribute("aria-describedby", help.id);
  code.textContent = name;
  label.append(title(name), " ", code);
  if (flag) {
    input.type = "checkbox";
    input.checked = schema.default;
    field.append(input, label, help);
  } else {
    for (const value of schema.enum) input.add(new Option(value, value));
    input.value = PRESET[name] ?? schema.default;
    field.append(label, input, help);
  }
  if (PRESET[name]) help.append(` The endpoint's own default is ${schema.default}.`);
  return { field, read: () => (flag ? input.checked : input.value), write: (value) => (flag ? (input.checked = value) : (input.value = value)) };
}

export class Inputs {
  /** `schemas`: the contract's inputs; all but the video itself become controls in `place`. */
  constructor(schemas, place) {
    this.schemas = schemas.filter(([name]) => name !== "video_url");
    this.controls = new Map(this.schemas.map(([name, schema]) => [name, control(name, schema)]));
    place.replaceChildren(...[...this.controls.values()].map(({ field }) => field));
  }

  /** Every setting by name. */
  get values() {
    return Object.fromEntries([...this.controls].map(([name, { read }]) => [name, read()]));
  }

  set values(values) {
    for (const [name, value] of Object.entries(values)) this.controls.get(name)?.write(value);
  }

  /** The settings of `values` that differ from the endpoint's defaults. */
  changed(values = this.values) {
    return Object.fromEntries(
      this.schemas.filter(([name, schema]) => values[name] !== schema.default).map(([name]) => [name, values[name]]),
    );
  }
}
