"""Strict loading of checkpoints: a hub repository or a directory of the published shape.

The published `config.json` names remote code, a wrong model type and no architecture, so the configuration
follows from the weights themselves. The library would fill missing keys with random numbers and only
report them; here any difference is an error.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from serve_app.birefnet.configuration import SWIN, BiRefNetConfig
from serve_app.birefnet.hub import WEIGHTS, LockFile, locate
from serve_app.birefnet.modeling import BiRefNetForImageSegmentation
from serve_app.birefnet.tile_orders import TileOrders
from serve_app.errors import CheckpointMismatch, CheckpointMissing
from serve_app.settings import EMBEDDED, SegmenterSettings

EMBEDDED_DIR = Path(__file__).parent / "embedded"
EMBEDDED_SIZE = 256  # the side at which the embedded checkpoint was trained to see a frame
TRAIN_ONLY = ("decoder.conv_ms_spvn_", "decoder.gdt_convs_pred_")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights that fit their network.

    max_size: the operating size is clamped to it (embedded checkpoint only).
    own_config: the configuration is written beside the weights, tile order included, as the published ones do not.
    """

    name: str
    weights: Path
    config: BiRefNetConfig
    max_size: int | None = None
    own_config: bool = False

    def digest(self) -> str:
        """SHA-256 of the weights and the configuration, in hexadecimal."""
        with self.weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        digest.update(self.config.to_json_string(use_diff=False).encode())
        return digest.hexdigest()

    def network(self, dtype: torch.dtype = torch.float32) -> BiRefNetForImageSegmentation:
        """The network with these weights, on the CPU. Raises CheckpointMismatch."""
        try:
            model, report = BiRefNetForImageSegmentation.from_pretrained(
                self.weights.parent,
                config=self.config,
                dtype=dtype,
                output_loading_info=True,
                local_files_only=True,
            )
        except (OSError, RuntimeError, SafetensorError) as error:
            raise CheckpointMismatch(f"{self.weights} cannot be loaded: {error}") from error
        problems = {
            kind: [key for key in report[kind] if not str(key).startswith(TRAIN_ONLY)]
            for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
        }
        if any(problems.values()):
            raise CheckpointMismatch(f"{self.weights} was not loaded whole: {problems}")
        loaded: BiRefNetForImageSegmentation = model.eval()
        return loaded


def find(source: str, settings: SegmenterSettings) -> Checkpoint:
    """The checkpoint "embedded", of a local directory or of a hub repository, compared with the network key by key.

    A repository is taken at the settings' `revision`, one that their `lock` names at its locked commit; `offline`
    reads the hub's cache alone. Raises CheckpointMissing (nothing there; says what to do) or CheckpointMismatch
    (keys, shapes, file).
    """
    embedded = source == EMBEDDED
    directory = EMBEDDED_DIR if embedded else _directory(source) or _from_hub(source, settings)
    shapes = _header(directory / WEIGHTS)
    config = _own_config(directory)
    own = config is not None
    if config is None:
        config = _published_config(directory, shapes)
        if settings.tile_orders and (order := TileOrders(settings.tile_orders).of(directory / WEIGHTS)):
            config.tile_order = order
    _compare(shapes, config, directory)
    name = "embedded birefnet-mini" if embedded else source
    return Checkpoint(name, directory / WEIGHTS, config, EMBEDDED_SIZE if embedded else None, own)


def _from_hub(repository: str, settings: SegmenterSettings) -> Path:
    lock = LockFile(settings.lock) if settings.lock else None
    return locate(repository, settings.revision, lock, settings.offline)


def _directory(source: str) -> Path | None:
    """The local directory that `source` names; None when it is a hub repository."""
    directory = Path(source).expanduser()
    if directory.is_dir():
        return directory
    if source.startswith(("/", ".", "~")):
        raise CheckpointMissing(f"checkpoint directory {source} does not exist: correct the profile's path")
    return None


def _header(path: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every entry, without reading the tensors."""
    if not path.is_file():
        raise CheckpointMissing(f"{path} does not exist: a checkpoint directory must hold {WEIGHTS}")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointMismatch(f"{path} is not a safetensors file: {error}. Download it again.") from error


def _own_config(directory: Path) -> BiRefNetConfig | None:
    """Our own `config.json` if there is one."""
    path = directory / "config.json"
    if path.is_file():
        try:
            written = json.loads(path.read_text())
            if written.get("model_type") == BiRefNetConfig.model_type and "backbone" in written:
                config: BiRefNetConfig = BiRefNetConfig.from_dict(written)
                return config
        except (ValueError, TypeError, AttributeError) as error:
            raise CheckpointMismatch(f"{path} is not a configuration: {error}") from error
    return None


def _published_config(directory: Path, shapes: dict[str, tuple[int, ...]]) -> BiRefNetConfig:
    """The published network that has this width."""
    width = shapes.get("bb.patch_embed.proj.weight", (0,))[0]
    for backbone, shape in SWIN.items():
        if shape.width == width:
            return BiRefNetConfig.for_backbone(backbone)
    raise CheckpointMismatch(
        f"{directory / WEIGHTS} is no BiRefNet checkpoint known here: bb.patch_embed.proj.weight must be "
        f"{[s.width for s in SWIN.values()]} wide, found {width or 'none'}"
    )


def _compare(shapes: dict[str, tuple[int, ...]], config: BiRefNetConfig, directory: Path) -> None:
    """Every entry of the network must be in the file with its shape, and nothing else may be."""
    with torch.device("meta"):
        expected = {k: tuple(v.shape) for k, v in BiRefNetForImageSegmentation(config).state_dict().items()}
    missing = sorted(k for k in expected.keys() - shapes.keys() if not k.startswith(TRAIN_ONLY))
    unexpected = sorted(shapes.keys() - expected.keys())
    shared = expected.keys() & shapes.keys()
    wrong = sorted(f"{k}: {shapes[k]} instead of {expected[k]}" for k in shared if shapes[k] != expected[k])
    found = {"missing": missing, "unexpected": unexpected, "of another shape": wrong}
    summary = "; ".join(f"{len(keys)} {kind} ({', '.join(keys[:3])})" for kind, keys in found.items() if keys)
    if summary:
        raise CheckpointMismatch(f"{directory / WEIGHTS} does not fit {config.backbone}: {summary}")
