"""The searches of the demo: by picture, by region and by item, each asked of the running services."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from bowerbird.boxes import Region
from bowerbird.cli import sheet
from bowerbird.cli.options import format_region
from bowerbird.cli.search import picture_path, to_result
from bowerbird.cli.show import FieldValue, name_of, notes_of
from bowerbird.rpc.clients import (
    Connection,
    Detection,
    Discoveries,
    DiscoveryClient,
    Item,
    RetrievalClient,
    SearchParams,
)

QUERY_STYLE = "noto"
OTHER_STYLES = ("twemoji", "openmoji", "fluent-flat", "fluent", "emojione")
# The first few of each list that the corpus has are shown.
CONCEPTS = ("cat-face", "pizza", "rocket", "guitar", "octopus", "sunflower", "snowman", "bicycle")
PHOTOGRAPHS = ("taj-mahal", "penguin", "dahlia", "eiffel-tower", "giraffe", "great-pyramid")
SCENES = ("motorcycle", "horse", "cup-of-coffee", "giraffe", "woman-reading-a-book")
CUTOUTS = ("hot-air-balloon", "giraffe", "sports-car", "zebra", "classical-guitar", "pink-flamingo")
BACKGROUNDS = ("road-through-green-mountains", "snowy-mountains-and-a-lake", "sunset-over-the-sea")
ITEMS = (("clipart", ("strawberry", "sailboat", "lighthouse", "gift")), ("cutout", ("green-bus", "tiger", "rose")))
SHOWN = 12
OBJECTS_SHOWN = 3
SCENE_SIZE = (1200, 800)
SCENE_PLACES = ((0.07, 0.06, 0.30, 0.46), (0.40, 0.34, 0.62, 0.94), (0.66, 0.58, 0.96, 0.94))


@dataclass
class Shelf:
    """The corpus in the index, to take queries from.

    Attributes:
        items: every item, without vectors.
        folder: where composed pictures are written.
    """

    items: list[Item]
    folder: Path

    def find(self, style: str, concepts: Sequence[str], limit: int) -> list[Item]:
        """The first items of these concepts that a style has and whose file is here, in the order of the concepts."""
        first: dict[str, Item] = {}
        for item in self.items:
            if item.fields.get("style") == style and picture_path(item.fields):
                first.setdefault(str(item.fields.get("concept")), item)
        return [first[concept] for concept in concepts if concept in first][:limit]


def build_groups(connection: Connection, index: str, folder: Path) -> list[sheet.Group]:
    """All searches of the demo, asked and answered; groups for which the corpus has no pictures are left out."""
    shelf = Shelf(list(RetrievalClient(connection).list_items(index=index)), folder)
    asker = Asker(DiscoveryClient(connection), index)
    groups = [
        sheet.Group(
            "By picture",
            "A drawing by one artist finds the same thing drawn by others, a photograph finds its like. "
            "A blue frame marks the same concept.",
            [*search_drawings(asker, shelf), *search_photographs(asker, shelf)],
        ),
        sheet.Group(
            "By region",
            "One object of a picture, found by the detector or framed by hand. The picture was sent once; its token "
            "stands for it in every further search.",
            [*search_scene(asker, shelf), *search_objects(asker, shelf)],
        ),
        sheet.Group(
            "By item",
            "More like something that is indexed already; nothing is sent but its id.",
            list(search_items(asker, shelf)),
        ),
    ]
    return [group for group in groups if group.searches]


class Asker:
    """Asks the services, and makes a search of the page out of the answer."""

    def __init__(self, client: DiscoveryClient, index: str) -> None:
        self.client = client
        self._index = index

    def by_picture(self, item: Item, condition: str) -> sheet.Search:
        """Search with the file of an item."""
        path = _path_of(item)
        data = path.read_bytes()
        start = time.perf_counter()
        found = self.client.search_by_image(data, index=self._index, params=_params(condition))
        seconds = time.perf_counter() - start
        return sheet.Search(
            label="picture",
            title=name_of(item.item_id, item.fields),
            note=notes_of(item.fields),
            image=sheet.inline_picture(data, sheet.QUERY_PX),
            photograph=path.suffix.lower() in sheet.PHOTOGRAPH_SUFFIXES,
            results=_results(found, item),
            command=_command(str(_short(path)), "--filter", condition),
            seconds=seconds,
            timings=found.info.timings,
            credit=sheet.credit_of(item.fields),
        )

    def by_region(self, path: Path, token: str, region: Region, title: str, note: str, own: str = "") -> sheet.Search:
        """Search with a part of a picture that the server has already; `own` is the id of the picture itself."""
        start = time.perf_counter()
        found = self.client.search_by_region(token, region, index=self._index, params=_params("", SHOWN + 1))
        seconds = time.perf_counter() - start
        hits = tuple(hit for hit in found.hits if hit.item_id != own)[:SHOWN]
        return sheet.Search(
            label="region",
            title=title,
            note=note,
            image=sheet.inline_picture(path, sheet.QUERY_PX),
            results=_results(replace(found, hits=hits), None),
            region=region,
            command=_command(str(_short(path)), "--region", format_region(region)),
            seconds=seconds,
            timings=found.info.timings,
        )

    def by_item(self, item: Item) -> sheet.Search:
        """Search with the id of an item."""
        start = time.perf_counter()
        found = self.client.search_by_item(item.item_id, index=self._index, params=_params(""))
        seconds = time.perf_counter() - start
        return sheet.Search(
            label="item",
            title=name_of(item.item_id, item.fields),
            note=notes_of(item.fields),
            image=sheet.inline_picture(_path_of(item), sheet.QUERY_PX),
            results=_results(found, item),
            command=_command("--item", item.item_id),
            seconds=seconds,
            timings=found.info.timings,
            credit=sheet.credit_of(item.fields),
        )


def search_drawings(asker: Asker, shelf: Shelf) -> Iterator[sheet.Search]:
    """Drawings of one style, searched for in the styles of other artists."""
    present = {str(item.fields.get("style")) for item in shelf.items}
    others = [style for style in OTHER_STYLES if style in present]
    condition = f"style in {', '.join(others)}" if others else f"style!={QUERY_STYLE}"
    for item in shelf.find(QUERY_STYLE, CONCEPTS, 4):
        yield asker.by_picture(item, condition)


def search_photographs(asker: Asker, shelf: Shelf) -> Iterator[sheet.Search]:
    """Photographs, searched for in everything else."""
    for item in shelf.find("photograph", PHOTOGRAPHS, 2):
        yield asker.by_picture(item, f"path!={_quote(item.fields['path'])}")


def search_scene(asker: Asker, shelf: Shelf) -> Iterator[sheet.Search]:
    """The objects of a picture composed of cut-outs, framed as a person would."""
    cutouts = shelf.find("cutout", CUTOUTS, len(SCENE_PLACES)) or shelf.find(QUERY_STYLE, CONCEPTS, len(SCENE_PLACES))
    if not cutouts:
        return
    backgrounds = shelf.find("photograph", BACKGROUNDS, 1)
    path = shelf.folder / "scene.jpg"
    regions = compose(cutouts, backgrounds[0] if backgrounds else None, path)
    token = asker.client.analyze_image(path.read_bytes()).image_token
    for item, region in zip(cutouts, regions, strict=True):
        yield asker.by_region(path, token, region, name_of(item.item_id, item.fields), "framed in a composed scene")


def search_objects(asker: Asker, shelf: Shelf) -> Iterator[sheet.Search]:
    """The clearest objects that the detector finds in photographs, one a photograph and a label."""
    seen: dict[str, tuple[Detection, Item, str]] = {}
    for item in shelf.find("photograph", SCENES, len(SCENES)):
        analysis = asker.client.analyze_image(_path_of(item).read_bytes())
        clear = choose_object(analysis.regions)
        if clear and (clear.label not in seen or seen[clear.label][0].score < clear.score):
            seen[clear.label] = (clear, item, analysis.image_token)
    for clear, item, token in sorted(seen.values(), key=lambda found: -found[0].score)[:OBJECTS_SHOWN]:
        title = f"{clear.label}, {clear.score:.2f}"
        note = f"found by the detector in “{name_of(item.item_id, item.fields)}”"
        yield asker.by_region(_path_of(item), token, clear.region, title, note, item.item_id)


def search_items(asker: Asker, shelf: Shelf) -> Iterator[sheet.Search]:
    """Indexed clip-art and cut-outs, and what is like them."""
    for style, concepts in ITEMS:
        for item in shelf.find(style, concepts, 1):
            yield asker.by_item(item)


def choose_object(detections: Sequence[Detection]) -> Detection | None:
    """The surest detection that is neither a speck nor the whole picture; None if there is none."""
    fitting = [each for each in detections if 0.02 <= _area(each.region) <= 0.7]
    return max(fitting, key=lambda each: each.score, default=None)


def compose(cutouts: Sequence[Item], background: Item | None, path: Path) -> list[Region]:
    """Write a picture of the cut-outs on the background; where each was placed."""
    scene = Image.new("RGB", SCENE_SIZE, "#cfe3ee")
    if background:
        with Image.open(_path_of(background)) as photograph:
            scene.paste(photograph.convert("RGB").resize(SCENE_SIZE, Image.Resampling.LANCZOS))
    regions = []
    for item, place in zip(cutouts, SCENE_PLACES, strict=False):
        left, top, right, bottom = Region(*place).to_pixels(*SCENE_SIZE)
        with Image.open(_path_of(item)) as stored:
            cutout = stored.convert("RGBA")
        cutout = cutout.crop(cutout.getbbox())
        scale = min((right - left) / cutout.width, (bottom - top) / cutout.height)
        size = (max(1, round(cutout.width * scale)), max(1, round(cutout.height * scale)))
        cutout = cutout.resize(size, Image.Resampling.LANCZOS)
        corner = ((left + right - size[0]) // 2, bottom - size[1])
        scene.paste(cutout, corner, cutout)
        box = (corner[0], corner[1], corner[0] + size[0], corner[1] + size[1])
        regions.append(Region(*(side / SCENE_SIZE[n % 2] for n, side in enumerate(box))))
    scene.save(path, quality=92)
    return regions


def _params(condition: str, top_k: int = SHOWN) -> SearchParams:
    return SearchParams(top_k=top_k, filter=condition or None)


def _results(found: Discoveries, query: Item | None) -> list[sheet.Result]:
    concept = query.fields.get("concept") if query else None
    return [to_result(hit, matches=concept is not None and hit.fields.get("concept") == concept) for hit in found.hits]


def _path_of(item: Item) -> Path:
    path = picture_path(item.fields)
    assert path is not None, "Shelf.find gives items whose file is here"
    return path


def _short(path: Path) -> Path:
    """The path from here, if it is below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _command(*words: str) -> str:
    return "bowerbird search " + shlex.join(words)


def _quote(value: FieldValue) -> str:
    return f'"{value}"'


def _area(region: Region) -> float:
    return (region.x_max - region.x_min) * (region.y_max - region.y_min)
