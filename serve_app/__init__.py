"""Self-hosted video background removal: BiRefNet behind Ray Serve, or in this process.

`from serve_app import remove_background, cutouts` loads what these two need on their first use: the processes of a
service import this package too, and pay for none of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from serve_app.in_process.files import remove_background
    from serve_app.in_process.frames import CutoutFrame, cutouts
else:
    _MODULES = {"remove_background": "files", "cutouts": "frames", "CutoutFrame": "frames"}

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.in_process.{_MODULES[name]}"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = ["CutoutFrame", "cutouts", "remove_background"]
