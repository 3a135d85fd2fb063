import { serve } from "@hono/node-server";
import { createRouteHandler } from "@fal-ai/server-proxy/hono";
import { Hono } from "hono";

const handler = createRouteHandler({ allowedEndpoints: ["fal-ai/birefnet/v2/video", "fal-ai/birefnet/**"] });
serve({ fetch: new Hono().all("/api/fal/proxy", handler).fetch, hostname: "127.0.0.1", port: Number(process.env.PORT) });
