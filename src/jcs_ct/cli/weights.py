"""`jcs weights`: published weights in, checkpoints of this package out; and what a weights file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jcs_ct.choices import PublishedName
from jcs_ct.cli.console import print_json
from jcs_ct.cli.inputs import SOME_INPUT
from jcs_ct.cli.outputs import FILE_OUTPUT, OverwriteOption, refuse_to_overwrite

app = typer.Typer(name="weights", help="Import published weights and look into weights files.", no_args_is_help=True)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A published file: .pth, .pt or .safetensors."), SOME_INPUT],
    name: Annotated[
        PublishedName,
        typer.Option("--as", help="Which published weights these are; `jcs weights show` says what fits."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Checkpoint (.safetensors) to write."), FILE_OUTPUT],
    overwrite: OverwriteOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Facts as JSON.")] = False,
) -> None:
    """Import a published weights file, strictly key by key; offline, and no code in the file is run.

    Exit code 0: written, 2: usage, 3: damaged, unsafe or another network's file, with the keys that differ.

    Example:  jcs weights import downloads/joint.pth --as official-joint -o joint.safetensors
    """
    from jcs_ct.checkpoints import file_sha256, import_weights, write_imported
    from jcs_ct.errors import ConfigError

    if output.suffix != ".safetensors":
        raise ConfigError(f"--output must end in .safetensors, got {output.name!r}")
    refuse_to_overwrite([output], overwrite=overwrite)
    imported = import_weights(file, name)
    write_imported(imported, output)
    facts: dict[str, Any] = {
        "format": name,
        "task": imported.info.task,
        "preset": imported.info.preset,
        "parameters": sum(parameter.numel() for parameter in imported.network.parameters()),
        "entries": len(imported.network.state_dict()),
        "left_out": list(imported.left_out),
        "counters_added": imported.counters_added,
        "output": str(output),
        "sha256": file_sha256(output),
    }
    if as_json:
        print_json(facts)
        return
    typer.echo(
        f"{name}: {facts['entries']} entries, {facts['parameters']:,} parameters -> {output} "
        f"(a {facts['task']} of the preset {facts['preset']})"
    )
    if imported.left_out:
        typer.echo(
            f"left out by the format's rule: {len(imported.left_out)} ({', '.join(imported.left_out[:4])} ...)"
        )


@app.command("show")
def show(
    file: Annotated[Path, typer.Argument(help="A checkpoint of jcs-ct, or a foreign weights file."), SOME_INPUT],
    as_json: Annotated[bool, typer.Option("--json", help="Everything, every tensor's shape too, as JSON.")] = False,
) -> None:
    """Say what a weights file holds; for a foreign one, the published format that fits it best. No code is run.

    Example:  jcs weights show joint.safetensors
    """
    from jcs_ct.checkpoints.weights_facts import describe_weights

    facts = describe_weights(file)
    if as_json:
        print_json(facts)
        return
    dtypes = ", ".join(f"{count} {dtype}" for dtype, count in facts["dtypes"].items())
    typer.echo(f"{facts['kind']}, {facts['entries']} entries ({dtypes}), {facts['values']:,} values")
    typer.echo(f"sha256              {facts['sha256']}")
    for line in _own_lines(facts) if "task" in facts else _foreign_lines(facts):
        typer.echo(line)


def _own_lines(facts: dict[str, Any]) -> list[str]:
    point, preprocessor = facts["operating_point"], facts["preprocessor"]
    return [
        f"network             {facts['task']} of the preset {facts['preset']}",
        f"input               {preprocessor['size']} x {preprocessor['size']}, {preprocessor['channels']} channel(s)",
        "operating point     none"
        if point is None
        else f"operating point     slice >= {point['slice_probability']:g}, "
        f"patient > {point['positive_slice_threshold']} slices",
        *(f"{key:<19} {value}" for key, value in facts["provenance"].items() if not isinstance(value, dict)),
    ]


def _foreign_lines(facts: dict[str, Any]) -> list[str]:
    best = facts["best_fit"]
    wrong = {kind: len(best[kind]) for kind in ("missing", "unexpected", "mis_shaped") if best[kind]}
    verdict = "every key fits" if not wrong else ", ".join(f"{count} {kind}" for kind, count in wrong.items())
    lines = [f"fits best           {best['format']} ({best['about']}): {verdict}"]
    if facts["wrapped_in"]:
        lines.append(f"wrapped in          {facts['wrapped_in']!r}")
    if facts["data_parallel_prefix"]:
        lines.append("prefix              module. (DataParallel)")
    if not wrong:
        lines.append(f"import it with      jcs weights import FILE --as {best['format']} -o OUT.safetensors")
    return lines
