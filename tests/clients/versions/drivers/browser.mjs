// The same for a page: bundled, it gives the page the function `attempt`.
import * as client from "@fal-ai/client";
import { attempt } from "./functions.mjs";

globalThis.attempt = (name, clips) => attempt(client.fal, name, clips);
