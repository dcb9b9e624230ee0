"""The layouts of checkpoints that training programs write, each made from a trained model. The models are tiny."""

from __future__ import annotations

import argparse
import datetime
import json
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

State = dict[str, Any]

FILE = "c.pt"


class Net(nn.Module):
    """A part in a Sequential, one with statistics, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 5))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.encoder(x)))


class Tied(nn.Module):
    """A language model's embedding, which is also its output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 4, bias=False)
        self.body = nn.Linear(4, 4)
        self.out = nn.Linear(4, 4, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.out(self.body(self.embed(x)).tanh()))


class Normed(nn.Module):
    """Parts whose parameters have other names in older files."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.LayerNorm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.LayerNorm(self.first(x)))


def older(state: Mapping[str, Tensor]) -> State:
    """The names that weight_norm had before PyTorch 2, and LayerNorm in converted files."""
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, old in {**names, "LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}.items():
        state = inside(state, new, old)
    return dict(state)


class Wrapped(nn.Module):
    """A module whose names all start with ``net.``."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.net(x))


@dataclass(frozen=True)
class Layout:
    """How a state_dict is stored.

    Attributes:
        write: stores it in a folder and returns the pattern of the checkpoint, relative to the folder.
        model: the class of the model.
        key, allow: ``checkpoints.key`` and ``checkpoints.allow``.
    """

    write: Callable[[Path, State], str]
    model: type[nn.Module] = Net
    key: str | None = None
    allow: tuple[str, ...] = ()


def other(state: Mapping[str, Tensor]) -> State:
    """Weights of the same names and shapes with other values."""
    return {name: value + 1 if value.is_floating_point() else value for name, value in state.items()}


def prefixed(state: Mapping[str, Any], prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


def inside(state: Mapping[str, Any], old: str, new: str) -> State:
    return {name.replace(old, new): value for name, value in state.items()}


def saved(content: Callable[[State], object], name: str = FILE) -> Callable[[Path, State], str]:
    def write(folder: Path, state: State) -> str:
        torch.save(content(state), folder / name)
        return name

    return write


def optimizer_state(state: Mapping[str, Tensor]) -> dict[str, Any]:
    moments = {
        i: {"step": torch.tensor(9.0), "exp_avg": value * 0, "exp_avg_sq": value * 0} for i, value in enumerate(state.values())
    }
    return {"state": moments, "param_groups": [{"lr": 1e-3, "params": list(moments)}]}


def lightning(state: Mapping[str, Tensor], **more: Any) -> dict[str, Any]:
    """What Lightning's Trainer writes, with the callbacks ModelCheckpoint and EarlyStopping."""
    checkpoint = {
        "monitor": "val_loss",
        "best_model_score": torch.tensor(0.3),
        "best_k_models": {"epoch=1.ckpt": torch.tensor(0.3)},
        "dirpath": "lightning_logs",
    }
    return {
        "epoch": 3,
        "global_step": 40,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": OrderedDict(state),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}, "current": {"ready": 4}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": checkpoint, "EarlyStopping": {"wait_count": 0}},
        "optimizer_states": [optimizer_state(state)],
        "lr_schedulers": [{"last_epoch": 4, "_step_count": 5}],
        "MixedPrecision": {"scale": 65536.0},
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "data": Path("data"), "seen": {1, 2}, "when": datetime.date(2024, 1, 2)},
        **more,
    }


def trainer(folder: Path, state: Mapping[str, Tensor]) -> str:
    """A folder of the Hugging Face Trainer; the weights are written by the caller."""
    inner = folder / "out" / "checkpoint-20"
    inner.mkdir(parents=True)
    torch.save(optimizer_state(state), inner / "optimizer.pt")
    torch.save({"last_epoch": 2}, inner / "scheduler.pt")
    torch.save({"python": (3, (1, 2), None), "numpy": np.zeros(3)}, inner / "rng_state.pth")
    torch.save(argparse.Namespace(learning_rate=1.0), inner / "training_args.bin")
    for name in ("config.json", "trainer_state.json", "tokenizer.json"):
        (inner / name).write_text("{}")
    return "out/checkpoint-*"


