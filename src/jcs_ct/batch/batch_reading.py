"""What a batch has done with a study, in the study's process: brought near, read as `jcs diagnose` does, reported."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jcs_ct.batch.addresses import fetched, is_address, store_folder
from jcs_ct.batch.cohort_manifest import Kind
from jcs_ct.batch.store_faults import NotFetchedError
from jcs_ct.disk_space import NO_ROOM
from jcs_ct.errors import ConfigError, JCSError
from jcs_ct.files import explain_temporary, temporary_folder
from jcs_ct.jobs.study_reading import ReadingOptions, ReadingRequest, read_as_requested, reading_facts

if TYPE_CHECKING:
    from jcs_ct.progress import Progress

#: Name of :func:`read_for_batch` for :class:`~jcs_ct.jobs.StudyWorker`.
READ_FOR_BATCH = "jcs_ct.batch.batch_reading:read_for_batch"


@dataclass(frozen=True)
class BatchOptions(ReadingOptions):
    """How every study of a batch is read; DICOM results are those of the studies that are DICOM."""

    def to_arguments(self) -> dict[str, Any]:
        """As JSON values, for :class:`ReadingRequest`."""
        values = super().to_arguments()
        values["dicom_where_possible"] = values.pop("dicom")
        return values

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> BatchOptions:
        """From what :meth:`to_arguments` made."""
        values = dict(arguments)
        values["dicom"] = values.pop("dicom_where_possible")
        return cls(**{**values, "formats": tuple(values["formats"])})

    @property
    def decisive(self) -> str:
        """What makes results others than with the defaults, beside weights and thresholds; empty for the defaults.

        A precision that is asked for is among it; that of ``auto``, device and backend follow from the machine, and a
        batch may go on on another one.
        """
        default = asdict(BatchOptions())
        names = ("segment", "map_variant", "dicom", "formats", "lenient", "allow_deflated", "precision")
        values = asdict(self)
        return ",".join(f"{name}={values[name]}" for name in names if values[name] != default[name])


def read_for_batch(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """The task: bring a study near, read it, write its report and a small picture.

    Args:
        arguments: ``study`` (see ``FoundStudy.to_request``), ``options`` (see ``BatchOptions``), ``output`` (folder),
            or ``store`` (address) in its place.
        progress: Stages.

    Returns:
        What the summary of the cohort shows of it.
    """
    clock = _StageSeconds(progress)
    study = arguments["study"]
    with _output(arguments) as output, _brought(study, clock) as place:
        request = ReadingRequest.from_arguments(
            {
                **arguments["options"],
                "study": str(place),
                "output": str(output),
                "series": study["series"] or None,
            }
        )
        opened, diagnosis, paths = read_as_requested(request, clock)
        clock("picture", 0, 1)
        from jcs_ct.batch.pictures import write_picture

        write_picture(opened, diagnosis, output)
        facts = reading_facts(opened, diagnosis, paths)
        size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
        if "store" in arguments:
            clock("store", 0, 1)
            store_folder(output, arguments["store"])
    clock.end()
    acquisition = opened.acquisition
    return {
        **facts,
        "basis": str(diagnosis.basis),
        "scanner": " ".join(str(acquisition[name]) for name in ("manufacturer", "model") if name in acquisition),
        "input_bytes": study["byte_count"],
        "output_bytes": size,
        "stage_seconds": clock.seconds,
        "models": {role: dict(facts) for role, facts in diagnosis.models.items()},
    }


class _StageSeconds:
    """Passes progress on, and notes how long each stage took: from its first word to the next stage's."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress, self._stage, self._began = progress, "", time.perf_counter()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self.end()
            self._stage, self._began = stage, time.perf_counter()
        self._progress(stage, done, total)

    def end(self) -> None:
        """The last stage is over."""
        if self._stage:
            took = time.perf_counter() - self._began
            self.seconds[self._stage] = round(self.seconds.get(self._stage, 0.0) + took, 4)


@contextmanager
def _output(arguments: Mapping[str, Any]) -> Iterator[Path]:
    if "store" not in arguments:
        yield Path(arguments["output"])
        return
    with temporary_folder("jcs-results-") as folder:
        yield folder


@contextmanager
def _brought(study: Mapping[str, Any], clock: _StageSeconds) -> Iterator[Path]:
    """The study as a path of this machine.

    Raises:
        NotFetchedError: it is not where it was, or its store does not give it.
    """
    where, files = study["where"], study["files"]
    clock("fetch", 0, 1)
    if study["kind"] == Kind.DICOMWEB:
        with temporary_folder("jcs-study-") as folder:
            _fetch_from_server(where, folder)
            yield folder
        return
    if not is_address(where):
        if not Path(where).exists():
            raise NotFetchedError(f"the study is not where it was found any more ({NotFetchedError.code})")
        with _linked(Path(where), files) if files else nullcontext(Path(where)) as place:
            yield place
        return
    with temporary_folder("jcs-study-") as folder:
        try:
            place = fetched(where, files, folder)
        except JCSError:
            raise
        except Exception as error:  # each store's library has errors of its own
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise explain_temporary(error) from error
            message = f"the store does not give the study: {type(error).__name__} ({NotFetchedError.code})"
            raise NotFetchedError(message) from error
        yield place


@contextmanager
def _linked(where: Path, files: list[str]) -> Iterator[Path]:
    """A folder of links to those files of a folder that are one study's."""
    with temporary_folder("jcs-study-") as folder:
        for file in files:
            link = folder / file
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(where / file)
        yield folder


def _fetch_from_server(where: str, folder: Path) -> None:
    from jcs_ct.batch.cohort_search import connect

    url, _, study_uid = where.rpartition("/studies/")
    try:
        with closing(connect(url)) as web:
            web.fetch_study(study_uid, folder)
    except ConfigError as error:  # credentials that ended while the batch ran are no fault of the study
        raise NotFetchedError(f"the server does not give the study: {error} ({NotFetchedError.code})") from error
