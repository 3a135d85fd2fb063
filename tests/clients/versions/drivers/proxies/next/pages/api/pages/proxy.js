import { createPageRouterHandler } from "@fal-ai/server-proxy/nextjs";

export default createPageRouterHandler({ allowedEndpoints: ["fal-ai/birefnet/v2/video", "fal-ai/birefnet/**"] });