def trainer_safetensors(folder: Path, state: State) -> str:
    pattern = trainer(folder, state)
    save_file(state, folder / "out" / "checkpoint-20" / "model.safetensors")
    return pattern


def trainer_bin(folder: Path, state: State) -> str:
    pattern = trainer(folder, state)
    torch.save(state, folder / "out" / "checkpoint-20" / "pytorch_model.bin")
    return pattern


def trainer_both(folder: Path, state: State) -> str:
    trainer_bin(folder, state)
    return trainer_safetensors_into(folder, state)


def trainer_safetensors_into(folder: Path, state: State) -> str:
    save_file(state, folder / "out" / "checkpoint-20" / "model.safetensors")
    return "out/checkpoint-*"


def sharded(folder: Path, state: State, suffix: str, inner: str = "out/checkpoint-20") -> Path:
    place = folder / inner
    place.mkdir(parents=True, exist_ok=True)
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    names = list(state)
    shards = {f"{stem}-00001-of-00002.{suffix}": names[:3], f"{stem}-00002-of-00002.{suffix}": names[3:]}
    for file, held in shards.items():
        part = {name: state[name] for name in held}
        save_file(part, place / file) if suffix == "safetensors" else torch.save(part, place / file)
    index = place / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {name: file for file, held in shards.items() for name in held}}))
    return place


def sharded_folder(suffix: str) -> Callable[[Path, State], str]:
    def write(folder: Path, state: State) -> str:
        trainer(folder, state)
        sharded(folder, state, suffix)
        return "out/checkpoint-*"

    return write


def sharded_index(folder: Path, state: State) -> str:
    sharded(folder, state, "safetensors")
    return "out/*/*.index.json"


def sharded_files(folder: Path, state: State) -> str:
    sharded(folder, state, "safetensors")
    return "out/*/*.safetensors"


def distributed(content: Callable[[State], dict[str, Any]], inner: str = "step_100") -> Callable[[Path, State], str]:
    def write(folder: Path, state: State) -> str:
        import torch.distributed.checkpoint as dcp

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.save(content(state), checkpoint_id=folder / inner)
        return inner.split("/")[0]

    return write


def lightning_distributed(folder: Path, state: State) -> str:
    """Lightning's folder for FSDP: a distributed checkpoint with a file of everything else beside it."""
    pattern = distributed(
        lambda one: {"state_dict": prefixed(one, "model."), "optimizer_0": optimizer_state(one)}, "last.ckpt"
    )(folder, state)
    torch.save({"epoch": 3, "hyper_parameters": {}}, folder / "last.ckpt" / "meta.pt")
    return pattern


def deepspeed(folder: Path, state: State) -> str:
    place = folder / "ds" / "global_step20"
    place.mkdir(parents=True)
    (folder / "ds" / "latest").write_text("global_step20")
    torch.save({"module": state, "optimizer": None, "ds_version": "0.16"}, place / "mp_rank_00_model_states.pt")
    return "ds"


def whole_model_state(state: State) -> State:
    """The state_dict of AveragedModel around the model."""
    return {"n_averaged": torch.tensor(5), **prefixed(state, "module.")}


def legacy(folder: Path, state: State) -> str:
    torch.save(state, folder / "c.pth.tar", _use_new_zipfile_serialization=False)
    return "c.pth.tar"


def safetensors(name: str, change: Callable[[State], State] = dict) -> Callable[[Path, State], str]:
    def write(folder: Path, state: State) -> str:
        save_file(change(state), folder / name)
        return name

    return write


def without(state: State, *ends: str) -> State:
    return {name: value for name, value in state.items() if not name.endswith(ends)}


class Config:
    """A class of the user, beside the weights."""

    def __init__(self, width: int) -> None:
        self.width = width


