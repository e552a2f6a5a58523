from pathlib import Path

import pytest

from bowerbird.corpora.clipart import read_clipart
from bowerbird.corpora.originals import Text
from bowerbird.corpora.photographs import read_gcompris, read_scenes, read_tuxpaint
from tests.golden.corpora.make import make_clipart, make_photograph, make_rcc


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def clipart(tmp_path: Path) -> Path:
    return tmp_path / "usr/share/openclipart/svg"


def test_clipart_speaks_in_the_words_of_its_maker(tmp_path: Path, clipart: Path) -> None:
    """Title, keywords, folders and author come from the metadata; the publisher is not taken for the title."""
    write(clipart / "food/fruit/apple_01.svg", make_clipart("Apple &amp; Worm", ["Food", "fruit/apple", "food"]))
    (original,) = read_clipart(tmp_path)

    assert (original.title, original.concept) == ("Apple & Worm", "apple-and-worm")
    assert original.tags == ("food", "fruit", "apple")
    assert (original.category, original.attribution) == ("food", "Ada Artist, Open Clip Art Library")


@pytest.mark.parametrize(
    ("written", "credited"),
    [
        ("Ghuul (ghuul@example.cz)", "Ghuul"),
        ("Ada Artist - ada@example.org", "Ada Artist"),
        ("ralf@ark.example.de", "ralf"),
        ("@nick", "@nick"),
    ],
)
def test_clipart_credits_people_without_their_mail_address(
    tmp_path: Path, clipart: Path, written: str, credited: str
) -> None:
    """The name stays, the address beside it goes: a page with credits is read by many."""
    write(clipart / "food/apple.svg", make_clipart("Apple", []).replace(b"Ada Artist", written.encode()))
    (original,) = read_clipart(tmp_path)

    assert original.attribution == f"{credited}, Open Clip Art Library"


def test_clipart_titles_and_keywords_lose_mail_addresses(tmp_path: Path, clipart: Path) -> None:
    """An address in a title goes, an address as a title gives way to the file name, and no keyword is one."""
    write(clipart / "office/a.svg", make_clipart("Phone (email: ada@example.it)", ["phone", "ada@example.it"]))
    write(clipart / "office/penguin.svg", make_clipart("ada@example.it", []))
    originals = list(read_clipart(tmp_path))

    assert [original.title for original in originals] == ["Phone", "penguin"]
    assert originals[0].tags == ("phone", "office")


def test_clipart_is_kept_only_if_it_declares_to_be_in_the_public_domain(tmp_path: Path, clipart: Path) -> None:
    """Another licence, none, or no metadata at all leave a drawing out."""
    write(clipart / "a/free.svg", make_clipart("free", []))
    write(clipart / "a/gpl.svg", make_clipart("gpl", [], licence="http://www.gnu.org/licenses/gpl-2.0"))
    write(clipart / "a/none.svg", make_clipart("none", [], licence=""))
    write(clipart / "a/bare.svg", b"<svg/>")
    assert [original.title for original in read_clipart(tmp_path)] == ["free"]


def test_clipart_titles_of_templates_give_way_to_file_names(tmp_path: Path, clipart: Path) -> None:
    """A title that credits the author, says nothing, or stands on many drawings is replaced by the file name."""
    write(clipart / "a/blue_house.svg", make_clipart("Clipart by Ada - smiley", []))
    write(clipart / "a/green_tree.svg", make_clipart("untitled", []))
    for number, animal in enumerate(("cat", "dog", "hen", "pig")):
        write(clipart / f"b/{animal}.svg", make_clipart("My drawing", [str(number)]))
    titles = [original.title for original in read_clipart(tmp_path)]
    assert titles == ["blue house", "green tree", "cat", "dog", "hen", "pig"]


def test_clipart_comes_once_without_playing_cards_and_fit_for_all(tmp_path: Path, clipart: Path) -> None:
    """A copy under another name, the decks of cards and what is not for children are left out."""
    write(clipart / "people/lady.svg", make_clipart("Lady", ["Sexy"]))
    write(clipart / "a/one.svg", make_clipart("one", []))
    write(clipart / "b/copy.svg", make_clipart("one", []))
    write(clipart / "recreation/games/cards/king.svg", make_clipart("king", []))
    assert [original.concept for original in read_clipart(tmp_path)] == ["one"]


def test_gcompris_photographs_are_named_by_their_files(tmp_path: Path) -> None:
    """A photograph in a known folder of a bundle has title, category and place; all else is left out."""
    photograph = make_photograph((90, 60), (9, 90, 200))
    base = "gcompris/src/activities"
    write(
        tmp_path / "usr/share/x.rcc",
        make_rcc(
            {
                f"{base}/explore_monuments/resource/egypt/bentPyramid.webp": photograph,
                f"{base}/categorization/resource/images/tools/hammer2.webp": b"hammer",
                f"{base}/categorization/resource/images/monuments/monument1.webp": b"which?",
                f"{base}/erase/resource/README": b"text",
                f"{base}/chess/resource/king.webp": b"drawing",
            },
            compress="zlib",
        ),
    )
    originals = list(read_gcompris(tmp_path))

    assert [(original.title, original.category) for original in originals] == [
        ("bent pyramid", "monuments"),
        ("hammer", "tools"),
    ]
    assert originals[0].tags == ("bent", "pyramid", "egypt", "monuments")
    assert originals[0].read() == photograph


