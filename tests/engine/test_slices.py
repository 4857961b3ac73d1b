import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from jcs_ct.engine import (
    Execution,
    ReadyClassifier,
    ReadyNetwork,
    ReadySegmenter,
    SegmenterAhead,
    classify_slices,
    runner_for,
    segment_slices,
)
from jcs_ct.engine import execution as execution_module
from jcs_ct.engine import runners as runners_module
from jcs_ct.engine import slices as slices_module
from jcs_ct.errors import BackendError
from jcs_ct.models.presets import build_classifier, build_segmenter, classifier_preset, segmenter_preset
from jcs_ct.preprocessing import Region, SlicePreprocessor

PREPROCESSOR = SlicePreprocessor(size=64, channels=1, mean=(0.45,), std=(0.3,))
FP32 = Execution(device="cpu", precision="fp32", batch_size=3, backend="torch")


def ready(task):
    torch.manual_seed(0)
    if task == "classifier":
        network = build_classifier(classifier_preset("compact")).eval()
        return ReadyClassifier(network, PREPROCESSOR, "compact", "0" * 64, task)
    return ReadySegmenter(
        build_segmenter(segmenter_preset("compact-joint")).eval(), PREPROCESSOR, "compact", "0" * 64, task
    )


def volume(slices=7):
    generator = np.random.default_rng(1)
    return generator.normal(-600, 300, (slices, 80, 96)).astype(np.float32)


def test_batches_give_the_same_answers_as_single_slices():
    hu, network = volume(), ready("classifier")
    together = classify_slices(network, hu, range(7), execution=FP32)
    for item in together:
        image, _ = PREPROCESSOR(hu[item.slice_index])
        with torch.inference_mode():
            logits = network.network(torch.from_numpy(image[None]))
        assert item.probability == pytest.approx(float(torch.softmax(logits, 1)[0, 1]), abs=1e-5)
    assert [item.slice_index for item in together] == list(range(7))


def test_the_map_of_a_slice_is_the_classifiers_own():
    hu, network = volume(2), ready("classifier")
    for variant in ("paper", "grad_cam"):
        item = classify_slices(network, hu, [1], execution=FP32, variant=variant)[0]
        image, _ = PREPROCESSOR(hu[1])
        with torch.inference_mode():
            raw = network.network.activation_map(torch.from_numpy(image[None]), 1, variant=variant)[0, 0].numpy()
        spread = raw.max() - raw.min()
        expected = (raw - raw.min()) / spread if spread > 0 else np.zeros_like(raw)
        assert item.activation == pytest.approx(expected, abs=1e-3)


def test_segmentation_comes_back_on_the_slices_own_grid():
    hu, network = volume(4), ready("segmenter")
    results = list(segment_slices(network, hu, [3, 0, 2], execution=FP32))
    assert [index for index, _ in results] == [3, 0, 2]
    for _, probability in results:
        assert probability.shape == (80, 96)
        assert 0 <= probability.min() <= probability.max() <= 1


def answers_of(results):
    return {index: probability.tobytes() for index, probability in results}


@pytest.mark.parametrize("likely", [[], [5, 1, 2, 6], [0, 1, 2, 3, 4, 5, 6]])
def test_slices_begun_ahead_have_the_same_answers_and_only_wanted_ones_come(likely):
    hu, network, wanted = volume(), ready("segmenter"), [1, 3, 4, 5]
    part = {index: Region(8, 40, 10, 60) for index in wanted}
    with SegmenterAhead(network, hu, execution=FP32) as ahead:
        ahead.begin(likely)
        found = list(segment_slices(network, hu, wanted, execution=FP32, parts=part, ahead=ahead))
    assert [index for index, _ in found] == [
        *(i for i in likely if i in wanted),
        *(i for i in wanted if i not in likely),
    ]
    plain = dict(segment_slices(network, hu, wanted, execution=FP32, parts=part))
    for index, probability in found:
        assert probability == pytest.approx(plain[index], abs=1e-6)


def test_answers_do_not_depend_on_how_far_the_segmenter_came_ahead():
    hu, network = volume(), ready("segmenter")

    def read(wait):
        with SegmenterAhead(network, hu, execution=FP32) as ahead:
            ahead.begin([6, 0, 3, 2])
            if wait:
                ahead._running.result()
            return answers_of(segment_slices(network, hu, range(7), execution=FP32, ahead=ahead))

    assert read(wait=True) == read(wait=False)


