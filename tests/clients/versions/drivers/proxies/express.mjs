import express from "express";
import { createHandler } from "@fal-ai/server-proxy/express";

const handler = createHandler({ allowedEndpoints: ["fal-ai/birefnet/v2/video", "fal-ai/birefnet/**"] });
express().all("/api/fal/proxy", express.json(), handler).listen(Number(process.env.PORT), "127.0.0.1");