@pytest.mark.parametrize(
    ("caption", "title"),
    [
        ("A green pear.\nde.utf8=Eine Birne.", "green pear"),
        ("A “Fuji” apple.", "fuji apple"),
        ("Jupiter—the largest planet.", "jupiter"),
        ("An owl, which can see at night.", "owl"),
        ("This is a very long sentence about a pear", "pear"),
        ("Eat your pear!", "pear"),
        ("de.utf8=Eine Birne.", "pear"),
        ("", "pear"),
    ],
)
def test_tuxpaint_captions_become_titles(tmp_path: Path, caption: str, title: str) -> None:
    """A short caption is the title, without article and aside; else the file name is."""
    root = tmp_path / "usr/share/tuxpaint/stamps/food/fruit"
    write(root / "pear_1.png", b"png")
    write(root / "pear_1.txt", caption.encode())
    (original,) = read_tuxpaint(tmp_path)
    assert (original.title, original.category, original.style) == (title, "food", "cutout")


def test_tuxpaint_leaves_symbols_cartoons_twins_and_drawings_out(tmp_path: Path) -> None:
    """Letters, cartoons, mirrored twins and stamps with an SVG are not cut-out photographs."""
    root = tmp_path / "usr/share/tuxpaint/stamps"
    for name in ("symbols/a.png", "food/cartoon/b.png", "food/pear_mirror.png", "food/drawn.png", "food/drawn.svg"):
        write(root / name, b"")
    write(root / "food/pear.png", b"png")
    assert [original.title for original in read_tuxpaint(tmp_path)] == ["pear"]


def test_scenes_are_described_by_hand(tmp_path: Path) -> None:
    """Scenes have the title that is written for them, and its words as keywords."""
    originals = {original.title: original for original in read_scenes(tmp_path, name="scikit-learn")}
    assert originals["dahlia"].tags == ("dahlia", "plants")
    assert originals["chinese tower above a lake"].concept == "chinese-tower-above-a-lake"


def test_clipart_keeps_the_words_of_its_maker_as_they_are(tmp_path: Path, clipart: Path) -> None:
    """Texts are raw: capitals, slashes and repetitions stay; mail addresses go, and what is empty is no text."""
    drawing = make_clipart("Apple &amp; Worm", ["Food", "fruit/apple", "food", "ada@example.org"])
    story = b"<dc:description>Drawn by me,\n for you (ada@example.org).</dc:description>"
    write(clipart / "food/fruit/apple_01.svg", drawing.replace(b"<dc:subject>", story + b"<dc:subject>"))
    write(clipart / "food/untold.svg", make_clipart("", []))
    told, untold = read_clipart(tmp_path)

    assert told.texts == (
        Text("title", "Apple & Worm"),
        Text("description", "Drawn by me, for you."),
        Text("tags", "Food, fruit/apple, food"),
        Text("name", "apple_01"),
        Text("folder", "food/fruit"),
    )
    assert [text.field for text in untold.texts] == ["name", "folder"]


def test_stamps_keep_their_captions_in_every_language(tmp_path: Path) -> None:
    """The first line is English, the others say their language; dialects and empty captions are left out."""
    stamps = tmp_path / "usr/share/tuxpaint/stamps/food"
    write(stamps / "t_pear.png", b"")
    captions = "A pear.\nde.utf8=Eine  Birne.\nen_GB.utf8=A pear.\nsr@latin.utf8=Kruska.\nzh_CN.utf8=梨\nfr.utf8=\n"
    write(stamps / "t_pear.txt", captions.encode())
    (original,) = read_tuxpaint(tmp_path)

    assert original.texts == (
        Text("caption:en", "A pear.", "en"),
        Text("caption:de", "Eine Birne.", "de"),
        Text("caption:zh", "梨", "zh"),
        Text("name", "t_pear"),
        Text("folder", "food"),
    )


def test_photographs_keep_the_names_of_file_and_folder(tmp_path: Path) -> None:
    """Of a photograph in a bundle only its path speaks; folders of every bundle say nothing."""
    name = "gcompris/src/activities/explore_monuments/resource/india/tajMahal.webp"
    write(tmp_path / "monuments.rcc", make_rcc({name: make_photograph((80, 60), (9, 9, 9))}))
    (original,) = read_gcompris(tmp_path)
    folder = Text("folder", "a/explore_monuments/india")  # the bundle is made with a folder `a`
    assert original.texts == (Text("name", "tajMahal"), folder)