LAYOUTS: dict[str, Layout] = {
    # One file, flat names.
    "plain": Layout(saved(dict)),
    "bin": Layout(saved(dict, "pytorch_model.bin")),
    "ckpt": Layout(saved(dict, "epoch=3-step=40.ckpt")),
    "no suffix": Layout(saved(dict, "checkpoint_best")),
    "legacy format": Layout(legacy),
    "safetensors": Layout(safetensors("c.safetensors")),
    "safetensors called bin": Layout(safetensors("c.bin")),
    "torch.save called safetensors": Layout(saved(dict, "c.safetensors")),
    "parameters instead of tensors": Layout(
        saved(lambda state: {n: nn.Parameter(v, v.is_floating_point()) for n, v in state.items()})
    ),
    "half precision": Layout(saved(lambda state: {n: v.double() if v.is_floating_point() else v for n, v in state.items()})),
    "NumPy arrays": Layout(saved(lambda state: {name: value.numpy() for name, value in state.items()})),
    "numbers among the weights": Layout(saved(lambda state: {**state, "epoch": 3, "best": np.float64(0.5), "lr": 0.1})),
    # Names of wrappers.
    "DataParallel": Layout(saved(lambda state: prefixed(state, "module."))),
    "compiled": Layout(saved(lambda state: prefixed(state, "_orig_mod."))),
    "compiled DataParallel": Layout(saved(lambda state: prefixed(state, "module._orig_mod."))),
    "DataParallel of compiled, twice": Layout(saved(lambda state: prefixed(state, "_orig_mod.module._orig_mod."))),
    "activation checkpointing": Layout(saved(lambda state: inside(state, "encoder.", "encoder._checkpoint_wrapped_module."))),
    "FSDP": Layout(saved(lambda s: prefixed(inside(s, "head.", "head._fsdp_wrapped_module."), "_fsdp_wrapped_module."))),
    "a compiled part": Layout(saved(lambda state: inside(state, "encoder.0.", "encoder.0._orig_mod."))),
    "Opacus": Layout(saved(lambda state: prefixed(state, "_module."))),
    "Fabric": Layout(saved(lambda state: prefixed(state, "_forward_module."))),
    "AveragedModel": Layout(saved(whole_model_state)),
    # Keys.
    **{
        f"key {name}": Layout(saved(lambda state, name=name: {name: state, "epoch": 3, "optimizer": optimizer_state(state)}))  # type: ignore[misc]
        for name in ("model", "net", "model_state", "model_state_dict", "state_dict", "weights", "params", "ema", "my_own_key")
    },
    "nested key": Layout(saved(lambda state: {"state": {"model": state, "step": 4}, "args": {"lr": 0.1}})),
    "key and DataParallel": Layout(saved(lambda s: {"model_state_dict": prefixed(s, "module."), "loss": np.float32(1)})),
    "key with a dot": Layout(saved(lambda state: {"model.ema": state, "epoch": 1})),
    "a list": Layout(saved(lambda state: [state, optimizer_state(state), 3])),
    "EMA by key": Layout(saved(lambda s: {"model": other(s), "ema": whole_model_state(s)}), key="ema"),
    "raw weights by key": Layout(saved(lambda s: {"model": s, "ema": whole_model_state(other(s))}), key="model"),
    "nested EMA by key": Layout(saved(lambda s: {"state": {"model": other(s), "model_ema": s}}), key="state.model_ema"),
    "EMA of equal values": Layout(saved(lambda state: {"model": state, "ema": {n: v.clone() for n, v in state.items()}})),
    "flat EMA by key": Layout(saved(lambda s: {**prefixed(other(s), "model."), **prefixed(s, "ema_model.")}), key="ema_model"),
    # Lightning.
    "Lightning, model.": Layout(saved(lambda state: lightning(prefixed(state, "model.")), "last.ckpt")),
    "Lightning, net.": Layout(saved(lambda state: lightning(prefixed(state, "net.")), "last.ckpt")),
    "Lightning, no prefix": Layout(saved(lightning, "last.ckpt")),
    "Lightning, a loss beside the model": Layout(
        saved(lambda s: lightning({**prefixed(s, "model."), "loss_fn.weight": torch.ones(3)}), "last.ckpt")
    ),
    "Lightning, a loss and metrics among the names": Layout(
        saved(lambda s: lightning({**s, "criterion.weight": torch.ones(3), "val_acc.tp": torch.ones(3)}), "last.ckpt")
    ),
    "Lightning, compiled": Layout(saved(lambda state: lightning(prefixed(state, "model._orig_mod.")), "last.ckpt")),
    "Lightning, EMA by key": Layout(
        saved(lambda s: lightning({**prefixed(other(s), "model."), **prefixed(whole_model_state(s), "ema.")}), "last.ckpt"),
        key="state_dict.ema",
    ),
    "Lightning, a class in hyper_parameters": Layout(
        saved(lambda s: lightning(prefixed(s, "model."), hyper_parameters={"args": argparse.Namespace(lr=1.0)}), "last.ckpt"),
        allow=("argparse.Namespace",),
    ),
    "Lightning, FSDP folder": Layout(lightning_distributed),
    # GANs and other models in the same file.
    "GAN": Layout(
        saved(
            lambda s: {
                "generator": {"0.weight": torch.ones(4, 4), "0.bias": torch.ones(4)},
                "discriminator": prefixed(s, "module."),
            }
        )
    ),
    "flat GAN": Layout(saved(lambda s: {**prefixed(s, "discriminator."), "generator.0.weight": torch.ones(4, 4)})),
    "teacher of another size": Layout(
        saved(lambda s: {"student": s, "teacher": {n: torch.cat([v, v]) if v.dim() else v for n, v in s.items()}})
    ),
    # Folders.
    "Trainer, safetensors": Layout(trainer_safetensors),
    "Trainer, bin": Layout(trainer_bin),
    "Trainer, both formats": Layout(trainer_both),
    "Trainer, sharded safetensors": Layout(sharded_folder("safetensors")),
    "Trainer, sharded bin": Layout(sharded_folder("bin")),
    "index": Layout(sharded_index),
    "shards by a pattern": Layout(sharded_files),
    "distributed": Layout(distributed(dict)),
    "distributed, key and optimizer": Layout(distributed(lambda s: {"model": s, "optim": optimizer_state(s), "step": 7})),
    "distributed, FSDP names": Layout(distributed(lambda s: {"app": {"model": prefixed(s, "_fsdp_wrapped_module.")}})),
    "Trainer, FSDP": Layout(distributed(lambda s: {"model": s}, "out/pytorch_model_fsdp_0")),
    "DeepSpeed": Layout(deepspeed),
    # Names that are missing.
    "no num_batches_tracked": Layout(saved(lambda state: without(state, "num_batches_tracked"))),
    "no output layer, which is tied": Layout(saved(lambda state: without(state, "out.weight")), Tied),
    "no embedding, which is tied": Layout(saved(lambda state: without(state, "embed.weight")), Tied),
    "tied, DataParallel": Layout(saved(lambda state: {"model": prefixed(without(state, "out.weight"), "module.")}), Tied),
    # Older names.
    "older names of parameters": Layout(saved(older), Normed),
    "older names, DataParallel": Layout(saved(lambda state: {"net": prefixed(older(state), "module.")}), Normed),
    # The model's own prefix.
    "without the prefix of the model": Layout(saved(lambda state: inside(state, "net.", "")), Wrapped),
    "with another prefix than the model": Layout(saved(lambda state: {"state_dict": inside(state, "net.", "model.")}), Wrapped),
    # Other objects.
    "NumPy numbers and dates beside": Layout(
        saved(lambda s: {"model": s, "loss": np.float64(1), "history": np.zeros(3), "at": datetime.datetime(2024, 1, 2)})
    ),
    "a Namespace beside": Layout(saved(lambda s: {"net": s, "args": argparse.Namespace(lr=1)}), allow=("argparse.Namespace",)),
    "a class of the user beside": Layout(
        saved(lambda s: {"net": s, "config": Config(3)}), allow=(f"{Config.__module__}.Config",)
    ),
    "counters of thop": Layout(saved(lambda s: {**s, "total_ops": torch.zeros(1), "encoder.total_params": torch.zeros(1)})),
}
