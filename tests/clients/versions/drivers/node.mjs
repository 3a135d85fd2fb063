// Tries a function of the official client in Node and prints the outcome as one line of JSON.
//   PACKAGE=@fal-ai/client node --import ./names.mjs node.mjs FUNCTION SHORT_CLIP_URL LONG_CLIP_URL
// PROXY_URL: a proxy of @fal-ai/server-proxy through which the client is to go.
import { createRequire } from "node:module";
import { attempt } from "./functions.mjs";

const { PACKAGE, PROXY_URL } = process.env;
const [name, short, long] = process.argv.slice(2);
const client = createRequire(import.meta.url)(PACKAGE);
const config = PROXY_URL ? { proxyUrl: { url: PROXY_URL, when: "always" } } : {};
console.log(JSON.stringify(await attempt(client.fal ?? client, name, { short, long }, config)));
process.exit();
