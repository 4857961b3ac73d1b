"""Batches of a run, step by step: what a step trains on is a pure function of the recipe and the step.

So batches can be made ahead, by processes beside the one that trains, and a run that was killed continues exactly as
if it had not been. On a GPU they are drawn ahead and made there, where the slices lie: a processor changes a slice in
about ten milliseconds, a GPU a whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from jcs_ct.data.augmentation.augment import Augmentation
from jcs_ct.data.datasets import DrawnSlices, SliceDataset
from jcs_ct.training.recipe import Recipe
from jcs_ct.training.training_data import Batch, Inputs, TrainingData, as_it_is

#: Steps that every worker makes ahead.
_AHEAD = 4


@dataclass(frozen=True, eq=False)
class StepBatch:
    """What one step trains on.

    Args:
        seed: Of torch's generator for this step (dropout).
        parts: The micro-batches, made or drawn, each with the generator that goes on drawing (mixing) where the
            batch's draws ended.
        shares: Share of the step's slices that each part holds; they sum to 1.
    """

    seed: int
    parts: tuple[tuple[Batch | DrawnSlices, np.random.Generator], ...]
    shares: tuple[float, ...]


class StepBatches(Dataset[StepBatch]):
    """A run's batches by step.

    Args:
        recipe: Says what is drawn and how it is changed.
        inputs: What is drawn from.
        share: (rank, world size): the slices of every part that this process trains on.
        made_on: The device that batches are made on, from slices placed there; None makes them with the draw.
    """

    def __init__(
        self, recipe: Recipe, inputs: Inputs, share: tuple[int, int], made_on: torch.device | None = None
    ) -> None:
        self._recipe = recipe
        self._inputs = inputs
        self._share = share
        self._made_on = made_on
        self._weights = inputs.training.weights(recipe.balance, infected_share=recipe.infected_share)
        self._augmentation = Augmentation(**recipe.augmentation.model_dump())

    def __len__(self) -> int:
        return self._recipe.steps

    def __getitem__(self, step: int) -> StepBatch:
        recipe, training = self._recipe, self._inputs.training
        generator = np.random.default_rng([recipe.seed, step])
        seed = int(generator.integers(2**31))
        drawn = generator.choice(len(training), size=recipe.batch_size, p=self._weights)
        parts: list[tuple[Batch | DrawnSlices, np.random.Generator]] = []
        places = np.array_split(drawn, recipe.accumulate)
        for number, part in enumerate(places):
            # The first part goes on with the step's own stream; the others have theirs, or what is drawn for one
            # while it trains (mixing) would have to be known before the next is made.
            stream = generator if number == 0 else np.random.default_rng([recipe.seed, step, number])
            is_coarse = bool(recipe.coarse_size) and step < recipe.coarse_share * recipe.steps
            parts.append((self._part(part.tolist(), stream, recipe.coarse_size if is_coarse else 0), stream))
        return StepBatch(seed, tuple(parts), tuple(len(part) / recipe.batch_size for part in places))

    def _part(self, indices: list[int], generator: np.random.Generator, coarse_size: int) -> Batch | DrawnSlices:
        training = self._inputs.training
        if self._made_on is not None and isinstance(training, SliceDataset):
            drawn = training.draw(
                indices,
                augmentation=self._augmentation,
                generator=generator,
                share=self._share,
                pasting=self._inputs.pasting,
            )
            return replace(drawn, coarse_size=coarse_size)
        batch = training.batch(
            indices,
            augmentation=self._augmentation,
            generator=generator,
            share=self._share,
            pasting=self._inputs.pasting,
        )
        return batch.resized(coarse_size) if coarse_size else batch

    def on_device(self, part: Batch | DrawnSlices, device: torch.device) -> Batch:
        """A part as the network takes it."""
        if not isinstance(part, DrawnSlices):
            return part.to(device)
        training = self._inputs.training
        if not isinstance(training, SliceDataset):
            raise TypeError("only slices are drawn first and made on the device later")
        return training.made(part, self._made_on).to(device)


def slices_placed_on(device: torch.device, training: TrainingData) -> torch.device | None:
    """The GPU, with the training slices on it, where they are kept in memory; None elsewhere."""
    if device.type == "cpu" or not isinstance(training, SliceDataset) or not training.keeps_slices:
        return None
    training.place(device)
    return device


def step_batches(batches: StepBatches, first: int, *, workers: int) -> Iterator[StepBatch]:
    """The batches of steps ``first`` to the last, in order.

    Args:
        batches: Of the run.
        first: Step to begin with.
        workers: Processes that make batches ahead; 0 makes them here, when they are asked for.
    """
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(first, len(batches)),
        num_workers=workers,
        prefetch_factor=_AHEAD if workers else None,
        collate_fn=as_it_is,
    )
    return iter(loader)
