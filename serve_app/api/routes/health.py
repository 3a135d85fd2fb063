"""`/health`: whether the service accepts requests."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from serve_app.api.openapi import error_replies, response
from serve_app.api.services import Services


class Health(BaseModel):
    """The service and its job table respond. `jobs` counts the jobs by state."""

    status: Literal["ok"]
    jobs: dict[str, int]


def health_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["service"])

    @router.get(
        "/health",
        summary="Whether the service accepts requests",
        responses={200: response(Health, "It accepts requests."), **error_replies()},
    )
    async def health() -> JSONResponse:
        counts = await services.store.counts()
        return JSONResponse({"status": "ok", "jobs": {state.value.lower(): n for state, n in counts.items()}})

    return router
