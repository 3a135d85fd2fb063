"""The network: `from serve_app.birefnet import BiRefNetConfig, BiRefNetForImageSegmentation`.

Both classes are loaded on first use, because torch and transformers come with them: a process that
wants the table of variants alone imports `serve_app.birefnet.variants` and pays for neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve_app.birefnet.configuration import BiRefNetConfig
    from serve_app.birefnet.modeling import BiRefNetForImageSegmentation
else:
    _MODULES = {"BiRefNetConfig": "configuration", "BiRefNetForImageSegmentation": "modeling"}

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = ["BiRefNetConfig", "BiRefNetForImageSegmentation"]
