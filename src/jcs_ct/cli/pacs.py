"""`jcs pacs`: studies from a PACS and results back to it, over DICOMweb or DIMSE."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jcs_ct import NOTICE
from jcs_ct.cli.console import counted, stage_progress
from jcs_ct.cli.documents import say_result
from jcs_ct.cli.inputs import SOME_INPUT
from jcs_ct.cli.outputs import FOLDER_OUTPUT
from jcs_ct.disk_space import GIB
from jcs_ct.errors import ConfigError, needing_extra

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from jcs_ct.pacs.archive import Archive

_EXTRA = ("what talks to a PACS", "pacs", ("requests", "pynetdicom", "defusedxml"))

app = typer.Typer(name="pacs", help="Fetch studies from a PACS, send results, or watch it.", no_args_is_help=True)

Url = Annotated[
    str,
    typer.Argument(
        help="DICOMweb root, such as https://pacs.example/dicom-web; or dimse://TITLE@host:port, dimses:// for TLS."
    ),
]
CaBundle = Annotated[
    Path | None,
    typer.Option(envvar="JCS_PACS_CA", help="PEM file of certificates to trust instead of the system's."),
    SOME_INPUT,
]
AeTitle = Annotated[str, typer.Option(help="Our AE title, for dimse:// addresses.")]
MovePort = Annotated[
    int | None,
    typer.Option(
        min=1, max=65535, help="For dimse:// addresses without C-GET: port on which we take what C-MOVE sends."
    ),
]
Certificate = Annotated[
    tuple[Path, Path] | None,
    typer.Option(help="For dimses:// addresses: PEM files of our certificate and its key."),
]


@app.command("fetch")
def fetch(
    url: Url,
    study_uid: Annotated[str, typer.Argument(help="Study Instance UID.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the CT images."), FOLDER_OUTPUT],
    ca_bundle: CaBundle = None,
    ae_title: AeTitle = "JCS",
    move_port: MovePort = None,
    certificate: Certificate = None,
) -> None:
    """Fetch the CT images of one study, whole or not at all; a fetch that was cut short goes on where it was.

    Credentials come from the environment: JCS_PACS_TOKEN, or JCS_PACS_USER and JCS_PACS_PASSWORD.

    Example:  jcs pacs fetch https://pacs.example/dicom-web 1.2.840.1 -o study/
    """
    with closing(connect(url, ca_bundle, ae_title, move_port, certificate)) as archive, stage_progress() as progress:
        fetched = archive.fetch_study(study_uid, output, advance=lambda done, total: progress("images", done, total))
    say_result({"image_count": fetched.image_count, "folder": str(output)})
    typer.echo(f"{fetched.image_count} CT images in {output}")


@app.command("send")
def send(
    url: Url,
    results: Annotated[
        list[Path], typer.Argument(help="DICOM files, or folders of reports with DICOM results."), SOME_INPUT
    ],
    ca_bundle: CaBundle = None,
    ae_title: AeTitle = "JCS",
    certificate: Certificate = None,
    any_dicom: Annotated[
        bool, typer.Option("--any-dicom", help="Send other objects, too, such as the source's images.")
    ] = False,
) -> None:
    """Store DICOM results; sending the same ones twice changes nothing.

    Credentials come from the environment: JCS_PACS_TOKEN, or JCS_PACS_USER and JCS_PACS_PASSWORD.

    Example:  jcs pacs send https://pacs.example/dicom-web report/
    """
    from jcs_ct.reporting.dicom_results import in_storing_order

    paths = [file for path in results for file in (sorted(path.rglob("*.dcm")) if path.is_dir() else [path])]
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        raise ConfigError("no DICOM results there; write them with `jcs diagnose STUDY -o REPORT --dicom`")
    if not any_dicom:
        _check_are_results(paths)
    paths = in_storing_order(paths)
    with closing(connect(url, ca_bundle, ae_title, certificate=certificate)) as archive, stage_progress() as progress:
        receipt = archive.store(paths, advance=lambda done, total: progress("objects", done, total))
    say_result({"stored": receipt.stored, "present": receipt.present, "changed": receipt.warned})
    there = f", {receipt.present} of them were there already" if receipt.present else ""
    changed = f", the PACS warns that it changed {receipt.warned} of them; see its log" if receipt.warned else ""
    typer.echo(f"{counted(receipt.stored, 'object', 'objects')} stored{there}{changed}")


def _check_are_results(paths: Sequence[Path]) -> None:
    """Raise unless every file was written as a result: a folder may hold the study that was read, too.

    Raises:
        ConfigError: some are other objects.
    """
    from jcs_ct.imaging.identifiers import read_elements
    from jcs_ct.reporting.dicom_common import MODEL_NAME

    headers = read_elements(paths, ("ManufacturerModelName",))
    others = [path for path, header in zip(paths, headers, strict=True) if _model(header) != MODEL_NAME]
    if others:
        raise ConfigError(
            f"{len(others)} of {len(paths)} files are no results of jcs-ct, such as {others[0].name}; give the "
            "report's folder, or --any-dicom to send them, too"
        )


def _model(header: Dataset) -> str:
    return str(header.get("ManufacturerModelName", ""))


@app.command("receive")
def receive(
    folder: Annotated[Path, typer.Option(help="Folder for what is received.")],
    caller: Annotated[list[str], typer.Option(help="AE title that may send; may be given several times.")],
    ae_title: Annotated[str, typer.Option(help="Our AE title.")] = "JCS",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port.")] = 11112,
    tls: Annotated[
        tuple[Path, Path, Path] | None,
        typer.Option(help="PEM files: our certificate, its key, what signed the callers'. Opens the port to others."),
    ] = None,
    least_free_gib: Annotated[
        float,
        typer.Option(min=0, help="Free space that must be left, in GiB."),
    ] = 1.0,
) -> None:
    """Receive CT images by C-STORE, until stopped; answers C-ECHO. Without --tls on loopback only.

    Example:  jcs pacs receive --folder incoming/ --caller ORTHANC
    """
    import threading

    with needing_extra(*_EXTRA):
        from jcs_ct.pacs.receiver import ReceiverSettings, TlsFiles, receiving
    _keep_identifiers_out_of_logs()
    settings = ReceiverSettings(
        ae_title,
        tuple(caller),
        host="127.0.0.1" if tls is None else "0.0.0.0",
        port=port,
        least_free_bytes=int(least_free_gib * GIB),
        tls=None if tls is None else TlsFiles(*tls),
    )
    with receiving(settings, folder) as opened:
        typer.echo(f"receiving on {settings.host}:{opened} as {ae_title}; {NOTICE}")
        threading.Event().wait()


def _keep_identifiers_out_of_logs() -> None:
    """Silence what repeats identifiers, or a refused connection in ten lines of its own.

    pynetdicom logs identifiers below the level of warnings; of a UID that is none, with a leading zero, say, both it
    and pydicom warn with the value.
    """
    import logging
    import warnings

    logging.getLogger("pynetdicom").setLevel(logging.WARNING)
    logging.getLogger("pynetdicom.transport").setLevel(logging.CRITICAL)
    for name in ("pydicom", "pynetdicom.utils"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(pydicom|pynetdicom)(\.|$)")


def connect(
    url: str,
    ca_bundle: Path | None,
    ae_title: str = "JCS",
    move_port: int | None = None,
    certificate: tuple[Path, Path] | None = None,
) -> Archive:
    """The server at ``url``, over DICOMweb with the credentials of the environment, or over DIMSE.

    Raises:
        ConfigError: the address or the credentials cannot be used, or the extra is not installed.
    """
    with needing_extra(*_EXTRA):
        from jcs_ct.pacs.association import DimseServer
        from jcs_ct.pacs.dicomweb import DicomWeb
        from jcs_ct.pacs.dimse import Dimse
        from jcs_ct.pacs.server import PacsServer
    _keep_identifiers_out_of_logs()
    bundle = "" if ca_bundle is None else str(ca_bundle)
    if url.startswith(("dimse://", "dimses://")):
        ours, key = certificate or (None, None)
        return Dimse(DimseServer(url, ae_title, move_port=move_port, certificate=ours, key=key, ca_bundle=bundle))
    return DicomWeb(PacsServer.from_environment(url, bundle))
