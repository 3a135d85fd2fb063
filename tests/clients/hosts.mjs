// Points the official client at this service, for which it has no setting. Loaded before a program by
// `node --import ./hosts.mjs`, so that the program itself stays as the vendor documents it.
//
// FAL_RUN_URL, FAL_QUEUE_URL, FAL_REST_URL: what https://fal.run, https://queue.fal.run, https://rest.fal.ai stand for.
// FAL_MODE: middleware (the client's documented hook for requests), fetch (a custom fetch) or proxy (its documented
// setting for a proxy, at FAL_PROXY_URL).
import { fal } from "@fal-ai/client";

const { FAL_RUN_URL, FAL_QUEUE_URL, FAL_REST_URL, FAL_PROXY_URL, FAL_MODE = "middleware" } = process.env;
const bases = [
  ["https://fal.run/", `${FAL_RUN_URL}/`],
  ["https://queue.fal.run/", `${FAL_QUEUE_URL}/`],
  ["https://rest.fal.ai/", `${FAL_REST_URL}/`],
];

const here = (url) => {
  const [from, to] = bases.find(([from]) => url.startsWith(from)) ?? ["", ""];
  return to + url.slice(from.length);
};

if (FAL_MODE === "fetch") {
  fal.config({ fetch: (url, options) => fetch(here(String(url)), options) });
} else if (FAL_MODE === "proxy") {
  fal.config({ proxyUrl: { url: FAL_PROXY_URL, when: "always" } });
} else {
  fal.config({ requestMiddleware: async (request) => ({ ...request, url: here(request.url) }) });
}