def test_what_was_begun_ahead_and_is_not_wanted_is_dropped(monkeypatch):
    run, may_go_on = [], threading.Event()

    def slow(preprocessor, hu, indices, model, size):
        for index in indices:
            run.append(index)
            may_go_on.wait(10)
            yield [index], (np.zeros((1, 1, 64, 64), np.float32),), [Region(0, 80, 0, 96)]

    monkeypatch.setattr(slices_module, "_answers", slow)
    with SegmenterAhead(ready("segmenter"), volume(), execution=FP32) as ahead:
        ahead.begin(range(7))
        threading.Timer(0.05, may_go_on.set).start()
    assert run == [0]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_an_error_ahead_is_raised_where_the_answers_are_asked_for():
    hu, network = volume(), ready("segmenter")
    with pytest.raises(IndexError), SegmenterAhead(network, hu, execution=FP32) as ahead:
        ahead.begin([0, 99])
        list(segment_slices(network, hu, range(7), execution=FP32, ahead=ahead))


def test_an_error_before_the_first_slice_is_raised_there_too(monkeypatch):
    def fail(ready, execution):
        raise BackendError("no such backend")

    monkeypatch.setattr(slices_module, "runner_for", fail)
    with (
        pytest.raises(BackendError, match="no such backend"),
        SegmenterAhead(ready("segmenter"), volume(), execution=FP32) as ahead,
    ):
        ahead.begin([0])
        list(ahead.answers())


def test_a_network_that_two_threads_ask_for_is_prepared_once(monkeypatch):
    prepared = []

    def prepare(ready, choice, *, fall_back):
        prepared.append(threading.get_ident())
        time.sleep(0.05)
        return object()

    monkeypatch.setattr(runners_module, "_prepare", prepare)
    monkeypatch.setattr(runners_module, "_say", lambda *_: None)
    network = ready("segmenter")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: runner_for(network, FP32), range(4)))
    assert len(prepared) == 1
    assert len(set(map(id, found))) == 1


def test_a_consumer_never_runs_in_inference_mode():
    for _ in segment_slices(ready("segmenter"), volume(4), range(4), execution=FP32):
        assert not torch.is_inference_mode_enabled()
        assert not torch.is_autocast_enabled("cpu")


def test_bf16_stays_close_to_fp32(monkeypatch):
    monkeypatch.setattr(execution_module, "multiplies_bf16", lambda device: True)  # slow where it is not so
    hu, network = volume(4), ready("classifier")
    exact = classify_slices(network, hu, range(4), execution=FP32)
    execution = Execution(device="cpu", precision="bf16", backend="torch")
    half = classify_slices(network, hu, range(4), execution=execution)
    for one, other in zip(exact, half, strict=True):
        assert other.probability == pytest.approx(one.probability, abs=0.05)
    assert [item.probability for item in half] != [item.probability for item in exact]


def test_a_network_whose_weights_were_changed_is_prepared_anew():
    hu, network = volume(1), ready("classifier")
    first = classify_slices(network, hu, [0], execution=FP32)[0].probability
    with torch.no_grad():
        network.network.head.weight.mul_(-1.0)
        network.network.head.bias.mul_(-1.0)
    assert classify_slices(network, hu, [0], execution=FP32)[0].probability == pytest.approx(1 - first, abs=1e-5)


def test_progress_counts_every_slice():
    seen = []
    classify_slices(
        ready("classifier"), volume(), range(7), execution=FP32, progress=lambda d, t: seen.append((d, t))
    )
    assert seen == [(3, 7), (6, 7), (7, 7)]


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="precision must be auto, fp32, bf16 or int8, got 'int4'"):
        Execution(precision="int4")
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        Execution(batch_size=0)
    with pytest.raises(ValueError, match="backend must be auto, torch, openvino or onnxruntime, got 'tpu'"):
        Execution(backend="tpu")


def test_a_ready_network_cannot_hold_another_kind():
    classifier, segmenter = ready("classifier"), ready("segmenter")
    with pytest.raises(TypeError, match="a ReadyClassifier cannot hold a Segmenter"):
        ReadyClassifier(segmenter.network, PREPROCESSOR, "x", "", "x")
    with pytest.raises(TypeError, match="a ReadySegmenter cannot hold a Classifier"):
        ReadySegmenter(classifier.network, PREPROCESSOR, "x", "", "x")
    with pytest.raises(TypeError, match="a ReadyNetwork cannot hold"):
        ReadyNetwork(classifier.network, PREPROCESSOR, "x", "", "x")
    assert (classifier.task, segmenter.task) == ("classifier", "segmenter")
