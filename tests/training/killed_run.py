"""A training run that kills itself: `python killed_run.py RECIPE MANIFEST OUT STEP DELAY_S [CLASSIFIER]`.

SIGKILL comes DELAY_S seconds after step STEP, so it meets the run wherever it is then: in a step, in validation or
while a state is being written. STEP 0 lets it finish.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import torch

from jcs_ct.data.manifest import read_manifest
from jcs_ct.training.recipe import load_recipe
from jcs_ct.training.training_run import train
from jcs_ct.training.training_tasks import make_task


def main(recipe_file: str, manifest: str, out: str, step: str, delay_s: str, *classifier: str) -> None:
    torch.set_num_threads(1)
    recipe = load_recipe(Path(recipe_file))

    def kill() -> None:
        time.sleep(float(delay_s))
        os.kill(os.getpid(), signal.SIGKILL)

    def progress(done, steps, losses):
        if done == int(step):
            threading.Thread(target=kill, daemon=True).start()

    task = make_task(recipe, Path(classifier[0]) if classifier else None)
    train(task, recipe, read_manifest(Path(manifest)), Path(out), progress=progress)


if __name__ == "__main__":
    main(*sys.argv[1:])
