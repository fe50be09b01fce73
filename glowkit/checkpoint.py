"""A model on disk: a folder with config.json (its kind and shape) and model.safetensors (its weights)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from glowkit import bundled, fields
from glowkit.ablations import Ablation, AblationConfig
from glowkit.autoregressive import Autoregressive, AutoregressiveConfig
from glowkit.errors import GlowkitError
from glowkit.files import expanded, replacing, scratch
from glowkit.flow import Glow, GlowConfig
from glowkit.image_flow import ImageFlow
from glowkit.linear import LinearConfig, LinearFlow

BUNDLED = bundled.root() / "data"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
Config = GlowConfig | LinearConfig | AutoregressiveConfig
CONFIG_BYTES = 10**6  # of config.json, at most


def folder_of(name: str | Path) -> Path:
    """The folder of a bundled model ("faces64") or of a path; an error lists the bundled names."""
    own = expanded(name)
    here = (own / CONFIG).is_file()
    if str(name) in bundled.models():
        if here and not own.samefile(BUNDLED / name):
            raise GlowkitError(f"{name}: the name of a bundled model and of a folder with one; give ./{name} for that")
        return BUNDLED / name
    if here:
        return own
    raise GlowkitError(
        f"{name}: no model there; give a folder with {CONFIG} and {WEIGHTS}, "
        f"or one of the bundled models: {', '.join(bundled.models()) or f'none, as {BUNDLED} has none'}"
    )


# ------------------------------------------------------------------------------------------------------- tensors


@dataclass(frozen=True)
class Form:
    """What a stored tensor has to be; that floats are finite goes without saying.

    A letter in `shape` stands for any length, the same wherever it is in the file. `rule` is a condition on the values
    and `words` say it.
    """

    shape: tuple[int | str, ...]
    dtypes: tuple[torch.dtype, ...]
    rule: Callable[[Tensor], bool | Tensor] = lambda tensor: True
    words: str = ""
    optional: bool = False


# By the last part of a tensor's name.
RULES: dict[str, tuple[Callable[[Tensor], bool | Tensor], str]] = {
    "permutation": (lambda t: torch.equal(t.sort().values, torch.arange(len(t))), "a permutation of its places"),
    "sign": (lambda t: (t.abs() == 1).all(), "+1 or -1 everywhere"),
    **dict.fromkeys(("variances", "rest"), (lambda t: (t > 0).all(), "positive everywhere")),
    **dict.fromkeys(
        ("exp_avg_sq", "running_var", "num_batches_tracked"), (lambda t: (t >= 0).all(), "nowhere negative")
    ),
}


def forms_of(tensors: Mapping[str, Tensor], half: Callable[[Tensor], bool] = lambda tensor: False) -> dict[str, Form]:
    """Tensors such as these, and float16 where `half` allows it."""
    return {
        name: Form(
            tuple(tensor.shape),
            (tensor.dtype, torch.float16) if half(tensor) else (tensor.dtype,),
            *RULES.get(name.rpartition(".")[2], ()),
        )
        for name, tensor in tensors.items()
    }


def check_tensors(tensors: Mapping[str, Tensor], forms: Mapping[str, Form]) -> None:
    """Raises GlowkitError for the first tensor that is not as `forms` says, that is missing or that is none of them."""
    lengths: dict[str, int] = {}
    for name, form in forms.items():
        if name not in tensors:
            if form.optional:
                continue
            raise GlowkitError(f"{name} is missing")
        tensor = tensors[name]
        if tensor.dtype not in form.dtypes:
            raise GlowkitError(f"{name} is of {tensor.dtype}, not {form.dtypes[0]}")
        shape = tuple(tensor.shape)
        if len(shape) == len(form.shape):
            for length, letter in zip(shape, form.shape, strict=True):
                if isinstance(letter, str):
                    lengths.setdefault(letter, length)
        wanted = tuple(lengths.get(length, length) for length in form.shape)
        if shape != wanted:
            raise GlowkitError(f"{name} has the shape {shape}, not {wanted}".replace("'", ""))
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise GlowkitError(f"{name} is not finite everywhere")
        if not form.rule(tensor):
            raise GlowkitError(f"{name} must be {form.words}")
    if unknown := sorted(set(tensors) - set(forms)):
        raise GlowkitError(f"{unknown[0][:100]!r} is none of its tensors")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """One safetensors file, whole or not at all; not at all where a float is not finite."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise GlowkitError(f"{path}: not written, for {name} is not finite everywhere")
    # safetensors writes to a temporary name of its own before it renames.
    with scratch(path) as folder:
        file = folder / path.name
        try:
            save_file(tensors, file, metadata)
        except SafetensorError as error:
            raise GlowkitError(f"{path}: not written: {error}") from None
        file.chmod(0o644)  # safetensors keeps its files to their owner
        os.replace(file, path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; an error names a file that is missing, cut short or foreign."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except FileNotFoundError:
        raise GlowkitError(f"{path}: no such file; it should hold the tensors in safetensors format") from None
    except (SafetensorError, OSError, AttributeError) as error:  # the last for a dtype that torch has not
        raise GlowkitError(
            f"{path}: not a whole safetensors file ({error}); only that format is read, so write or copy it again"
        ) from None


def read_about(
    metadata: Mapping[str, str], key: str, kinds: Mapping[str, fields.Kind], optional: Iterable[str] = ()
) -> dict[str, Any]:
    """The JSON table under `key` of a file's metadata, with all that `kinds` names but for what is optional.

    Raises GlowkitError, without the file's name.
    """
    try:
        about = fields.from_json(metadata[key])
    except KeyError:
        raise GlowkitError(f"its metadata have no {key!r}") from None
    except ValueError as error:
        raise GlowkitError(f"its metadata {key!r} are no JSON: {error}") from None
    fields.check(about, kinds, f"{key}.", set(kinds) - set(optional))
    return about


# --------------------------------------------------------------------------------------------------------- models


class Kind(NamedTuple):
    """A kind of model: what makes it, its shape, and which weights may be kept in float16."""

    model: type[ImageFlow]
    config: type[Config]
    half: Callable[[Tensor], bool]


# As `kind` in config.json names them; without it, it is a Glow.
KINDS = {
    "glow": Kind(Glow, GlowConfig, lambda tensor: tensor.ndim == 4),
    "ablation": Kind(Ablation, AblationConfig, lambda tensor: tensor.ndim == 4),
    "linear": Kind(LinearFlow, LinearConfig, lambda tensor: False),
    "autoregressive": Kind(Autoregressive, AutoregressiveConfig, lambda tensor: False),
}
CONTENT = {"kind": fields.OneOf(tuple(KINDS)), "data": fields.Text(), "model": fields.Table()}


def weights_hash(folder: Path) -> str:
    """The SHA-256 sum of a model's weights, by which what was made from them knows them."""
    try:
        return sha256(folder / WEIGHTS)
    except FileNotFoundError:
        raise GlowkitError(f"{folder / WEIGHTS}: no such file; it should hold the weights of the model") from None


def sha256(path: Path) -> str:
    """The SHA-256 sum of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_weights(folder: Path, made_from: str) -> None:
    """Raises GlowkitError if the model in `folder` is not the one that something was made from."""
    if made_from != weights_hash(folder):
        raise GlowkitError(f"it was made from other weights than {WEIGHTS} holds")


def save(model: ImageFlow, folder: str | Path, data: str, half: bool = False) -> None:
    """Writes config.json and model.safetensors to `folder`; `data` names the set that the model was trained on.

    `half` keeps a Glow's convolution kernels in float16, which halves the file: what is published is then the rounded
    model itself, and every figure reported of it has to be measured after the rounding.
    """
    folder = expanded(folder)
    name, kind = _kind_of(model.config)
    tensors = {
        key: tensor.half() if half and kind.half(tensor) else tensor for key, tensor in model.state_dict().items()
    }
    write_tensors(folder / WEIGHTS, tensors)
    content = {"data": data, "model": model.config.as_dict()}
    with replacing(folder / CONFIG) as temporary:
        text = json.dumps(content if name == "glow" else {"kind": name, **content}, indent=2)
        temporary.write_text(text + "\n", encoding="utf-8")


def data_of(name: str | Path) -> str:
    """The data set that a model was trained on, as `glowkit.open_dataset` takes it."""
    return _read_config(folder_of(name))[0]


def config_of(name: str | Path) -> Config:
    """The shape of a model, without its weights."""
    return _read_config(folder_of(name))[1]


def make(config: Config) -> ImageFlow:
    """An untrained model of this shape."""
    return _kind_of(config)[1].model(config)


def load(name: str | Path, device: str | torch.device = "cpu") -> ImageFlow:
    """The model of a bundled name ("faces64") or of a folder, in float32, ready to encode and decode: a Glow, mostly.

    Raises GlowkitError if there is no model, or if its files are not those of one that works.

    >>> model = glowkit.load("faces64")
    >>> x = glowkit.open_dataset("faces64").images([0, 1])
    >>> z = model.encode(x)  # at bin centres
    >>> z.shape
    torch.Size([2, 12288])
    >>> bool((model.decode(z) - model.quantise(x)).abs().max() < 1e-4)  # exact, up to rounding
    True
    """
    folder = folder_of(name)
    _, config = _read_config(folder)
    kind = _kind_of(config)[1]
    tensors, _ = read_tensors(folder / WEIGHTS)
    try:
        # Before a model is made that the weights could not fill.
        if (held := sum(tensor.numel() for tensor in tensors.values())) < config.parameters:
            raise GlowkitError(f"{held:,} numbers, of at least {config.parameters:,}")
        model = kind.model(config)
        check_tensors(tensors, forms_of(model.state_dict(), kind.half))
    except GlowkitError as error:
        raise GlowkitError(
            f"{folder / WEIGHTS}: not the weights of the {kind.model.__name__} in {CONFIG}: {error}"
        ) from None
    model.load_state_dict(tensors)
    return model.to(device).eval().requires_grad_(False)


def kind_of(config: Config) -> str:
    """One of KINDS, which this is the shape of."""
    return _kind_of(config)[0]


def _kind_of(config: Config) -> tuple[str, Kind]:
    return next((name, kind) for name, kind in KINDS.items() if type(config) is kind.config)


def _read_config(folder: Path) -> tuple[str, Config]:
    path, kind = folder / CONFIG, KINDS["glow"]
    try:
        with path.open("rb") as file:
            text = file.read(CONFIG_BYTES + 1)
        if len(text) > CONFIG_BYTES:
            raise ValueError(f"more than {CONFIG_BYTES:,} bytes")
        content = fields.from_json(text)
        fields.check(content, CONTENT, "", required=("data", "model"))
        kind = KINDS[content.get("kind", "glow")]
        fields.check(content["model"], kind.config.kinds, "model.", required=kind.config.kinds)
        return content["data"], kind.config(**content["model"])
    except ValueError as error:
        needs = f'"data", "model": {{{", ".join(kind.config.kinds)}}}'
        raise GlowkitError(f"{path}: not the config of a {kind.model.__name__} ({error}); it needs {needs}") from None
