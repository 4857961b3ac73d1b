"""Seeded damage for ``fuzz_inputs``: to bytes, to the fields of a header, to a set of files, to a container.

Random bytes alone stop at the first checksum or length. So headers are also taken apart and put together again with
one field that lies, and damaged files are packed into containers whose checksums are right.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import nibabel
import numpy as np
from fuzz_seeds import Files, Seed, as_gzip, as_it_is, as_tar, as_zip

Generator = np.random.Generator

_NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_TEXTS = (
    *(b"", b"0", b"-1", b"1", b"-0.0", b"nan", b"inf", b"-inf", b"1e400", b"1e-320", b"65536", b"1e18", b"9" * 30),
    *(
        b"1\\2\\3\\4\\5\\6\\7",
        b"1\\1",
        b"\\\\\\\\",
        b"1\\nan\\1",
        b"0\\0\\0",
        b"0\\0\\0\\0\\0\\0",
        b"1" * 300,
        b"abc",
    ),
    *(b"\xff\xfe\xe9", bytes(16), b" ", b"CT", b"MR", b"LOCALIZER", b"YBR_FULL", b"ISO 2022 IR 87"),
    *(
        b"1.2.840.10008.1.2" + end
        for end in (b"", b".1", b".2", b".1.99", b".5", b".4.50", b".4.70", b".4.90", b".4.201")
    ),
)
_LONG_VRS = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT"})
_VRS = (b"DS", b"IS", b"US", b"UL", b"SS", b"FD", b"SQ", b"OW", b"UN", b"UI", b"PN", b"AT", b"XX")


def pick(generator: Generator, choices: Sequence[object]) -> object:
    """One of ``choices``, unchanged (numpy's own choice makes arrays of them)."""
    return choices[int(generator.integers(len(choices)))]


def damage_bytes(content: bytes, generator: Generator, other: bytes = b"") -> bytes:
    """Damage bytes in one to three ways; headers, which lie in front, are hit as often as the rest."""
    data = bytearray(content)
    for _ in range(int(generator.integers(1, 4))):
        reach = len(data) if generator.random() < 0.5 else min(len(data), 1600)
        if reach < 2:
            break
        place, length = int(generator.integers(reach)), int(generator.integers(1, 33))
        how = pick(generator, ("flip", "byte", "number", "cut", "drop", "repeat", "noise", "zero", "splice", "turn"))
        if how == "flip":
            data[place] ^= 1 << int(generator.integers(8))
        elif how == "byte":
            data[place] = int(generator.integers(256))
        elif how == "number":
            data[place : place + 4] = _number(generator).to_bytes(4, str(pick(generator, ("little", "big"))))
        elif how == "cut":
            del data[place:]
        elif how == "drop":
            del data[place : place + length]
        elif how == "repeat":
            data[place:place] = data[place : place + length]
        elif how == "noise":
            data[place : place + length] = generator.bytes(length)
        elif how == "zero":
            data[place : place + length] = bytes(length)
        elif how == "splice":
            source = other or content
            start = int(generator.integers(len(source)))
            data[place : place + 8 * length] = source[start : start + 8 * length]
        else:
            data[place : place + length] = data[place : place + length][::-1]
    return bytes(data)


def _number(generator: Generator) -> int:
    return _NUMBERS[int(generator.integers(len(_NUMBERS)))]


@dataclass(frozen=True)
class Element:
    """Where a DICOM data element lies in a file (PS3.5 7.1); items and delimiters are not elements."""

    start: int
    length_at: int
    length_size: int
    value_at: int
    end: int
    vr: bytes
    order: str


def dicom_elements(content: bytes) -> list[Element]:
    """The elements of a well-formed file, those of nested data sets too, without encapsulated pixels."""
    found, at, order, implicit = [], 132, "<", False
    syntax = b"1.2.840.10008.1.2.1"
    while at + 8 <= len(content):
        if (
            order == "<"
            and not implicit
            and content[at : at + 2] != b"\x02\x00"
            and found
            and found[-1].order == "meta"
        ):
            implicit, order = syntax == b"1.2.840.10008.1.2", ">" if syntax == b"1.2.840.10008.1.2.2" else "<"
        meta = content[at : at + 2] == b"\x02\x00"
        group = struct.unpack_from(order + "H", content, at)[0]
        if group == 0xFFFE:
            at += 8
            continue
        vr = b"" if implicit else content[at + 4 : at + 6]
        short = not implicit and vr not in _LONG_VRS
        length_at, length_size = (at + 6, 2) if short else (at + (4 if implicit else 8), 4)
        length = struct.unpack_from(order + ("H" if short else "L"), content, length_at)[0]
        value_at = length_at + length_size
        inside = vr == b"SQ"
        if length == 0xFFFFFFFF and not inside:
            break
        end = value_at if inside else value_at + length
        if content[at : at + 4] == b"\x02\x00\x10\x00":
            syntax = content[value_at:end].rstrip(b"\0")
        found.append(Element(at, length_at, length_size, value_at, end, vr, "meta" if meta else order))
        at = end
    return found


def damage_dicom(content: bytes, generator: Generator) -> bytes:
    """One to two elements that lie: value, length, tag, value representation, or place in the file."""
    for _ in range(int(generator.integers(1, 3))):
        try:
            elements = dicom_elements(content)
        except struct.error:
            return content
        if not elements:
            return content
        one, two = (elements[int(generator.integers(len(elements)))] for _ in range(2))
        how = pick(generator, ("value", "value", "value", "length", "tag", "vr", "drop", "repeat", "move"))
        content = _damage_element(content, one, two, str(how), generator)
    return content


def _damage_element(content: bytes, one: Element, two: Element, how: str, generator: Generator) -> bytes:
    order = "<" if one.order == "meta" else one.order
    size, form = one.length_size, order + ("H" if one.length_size == 2 else "L")
    whole = content[one.start : one.end]
    if how == "value":
        value = _hostile_value(one, order, generator)
        length = struct.pack(form, len(value))
        return content[: one.length_at] + length + value + content[one.end :]
    if how == "length":
        true = one.end - one.value_at
        lies = (true + 1, true + 2, max(true - 2, 0), 2 * true, _number(generator))
        lie = lies[int(generator.integers(len(lies)))] % (1 << (8 * size))
        return content[: one.length_at] + struct.pack(form, lie) + content[one.length_at + size :]
    if how == "tag":
        return content[: one.start] + content[two.start : two.start + 4] + content[one.start + 4 :]
    if how == "vr" and one.vr:
        return content[: one.start + 4] + bytes(pick(generator, _VRS)) + content[one.start + 6 :]  # type: ignore[call-overload]
    if how == "repeat":
        return content[: one.end] + whole + content[one.end :]
    without = content[: one.start] + content[one.end :]
    if how == "move" and two.start <= one.start:
        return without[: two.start] + whole + without[two.start :]
    return without


def _hostile_value(one: Element, order: str, generator: Generator) -> bytes:
    """A value of the element's kind that no scanner writes."""
    length = one.end - one.value_at
    if one.vr in (b"US", b"SS") or (not one.vr and length == 2):
        return struct.pack(order + "H", _number(generator) & 0xFFFF)
    if one.vr in (b"UL", b"SL", b"FL"):
        return struct.pack(order + "L", _number(generator))
    if one.vr == b"FD":
        return struct.pack(order + "d", pick(generator, (0.0, -1.0, float("nan"), float("inf"), 1e300)))
    if one.vr in (b"OW", b"OB"):
        return generator.bytes(int(generator.integers(4)) * 2)
    value = bytes(pick(generator, _TEXTS))  # type: ignore[call-overload]
    return value + b" " * (len(value) % 2)


def damage_nifti(content: bytes, generator: Generator) -> bytes:
    """One to three fields of the header that lie, or a header of the other byte order than its samples."""
    order = "<" if struct.unpack_from("<i", content)[0] == 348 else ">"
    header = np.frombuffer(content[:348], nibabel.nifti1.header_dtype.newbyteorder(order)).copy()
    names = header.dtype.names or ()
    for _ in range(int(generator.integers(1, 4))):
        name = names[int(generator.integers(len(names)))]
        field = header[name].reshape(-1)
        place = int(generator.integers(field.size))
        if field.dtype.kind == "f":
            field[place] = pick(
                generator, (0, -1, 1, 0.5, float("nan"), float("inf"), 1e30, 1e-30, -field[place], 352)
            )
        elif field.dtype.kind in "iu":
            limits = np.iinfo(field.dtype)
            value = pick(generator, (0, 1, 2, 4, 16, 64, 512, 1024, 1792, -1, int(limits.max), int(limits.min)))
            field[place] = np.clip(value, limits.min, limits.max)
        else:
            field[place] = pick(generator, (b"", b"n+1", b"ni1", b"\xff\xff\xff\xff"))
        header[name] = field.reshape(header[name].shape)
    if generator.random() < 0.05:
        header = header.byteswap()
    return header.tobytes() + content[348:]


def damage_png(content: bytes, generator: Generator) -> bytes:
    """Chunks that lie, are lost, repeated, out of order or strange, all with right checksums."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        length = struct.unpack_from(">L", content, at)[0]
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    place = int(generator.integers(len(chunks)))
    how = pick(generator, ("size", "size", "format", "drop", "repeat", "swap", "strange", "pixels", "bytes"))
    name, data = chunks[place]
    if how == "size":
        width, height = (pick(generator, (0, 1, 31, 33, 8192, 8193, 65536, 0x7FFFFFFF, 0xFFFFFFFF)) for _ in range(2))
        chunks[0] = (b"IHDR", struct.pack(">LL", width, height) + chunks[0][1][8:])
    elif how == "format":
        kinds = bytes(int(generator.integers(high)) for high in (33, 8, 2, 2, 3))
        chunks[0] = (b"IHDR", chunks[0][1][:8] + kinds)
    elif how == "drop":
        del chunks[place]
    elif how == "repeat":
        chunks.insert(place, chunks[place])
    elif how == "swap":
        chunks[place], chunks[0] = chunks[0], chunks[place]
    elif how == "strange":
        chunks.insert(1, _strange_chunk(generator))
    elif how == "pixels":
        rows = damage_bytes(zlib.decompress(b"".join(data for name, data in chunks if name == b"IDAT")), generator)
        chunks = [chunk for chunk in chunks if chunk[0] not in (b"IDAT", b"IEND")]
        chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    else:
        chunks[place] = (name, damage_bytes(data, generator) if data else generator.bytes(4))
    return content[:8] + b"".join(
        struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))
        for name, data in chunks
    )


def _strange_chunk(generator: Generator) -> tuple[bytes, bytes]:
    bomb = zlib.compress(bytes(8_000_000), 9)
    strange = [
        (b"zTXt", b"note\0\0" + bomb),
        (b"iCCP", b"profile\0\0" + bomb),
        (b"iTXt", b"note\0\1\0\0\0" + bomb),
        (b"tRNS", generator.bytes(2)),
        (b"PLTE", generator.bytes(7)),
        (b"gAMA", bytes(4)),
        (b"pHYs", generator.bytes(3)),
        (b"acTL", struct.pack(">LL", 0xFFFFFFFF, 0)),
        (b"eXIf", b"II*\0" + generator.bytes(40)),
    ]
    return strange[int(generator.integers(len(strange)))]


def damage_file(name: str, content: bytes, generator: Generator, other: bytes) -> bytes:
    """Bytes or fields of one file, each half the time."""
    by_field: dict[str, Callable[[bytes, Generator], bytes]] = {
        "dcm": damage_dicom,
        "nii": damage_nifti,
        "png": damage_png,
    }
    if generator.random() < 0.5:
        return damage_bytes(content, generator, other)
    return by_field[name.rpartition(".")[2]](content, generator)


def damage_set(files: Files, generator: Generator) -> dict[str, bytes]:
    """Files that are lost, copied, exchanged, renamed, emptied, strangers or nested archives."""
    found = dict(files)
    names = sorted(found)
    one, two = (names[int(generator.integers(len(names)))] for _ in range(2))
    how = pick(generator, ("drop", "copy", "exchange", "rename", "empty", "stranger", "nested", "halves"))
    if how == "drop":
        del found[one]
    elif how == "copy":
        found[f"copy-of-{one}"] = found[one]
    elif how == "exchange":
        found[one], found[two] = found[two], found[one]
    elif how == "rename":
        found[str(pick(generator, ("x", "x.nii.gz", "x.zip", "x.tar", "x.png", "ü\u202e.dcm", "DICOMDIR")))] = (
            found.pop(one)
        )
    elif how == "empty":
        found[one] = b""
    elif how == "stranger":
        strangers = (
            b"{}",
            b'{"00080060": {"vr": "CS"}}',
            b"\x80\x04}q\x00.",
            b"PK\x03\x04",
            b"\x1f\x8b",
            b"\x7fELF",
            b"\0" * 400,
        )
        found["stranger"] = bytes(pick(generator, strangers))  # type: ignore[call-overload]
    elif how == "nested":
        nest = (as_zip, as_tar, as_gzip)[int(generator.integers(3))]
        found |= nest({one: found.pop(one)})
    else:
        found[one] = found[one][: len(found[one]) // 2] + found[two][len(found[two]) // 2 :]
    return found


def odd_zip(files: Files, generator: Generator) -> dict[str, bytes]:
    """A ZIP as its writers or attackers make it: paths that lead out, links, bombs, lies, other compressions."""
    how = pick(
        generator, ("path", "link", "bomb", "method", "twice", "folder", "flags", "size", "front", "names", "json")
    )
    method = int(generator.choice([zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_STORED]))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method if how == "method" else zipfile.ZIP_DEFLATED) as package:
        for name, content in files.items():
            package.writestr(zipfile.ZipInfo(name), content, package.compression)
        info = zipfile.ZipInfo("extra")
        extra = b"nothing"
        if how in ("path", "names"):
            info.filename = _odd_name(generator, how == "path")
        elif how == "link":
            info.external_attr, extra = 0o120777 << 16, b"/etc/passwd"
        elif how == "bomb":
            extra = bytes(24_000_000)
        elif how == "json":
            info.filename, extra = "meta/study.json", b'{"SeriesInstanceUID": [1, null, {"a": "b"}]}'
        elif how == "folder":
            info.filename = "folder/"
        package.writestr(info, extra, zipfile.ZIP_DEFLATED)
        if how == "twice":
            again = zipfile.ZipInfo(sorted(files)[0] if files else "extra")
            package.NameToInfo.clear()
            package.writestr(again, b"again")
    data = bytearray(stream.getvalue())
    central = data.find(b"PK\x01\x02")
    if how == "flags":
        data[central + 8 : central + 10] = generator.bytes(2)
    elif how == "size":
        at = central + int(generator.choice([16, 20, 24, 42]))
        data[at : at + 4] = struct.pack("<L", _number(generator))
    return {"study.zip": bytes(data) if how != "front" else generator.bytes(64) + bytes(data)}


def _odd_name(generator: Generator, leads_out: bool) -> str:
    outside = ("../x", "/etc/x", "a/../../x", "C:\\x", "..\\x", "\\\\host\\x", "./../x")
    strange = (
        "x" * 5000,
        "a/" * 200 + "x",
        "con",
        " ",
        ".",
        "x\x01y",
        "\u202excod.exe",
        ".hidden",
        "__MACOSX/x",
        "😀",
    )
    return str(pick(generator, outside if leads_out else strange))


def odd_tar(files: Files, generator: Generator) -> dict[str, bytes]:
    """A TAR with members that are no files, paths that lead out, headers that lie, or a compression around it."""
    how = pick(
        generator, ("path", "names", "type", "type", "size", "pax", "bomb", "compress", "compress", "twice", "json")
    )
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as package:
        for name, content in files.items():
            _add(package, tarfile.TarInfo(name), content)
        info, extra = tarfile.TarInfo("extra"), b"nothing"
        if how in ("path", "names"):
            info.name = _odd_name(generator, how == "path")
        elif how == "type":
            info.type = bytes(pick(generator, (b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"S", b"Z")))  # type: ignore[call-overload]
            info.linkname, extra = "/etc/passwd", b""
        elif how == "pax":
            info.pax_headers = {str(pick(generator, ("size", "path", "mtime", "GNU.sparse.map"))): "../9" * 3}
        elif how == "bomb":
            extra = bytes(24_000_000)
        elif how == "json":
            info.name, extra = "meta/study.json", b"[" * 2000
        elif how == "twice":
            info.name = sorted(files)[0] if files else "extra"
        _add(package, info, extra)
    data = bytearray(stream.getvalue())
    if how == "size":
        sizes = (b"77777777777\0", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"-0000000001\0", b"not octal!!\0")
        _rewrite_size(data, bytes(pick(generator, sizes)))  # type: ignore[call-overload]
    packers: tuple[Callable[[bytes], bytes], ...] = (
        lambda plain: gzip.compress(plain, mtime=0),
        bz2.compress,
        lzma.compress,
    )
    if how == "compress":
        packed = packers[int(generator.integers(3))](bytes(data))
        return {"study.tar.x": damage_bytes(packed, generator) if generator.random() < 0.5 else packed}
    return {"study.tar": bytes(data)}


def _add(package: tarfile.TarFile, info: tarfile.TarInfo, content: bytes) -> None:
    info.size = len(content)
    package.addfile(info, io.BytesIO(content))


def _rewrite_size(data: bytearray, size: bytes) -> None:
    """State another size in the first header, with a right checksum."""
    data[124:136] = size
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])


def mutation(seed: Seed, kind: str, number: int, base: int) -> dict[str, bytes]:
    """The files of one mutation: damage within a file or three, to the set of files, or to the container."""
    generator = np.random.default_rng([base, number, *kind.encode()])
    level = generator.random()
    files = dict(seed.content)
    if level < 0.2 and seed.wrap is not as_it_is:
        if seed.wrap in (as_zip, as_tar) and generator.random() < 0.75:
            return odd_zip(files, generator) if seed.wrap is as_zip else odd_tar(files, generator)
        return {name: damage_bytes(content, generator) for name, content in seed.files.items()}
    if level > 0.85:
        files = damage_set(files, generator)
    if level <= 0.85 or generator.random() < 0.2:
        names = sorted(name for name, content in files.items() if name in seed.content and content)
        count = min(len(names), 1 if generator.random() < 0.8 else 3)
        for place in generator.choice(len(names), size=count, replace=False) if names else ():
            other = files[names[int(generator.integers(len(names)))]]
            files[names[place]] = damage_file(names[place], files[names[place]], generator, other)
    return dict(seed.wrap(files))
