"""Downloading ImageNet weights, only when it is asked for; kept in torch's own cache, checked by their hash."""

from __future__ import annotations

import http.client
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import torch

from jcs_ct.checkpoints.checkpoint_info import file_sha256
from jcs_ct.errors import CheckpointError
from jcs_ct.files import replacing

#: Format -> address. Each file's name ends with the beginning of its own SHA-256.
ADDRESSES = {
    "timm-res2net101d": "https://shanghuagao.oss-cn-beijing.aliyuncs.com/res2net/res2net101_v1b_26w_4s-0812c246.pth",
    "torchvision-vgg16_bn": "https://download.pytorch.org/models/vgg16_bn-6c64b313.pth",
    "torchvision-vgg16": "https://download.pytorch.org/models/vgg16-397923af.pth",
}
TIMEOUT_S = 30


def fetch(name: str) -> Path:
    """The file of a format, from torch's cache or, when it is not there, from its authors.

    Raises:
        CheckpointError: it cannot be downloaded, or its hash is not the one in its name.
    """
    address = ADDRESSES[name]
    path = Path(torch.hub.get_dir()) / "checkpoints" / address.rpartition("/")[2]
    if not path.is_file():
        with replacing(path) as temporary:
            _download(address, temporary, name)
            _check_hash(temporary, path.name)
    _check_hash(path, path.name)
    return path


def _download(address: str, path: Path, name: str) -> None:
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer, path.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise CheckpointError(
            f"cannot download {address} ({reason}); without a network, fetch it elsewhere, import it with "
            f"`jcs weights import FILE --as {name} -o OUT.safetensors`, and give OUT.safetensors to --pretrained"
        ) from error


def _check_hash(path: Path, name: str) -> None:
    beginning = name.rpartition("-")[2].partition(".")[0]
    found = file_sha256(path)[: len(beginning)]
    if found != beginning:
        raise CheckpointError(
            f"{path}: its SHA-256 begins with {found}, expected {beginning}; remove it and try again"
        )
