"""`jcs serve`: the page for readers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jcs_ct import NOTICE
from jcs_ct.cli.console import counted
from jcs_ct.cli.documents import say_result
from jcs_ct.cli.inputs import SOME_INPUT
from jcs_ct.cli.options import ModelsOption
from jcs_ct.cli.outputs import FOLDER_OUTPUT
from jcs_ct.disk_space import GIB
from jcs_ct.errors import ConfigError, needing_extra
from jcs_ct.files import only_one

if TYPE_CHECKING:
    from jcs_ct.service.users import Users

_EXTRA = ("the page", "service", ("fastapi", "uvicorn", "argon2", "starlette"))

app = typer.Typer(name="serve")
users_app = typer.Typer(name="users", help="Who may use the page.", no_args_is_help=True)
app.add_typer(users_app)

UserName = Annotated[str, typer.Argument(help="Name of a user.")]
_DEFAULT_FOLDER = Path("jcs-serve")
Folder = Annotated[Path, typer.Option(help="Folder for records, studies and results; readable by its owner only.")]


@app.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    folder: Folder = _DEFAULT_FOLDER,
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback needs users.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    root_path: Annotated[str, typer.Option(help="Where a proxy mounts the page, such as /jcs; needs users.")] = "",
    models: ModelsOption = "compact",
    upload_gib: Annotated[float, typer.Option(min=0.001, help="Largest study that may be sent, in GiB.")] = 8.0,
    study_gib: Annotated[float, typer.Option(min=0.5, help="Most memory for one study, in GiB.")] = 6.0,
    study_minutes: Annotated[float, typer.Option(min=0.1, help="Longest time of reading one study.")] = 60.0,
    session_hours: Annotated[
        float, typer.Option(min=0.01, help="A login ends after so long, and after a quarter of it without a request.")
    ] = 12.0,
    keep_days: Annotated[float | None, typer.Option(min=0.001, help="Delete studies older than that.")] = None,
    studies: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of this machine whose studies readers may pick; may be given several times."),
        SOME_INPUT,
    ] = None,
    pacs: Annotated[
        str | None, typer.Option(help="DICOMweb root to pick studies from and send results to; see `jcs pacs fetch`.")
    ] = None,
    ca_bundle: Annotated[
        Path | None,
        typer.Option(
            envvar="JCS_PACS_CA",
            help="PEM file of certificates to trust for the PACS instead of the system's.",
        ),
        SOME_INPUT,
    ] = None,
) -> None:
    """Serve a page to send studies to, watch them being read, check and correct; until stopped.

    Without users it answers this machine only. Behind a proxy, or on another address, add users first:
    `jcs serve users add NAME`.

    With --pacs credentials come from the environment: JCS_PACS_TOKEN, or JCS_PACS_USER and JCS_PACS_PASSWORD.

    Example:  jcs serve --folder studies/
    """
    if context.invoked_subcommand is not None:
        return
    with needing_extra(*_EXTRA):
        from jcs_ct.service.app import build_app, build_service
    from jcs_ct.jobs import Limits
    from jcs_ct.service.listed_studies import check_pacs
    from jcs_ct.service.serving import listening, run_server
    from jcs_ct.service.settings import PacsAddress, ServiceSettings, UploadLimits

    settings = ServiceSettings(
        folder=folder,
        host=host,
        port=port,
        root_path=root_path,
        models=models,
        uploads=UploadLimits(total_bytes=int(upload_gib * GIB)),
        study=Limits(memory_bytes=int(study_gib * GIB), seconds=study_minutes * 60),
        session_hours=session_hours,
        keep_days=keep_days,
        study_folders=tuple(studies or ()),
        pacs=None if pacs is None else PacsAddress(pacs, "" if ca_bundle is None else str(ca_bundle)),
    )
    if settings.pacs is not None:
        check_pacs(settings.pacs)
    with listening(host, port) as sockets, only_one(folder / "serve.lock", "server"):
        app = build_app(build_service(settings))
        named = f"[{host}]" if ":" in host else host
        typer.echo(f"serving on http://{named}:{sockets[0].getsockname()[1]}{root_path}/; {NOTICE}")
        run_server(app, sockets)


@app.command("export")
def export(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="New folder for images, masks and manifest.csv."), FOLDER_OUTPUT
    ],
    folder: Folder = _DEFAULT_FOLDER,
) -> None:
    """Write corrected studies as training data: a manifest of studies with the readers' masks.

    Example:  jcs serve export --folder studies/ -o corrected/ && jcs data slices corrected/manifest.csv -f s -o s.csv
    """
    with needing_extra(*_EXTRA):
        from jcs_ct.service.training_export import export_corrected
    exported = export_corrected(folder, output)
    say_result(
        {
            "manifest": str(exported.manifest),
            "studies": exported.studies,
            "left_out": exported.left_out,
            "refused": [str(line) for line in exported.refused],
        }
    )
    typer.echo(f"{counted(exported.studies, 'corrected study', 'corrected studies')} -> {exported.manifest}")
    if exported.left_out:
        left_out = counted(exported.left_out, "corrected study", "corrected studies")
        typer.echo(f"left out, not DICOM, or without files or Segmentation: {left_out}")
    for line in exported.refused:
        typer.echo(f"left out, refused: {line}", err=True)


@users_app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="1 to 40 letters, digits, dots, dashes, underscores.")],
    folder: Folder = _DEFAULT_FOLDER,
    admin: Annotated[bool, typer.Option("--admin", help="May see and delete every study and read the log.")] = False,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input, for scripts.")
    ] = False,
) -> None:
    """Add a user, or give a known one a new password and role; the password is asked for.

    Example:  jcs serve users add jane --folder studies/
    """
    import sys

    from jcs_ct.service.users import Role

    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    users = _users(folder, may_begin=True)
    users.add(name, Role.ADMIN if admin else Role.READER, password)
    typer.echo(f"{name} may use the page as {'admin' if admin else 'reader'}")
    if not any(user.is_admin for user in users.all()):
        typer.echo(
            "note: there is no administrator yet; what was sent before there were users is seen by administrators "
            "only (`jcs serve users add NAME --admin`)",
            err=True,
        )


@users_app.command("list")
def list_(folder: Folder = _DEFAULT_FOLDER) -> None:
    """List the users and their roles.

    Example:  jcs serve users list --folder studies/
    """
    users = _users(folder).all()
    say_result({"users": [{"name": user.name, "role": str(user.role)} for user in users]})
    for user in users:
        typer.echo(f"{user.name}  {user.role}")


@users_app.command("remove")
def remove(name: UserName, folder: Folder = _DEFAULT_FOLDER) -> None:
    """Remove a user with sessions and tokens; studies stay.

    Example:  jcs serve users remove jane --folder studies/
    """
    if not _users(folder).remove(name):
        raise ConfigError(f"there is no user {name!r}; see jcs serve users list")
    typer.echo(f"{name} removed")


@users_app.command("token")
def token(name: UserName, folder: Folder = _DEFAULT_FOLDER) -> None:
    """Make a token for a user's programs (Authorization: Bearer TOKEN); it is shown once.

    Example:  jcs serve users token jane --folder studies/
    """
    made = _users(folder).add_token(name)
    say_result({"token": made})
    typer.echo(made)


def _users(folder: Path, *, may_begin: bool = False) -> Users:
    """The users of a page; ``may_begin``: of one that is new, too."""
    with needing_extra(*_EXTRA):
        from jcs_ct.service.database import RECORD, ServiceDatabase, require_record, require_whole
        from jcs_ct.service.users import Users
    if not may_begin:
        require_record(folder)
    require_whole(folder)
    return Users(ServiceDatabase(folder / RECORD))
