"""A model on disk: a folder with config.json (the shape of the Glow) and model.safetensors (its weights)."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from glowkit.errors import GlowkitError
from glowkit.files import replacing
from glowkit.flow import Glow, GlowConfig

BUNDLED = Path(__file__).resolve().parents[1] / "data"
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def folder_of(name: str | Path) -> Path:
    """The folder of a bundled model ("faces64") or of a path; an error lists the bundled names."""
    for folder in (BUNDLED / str(name), Path(name)):
        if (folder / CONFIG).is_file():
            return folder
    bundled = sorted(path.parent.name for path in BUNDLED.glob(f"*/{CONFIG}"))
    raise GlowkitError(
        f"{name}: no model there; give a folder with {CONFIG} and {WEIGHTS}, "
        f"or one of the bundled models: {', '.join(bundled) or 'none'}"
    )


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """One safetensors file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary, metadata)
        temporary.chmod(0o644)  # safetensors keeps its files to their owner


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; an error names a file that is missing, cut short or foreign."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except FileNotFoundError:
        raise GlowkitError(f"{path}: no such file; it should hold the tensors in safetensors format") from None
    except (SafetensorError, OSError) as error:
        raise GlowkitError(
            f"{path}: not a whole safetensors file ({error}); only that format is read, so write or copy it again"
        ) from None


def save(model: Glow, folder: str | Path, data: str, half: bool = False) -> None:
    """Writes config.json and model.safetensors to `folder`; `data` names the set that the model was trained on.

    `half` keeps the convolution kernels in float16, which halves the file: what is published is then the rounded
    model itself, and every figure reported of it has to be measured after the rounding.
    """
    folder = Path(folder)
    tensors = {
        name: tensor.half() if half and tensor.ndim == 4 else tensor for name, tensor in model.state_dict().items()
    }
    write_tensors(folder / WEIGHTS, tensors)
    with replacing(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps({"data": data, "model": model.config.as_dict()}, indent=2) + "\n")


def data_of(name: str | Path) -> str:
    """The data set that a model was trained on, as `glowkit.open_dataset` takes it."""
    return _read_config(folder_of(name))[0]


def config_of(name: str | Path) -> GlowConfig:
    """The shape of a model, without its weights."""
    return _read_config(folder_of(name))[1]


def load(name: str | Path, device: str | torch.device = "cpu") -> Glow:
    """The Glow of a bundled name ("faces64") or of a folder, in float32, ready to encode and decode."""
    folder = folder_of(name)
    _, config = _read_config(folder)
    tensors, _ = read_tensors(folder / WEIGHTS)
    model = Glow(config)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        what = " ".join(str(error).split())
        raise GlowkitError(f"{folder / WEIGHTS}: not the weights of the Glow in {CONFIG}: {what[:200]}") from None
    bad = [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]
    if bad:
        raise GlowkitError(f"{folder / WEIGHTS}: {bad[0]} is not finite everywhere; train again from an older state")
    return model.to(device).eval().requires_grad_(False)


def _read_config(folder: Path) -> tuple[str, GlowConfig]:
    path = folder / CONFIG
    try:
        content = json.loads(path.read_text())
        return str(content["data"]), GlowConfig(**content["model"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        needs = f'"data", "model": {{{", ".join(GlowConfig().as_dict())}}}'
        raise GlowkitError(f"{path}: not the config of a Glow ({error}); it needs {needs}") from None
