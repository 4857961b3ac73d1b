"""The weighted mean of two checkpoints of one training, so that a later stage keeps what an earlier one had learnt.

    python scripts/average_weights.py EARLIER LATER OUTPUT --share 0.7

After "Robust fine-tuning of zero-shot models" (Wortsman et al., CVPR 2022). Choose the share on validation patients.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from jcs_ct.checkpoints import file_sha256, load_checkpoint, read_info, save_checkpoint
from jcs_ct.checkpoints.ancestry import ANCESTORS, ancestor_manifests, inherited_manifests


def main() -> None:
    """Write the mean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("earlier", type=Path)
    parser.add_argument("later", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--share", type=float, required=True, help="of the later one, from 0 to 1")
    options = parser.parse_args()
    if not 0 <= options.share <= 1:
        parser.error(f"--share must be from 0 to 1, got {options.share}")
    earlier, later = load_checkpoint(options.earlier).network.state_dict(), load_checkpoint(options.later)
    network, info = later.network, read_info(options.later)
    first = read_info(options.earlier)
    if first.config != info.config:
        parser.error("the two are not of one network")
    mean = {
        name: torch.lerp(earlier[name], value, options.share) if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(mean)
    averaged = {"earlier_sha256": file_sha256(options.earlier), "share_of_the_later": options.share}
    behind = ancestor_manifests(info.provenance) | inherited_manifests({"earlier network": first.provenance})
    provenance = {**info.provenance, "averaged": averaged, ANCESTORS: behind}
    save_checkpoint(options.output, network, replace(info, provenance=provenance))


if __name__ == "__main__":
    main()
