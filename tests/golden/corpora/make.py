"""Makes the tiny packages of this folder, and builds archives for tests: npm .tgz, Python .whl, Debian .deb, Qt .rcc.

Run `python -m tests.golden.corpora.make` to write the packages again. All drawings and photographs in them
are made here, so they carry nobody's licence.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
FIXED_TIME = 1_700_000_000


def make_tar(files: Mapping[str, bytes], links: Mapping[str, str] = {}) -> bytes:
    """A tar of these files and symbolic links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mtime = tarfile.SYMTYPE, target, FIXED_TIME
            tar.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), FIXED_TIME
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def make_npm(files: Mapping[str, bytes], links: Mapping[str, str] = {}) -> bytes:
    """A package as `npm pack` brings it."""
    return gzip.compress(make_tar(files, links), mtime=FIXED_TIME)


def make_wheel(files: Mapping[str, bytes], name: str = "photos", version: str = "1.0") -> bytes:
    """A wheel that pip accepts."""
    info = f"{name}-{version}.dist-info"
    metadata = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as wheel:
        for member, content in {**files, **metadata}.items():
            wheel.writestr(zipfile.ZipInfo(member, (2023, 11, 14, 22, 13, 20)), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def make_deb(files: Mapping[str, bytes], *, data_name: str = "data.tar.xz", data: bytes | None = None) -> bytes:
    """A Debian package; `data`: its compressed tar, else one made of `files` with xz."""
    packed = lzma.compress(make_tar({f"./{name}": content for name, content in files.items()}))
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": lzma.compress(make_tar({"./control": b"odd"})),
        data_name: data if data is not None else packed,
    }
    archive = b"!<arch>\n"
    for name, content in members.items():
        header = f"{name:<16}{FIXED_TIME:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n"
        archive += header.encode() + content + b"\n" * (len(content) % 2)
    return archive


def make_rcc(files: Mapping[str, bytes], *, compress: str = "") -> bytes:
    """A Qt resource bundle with all files in one folder `a`; `compress`: empty, `zlib` or `zstd`."""
    names, data, offsets = b"", b"", {}
    for name in ["a", *files]:
        offsets[name] = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    tree = struct.pack(">IHIIQ", 0, 2, 1, 1, 0) + struct.pack(">IHIIQ", offsets["a"], 2, len(files), 2, 0)
    for name, content in files.items():
        flags, packed = _compress(content, compress)
        tree += struct.pack(">IHHHIQ", offsets[name], flags, 0, 0, len(data), 0)
        data += struct.pack(">I", len(packed)) + packed
    head = 20
    return b"qres" + struct.pack(">IIII", 2, head, head + len(tree), head + len(tree) + len(data)) + tree + data + names


def _compress(content: bytes, how: str) -> tuple[int, bytes]:
    if how == "zlib":
        return 1, struct.pack(">I", len(content)) + zlib.compress(content)
    if how == "zstd":
        import zstandard

        return 4, zstandard.compress(content)
    return 0, content


def make_icons(bodies: Mapping[str, str], aliases: Mapping[str, Mapping[str, object]] = {}) -> bytes:
    """An Iconify set of 16 x 16 icons."""
    icons = {name: {"body": body} for name, body in bodies.items()}
    return json.dumps({"prefix": "x", "icons": icons, "aliases": aliases, "width": 16, "height": 16}).encode()


def make_photograph(size: tuple[int, int], colour: tuple[int, int, int]) -> bytes:
    """A JPEG that shades from black to a colour."""
    gradient = Image.linear_gradient("L").resize(size)
    image = Image.merge("RGB", [gradient.point([value * part // 255 for value in range(256)]) for part in colour])
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


def make_cutout(size: tuple[int, int]) -> bytes:
    """A PNG of many colours with a round mask."""
    red = Image.linear_gradient("L").resize(size)
    green = Image.linear_gradient("L").rotate(90).resize(size)
    mask = Image.radial_gradient("L").resize(size).point([255] * 128 + [0] * 128)
    buffer = io.BytesIO()
    Image.merge("RGBA", [red, green, Image.radial_gradient("L").resize(size), mask]).save(buffer, "PNG")
    return buffer.getvalue()


def make_clipart(title: str, keywords: list[str], licence: str = "http://web.resource.org/cc/PublicDomain") -> bytes:
    """A drawing with metadata as in the Open Clip Art Library, small on a large page measured in points."""
    items = "".join(f"<rdf:li>{keyword}</rdf:li>" for keyword in keywords)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
 xmlns:cc="http://web.resource.org/cc/" xmlns:dc="http://purl.org/dc/elements/1.1/" width="400.00pt" height="800.00pt">
<metadata><rdf:RDF><cc:Work rdf:about=""><dc:title>{title}</dc:title>
<dc:publisher><cc:Agent rdf:about=""><dc:title>Open Clip Art Library</dc:title></cc:Agent></dc:publisher>
<dc:creator><cc:Agent><dc:title>Ada Artist</dc:title></cc:Agent></dc:creator>
<dc:subject><rdf:Bag>{items}</rdf:Bag></dc:subject>
<cc:license rdf:resource="{licence}"/></cc:Work></rdf:RDF></metadata>
<circle cx="50" cy="50" r="20" fill="red"/></svg>""".encode()


EMOJI = {  # code points: (emoji, label, group, keywords)
    "1F34E": ("\U0001f34e", "red apple", 4, ["red_apple", "fruit", ":D"]),
    "1F997": ("\U0001f997", "cricket", 3, ["cricket", "insect"]),
    "1F3CF": ("\U0001f3cf", "cricket game", 6, ["cricket_game", "sport"]),
    "1F916": ("\U0001f916", "robot", 0, ["robot", "computer"]),
    "1F449": ("\U0001f449", "backhand index pointing right", 1, ["right", "hand"]),
    "1F3FB": ("\U0001f3fb", "light skin tone", 2, ["light"]),
    "1F995": ("\U0001f995", "sauropod", 3, ["dinosaur"]),
}


SKINS = ("bisque", "burlywood", "peru", "sienna", "saddlebrown")  # how a hand is drawn in each skin tone
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")


def _make_entry(points: str) -> dict[str, object]:
    """An emoji as emojibase-data describes it; the hand has a variant for each skin tone, and one with two."""
    emoji, label, group, _ = EMOJI[points]
    entry: dict[str, object] = {"hexcode": points, "emoji": emoji, "label": label, "group": group, "tags": ["tag"]}
    if points == "1F449":
        tones = [{"hexcode": f"1F449-1F3F{'BCDEF'[tone - 1]}", "tone": tone} for tone in range(1, 6)]
        entry["skins"] = [*tones, {"hexcode": "1F449-1F3FB-200D-1F449-1F3FC", "tone": [1, 2]}]
    return entry


def _hand(colour: str) -> str:
    return f'<path d="M0 6h12v4H0z" fill="{colour}"/>'


def _disc(colour: str) -> str:
    return f'<circle cx="8" cy="8" r="7" fill="{colour}"/>'


def golden_packages() -> dict[str, bytes]:
    """File name and content of the packages that are kept in this folder."""
    entries = [_make_entry(points) for points in EMOJI]
    german = [{**entry, "label": f"{entry['label']} (de)", "tags": ["Wort", "zweites Wort"]} for entry in entries]
    groups = [{"key": f"group-{number}", "order": number} for number in range(10)]
    hand, toned_hands = _hand("orange"), dict(zip(TONES, map(_hand, SKINS), strict=True))
    first = {
        "red-apple": _disc("red"),
        "cricket": _disc("green"),
        "cricket-game": _disc("brown"),
        "robot": _disc("grey"),
        "backhand-index-pointing-right": hand,
        "light-skin-tone": _disc("beige"),
        **{f"hand-{tone}": drawing for tone, drawing in toned_hands.items()},
    }
    chars = {
        "1f34e": "red-apple",
        "1f997": "cricket",
        "1f3cf": "cricket-game",
        "1f916": "robot",
        "1f3fb": "light-skin-tone",
        **{f"1f449-1f3f{'bcdef'[number]}": f"hand-{tone}" for number, tone in enumerate(TONES)},
    }
    second = {"red-apple": _disc("darkred"), "robot-face": _disc("silver"), "cricket-game": _disc("tan"), "left": hand}
    second |= {f"backhand-index-pointing-right-{tone}-skin-tone": drawing for tone, drawing in toned_hands.items()}
    second_aliases = {
        "cricket": {"parent": "cricket-game"},
        "backhand-index-pointing-right": {"parent": "left", "hFlip": True},
    }
    robot_alias = {"robot-face": {"parent": "robot"}}
    return {
        "labels.tgz": make_npm(
            {
                "package/en/data.json": json.dumps(entries).encode(),
                "package/en/messages.json": json.dumps({"groups": groups}).encode(),
                "package/de/data.json": json.dumps(german).encode(),
                **{f"package/{language}/data.json": b"[]" for language in ("fr", "es", "pt", "it", "ja", "zh")},
            }
        ),
        "keywords.tgz": make_npm(
            {"package/dist/emoji-en-US.json": json.dumps({row[0]: row[3] for row in EMOJI.values()}).encode()}
        ),
        "style-a.tgz": make_npm(
            {
                "package/icons.json": make_icons(first, robot_alias),
                "package/chars.json": json.dumps(chars).encode(),
                "package/index.js": b"throw new Error('never run')",
            }
        ),
        "style-b.tgz": make_npm({"package/icons.json": make_icons(second, second_aliases)}),
        "photos-1.0-py3-none-any.whl": make_wheel(
            {"photos/sea.jpg": make_photograph((900, 600), (40, 90, 200)), "photos/code.py": b"raise SystemExit(1)"}
        ),
        "stamps_1%3a2.0_all.deb": make_deb(
            {
                "usr/share/tuxpaint/stamps/food/fruit/pear_1.png": make_cutout((120, 100)),
                "usr/share/tuxpaint/stamps/food/fruit/pear_1.txt": b"A green pear.\nde.utf8=Eine Birne.\n",
                "usr/share/doc/stamps/copyright": b"made for tests",
            }
        ),
    }


if __name__ == "__main__":
    for file_name, package in golden_packages().items():
        (HERE / file_name).write_bytes(package)
