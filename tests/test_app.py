"""The app without a browser: what it says, what it does on each message, what it refuses."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
import shutil
import threading
import time

import numpy as np
import pytest
from PIL import Image

from vigorlib import runs
from vigorlib.app import App, help_text, pictures, serve, words
from vigorlib.app.guard import guard
from vigorlib.app.pair import match_html, panorama_html
from vigorlib.app.session import AppError, Session, my_picture
from vigorlib.app.views import PIECE_BYTES, Gallery, MapView, QueryList, Upload
from vigorlib.geometry import great_circle_m
from vigorlib.located import Match, metres
from vigorlib.nearby import noisy_fix
from vigorlib.uploads import LIMITS


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory, city_root):
    """A home with two runs of profile smoke."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIGOR_BOOK_HOME", str(folder))
        for recipe in ("vigor", "safa"):
            runs.load_or_train(recipe, "smoke", data_root=city_root, progress=False)
        yield folder


@pytest.fixture(scope="module")
def shared(city_root) -> App:
    return App("smoke", str(city_root))


@pytest.fixture
def app(shared) -> App:
    """As it is at the beginning."""
    shared.reset()
    return shared


@pytest.fixture
def match(app) -> Match:
    return app.session.localizer(app.methods.chosen[0]).locate_query(0).best


def said(app: App) -> str:
    return re.sub("<[^>]*>", "", app.status.value)


def panorama_bytes(height: int = 64, width: int = 128) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG")
    return out.getvalue()


def send(view, message, *buffers) -> None:
    """What a browser could send."""
    view._handle_custom_msg(message, list(buffers))


# -- the whole -------------------------------------------------------------------------------


def test_it_begins_with_a_query_and_the_best_method(app):
    assert app.query == 0 and [m.recipe for m in app.methods.chosen] == ["vigor"]
    assert said(app) == "Choose a street, then Locate."
    assert app.answer.city.view.width > 1 and not app.answer.results


def test_locating_answers_as_the_library_does(app):
    app.locate.click()
    expected = app.session.localizer(app.methods.chosen[0]).locate_query(0)
    (result,) = app.answer.results
    assert result.matches == expected.matches
    cards = app.answer.galleries[0].cards
    assert [card["tile"] for card in cards] == [m.tile for m in expected.matches]
    assert cards[0]["distance"] == metres(expected.best.distance_m)


def test_another_query_takes_the_answers_away(app):
    app.locate.click()
    app.test_set.step(1)
    assert app.query == 1 and not app.answer.results and not app.answer.galleries[0].cards
    assert app.answer.pair.value == ""


def test_two_methods_answer_one_query(app):
    app.methods.rival.value = app.methods.rival.options[2][1]
    app.locate.click()
    assert [result.method for result in app.answer.results] == ["VIGOR", "SAFA"]
    assert {match["method"] for match in app.answer.city.view.matches} == {0, 1}


def test_asking_a_method_twice_answers_once(app):
    app.methods.rival.value = app.methods.method.value
    app.locate.click()
    assert len(app.answer.results) == 1


def test_another_setting_offers_other_methods_and_queries(app, city_root):
    for recipe in ("vigor",):
        runs.load_or_train(
            recipe, "smoke", protocol="cross-area", data_root=city_root, progress=False
        )
    other = App("smoke", str(city_root))
    other.methods.protocol.value = "cross-area"
    assert {m.protocol for m in other.methods.chosen} == {"cross-area"}
    assert other.test_set.data.cities == ("SanFrancisco", "Chicago")
    other.locate.click()
    assert len(other.answer.results[0].matches) == 50


def test_the_circle_is_searched_and_no_more(app):
    app.methods.near.value = True
    app.locate.click()
    (result,) = app.answer.results
    assert result.near is not None and result.searched < result.gallery_size
    reach = float(great_circle_m(*app.fix, *result.truth))
    assert reach <= app.methods.radius.value / 2 * 1.01


def test_a_click_on_the_map_is_the_fix(app):
    app.methods.near.value = True
    view = app.answer.city.view
    send(view, {"type": "fix", "row": 60.0, "column": 80.0})
    assert app.answer.city.map.to_pixel(app.fix) == pytest.approx([60, 80], abs=1e-3)
    assert app.answer.results and view.circle[:2] == pytest.approx([60, 80], abs=1e-3)


def test_an_answer_follows_the_circle(app):
    app.methods.near.value = True
    assert not app.answer.results  # nothing was answered, so nothing follows
    app.locate.click()
    app.methods.radius.value = 500
    (wide,) = app.answer.results
    assert wide.near.radius_m == 500
    app.methods.near.value = False
    (whole,) = app.answer.results
    assert whole.near is None and whole.searched == whole.gallery_size


def test_a_click_far_from_every_tile_is_told_and_harmless(app):
    app.methods.near.value = True
    send(app.answer.city.view, {"type": "fix", "row": -9e5, "column": 80.0})
    assert "nearest is" in said(app)
    app.methods.near.value = False
    app.locate.click()
    assert app.answer.results


def test_a_match_in_another_city_turns_the_map(app):
    app.locate.click()
    match = next(m for m in app.answer.results[0].matches if m.city != "NewYork")
    app.answer.choose(match.tile)
    assert app.answer.city.cities.value == match.city
    assert match.tile in [shown["tile"] for shown in app.answer.city.view.matches]


def test_heat_colours_both_views(app):
    app.locate.click()
    before = app.answer.query.value, app.answer.pair.value
    app._key("g")
    assert app.answer.heat.value == "grad-cam"
    assert app.answer.query.value != before[0] and app.answer.pair.value != before[1]
    app._key("g")
    app._key("g")
    assert (app.answer.query.value, app.answer.pair.value) == before


def test_queries_are_found_by_what_the_method_answered(app):
    answers = app.session.answers(app.methods.chosen[0])
    app.test_set.outcome.value = "wrong"
    assert app.test_set.found.tolist() == np.flatnonzero(answers["rank"] > 0).tolist()
    app.test_set.outcome.value, app.test_set.error.value = "right or wrong", "500 m and more"
    assert (answers["error_m"][app.test_set.found] >= 500).all()


def test_the_last_query_is_followed_by_the_first(app):
    app.test_set.step(-1)
    assert app.query == len(app.test_set.data) - 1
    app.test_set.step(1)
    assert app.query == 0


def test_no_query_passes_and_nothing_breaks(app):
    app.test_set.text.value = "there is no such name"
    app.test_set.step(1), app.test_set.random()
    assert app.query == 0 and app.test_set.list.total == 0


def test_what_comes_from_two_threads_is_done_in_turn():
    """JupyterLab sends some widgets' messages to a second thread."""
    done, searching = [], threading.Event()
    safely = guard(lambda text, mood: done.append(text))

    def search() -> None:
        searching.set()
        time.sleep(0.2)
        done.append("searched")

    slow = threading.Thread(target=safely(search))
    slow.start()
    assert searching.wait(10)
    safely(lambda: safely(done.append)("reset"))()  # and one callback may call another
    slow.join()
    assert done == ["searched", "reset"]


def test_a_profile_without_networks_is_refused(home):
    with pytest.raises(AppError, match="vigorlib train --recipe vigor --profile full"):
        App("full")


# -- own pictures and own area ---------------------------------------------------------------


def test_an_upload_in_pieces_arrives_whole(app):
    app.source.value = "mine"
    data, view = panorama_bytes(256, 512), app.mine.upload
    send(view, {"type": "begin", "id": "a", "name": "me.png", "size": len(data)})
    for at in range(0, len(data), 100_000):
        send(view, {"type": "piece", "id": "a", "at": at}, memoryview(data[at : at + 100_000]))
    assert app.query.name == "me.png" and app.query.upload.pixels.shape == (256, 512, 3)
    app.locate.click()
    assert app.answer.results[0].query == "me.png"


def test_turning_a_picture_rolls_it(app):
    app.source.value = "mine"
    app._uploaded("me.png", panorama_bytes())
    before = app.session.panorama(app.query, app.methods.chosen[0])
    app.mine.heading.value = 90
    after = app.session.panorama(app.query, app.methods.chosen[0])
    assert np.array_equal(after, np.roll(before, 32, axis=1))


def test_an_answer_turns_with_its_picture(app):
    """A browser may send the last step of a slider after the click on Locate that followed it."""
    app.source.value = "mine"
    app._uploaded("me.png", panorama_bytes())
    app.mine.heading.value = 45
    assert not app.answer.results
    app.locate.click()
    app.mine.heading.value = 90
    method = app.methods.chosen[0]
    assert app.answer.results[0].matches == app.session.locate(app.query, method).matches
    assert app.query.heading_deg == 90
    app._uploaded("another.png", panorama_bytes())
    assert not app.answer.results and "press Locate" in said(app)


def test_a_clicked_fix_stays_while_the_question_is_the_same(app):
    app.source.value = "mine"
    app._uploaded("me.png", panorama_bytes())
    app.methods.near.value = True
    send(app.answer.city.view, {"type": "fix", "row": 60.0, "column": 80.0})
    clicked = app.fix
    app.mine.heading.value = 90
    app.methods.radius.value = 500
    assert app.fix == clicked and "where you clicked" in app.methods.fix.value
    assert app.answer.results[0].near == (*clicked, 500)
    app._uploaded("another.png", panorama_bytes())
    assert app.fix is None and "click on the map" in app.methods.fix.value


def test_no_answer_follows_where_the_fix_is_not_known(app):
    app.source.value = "mine"
    app._uploaded("me.png", panorama_bytes())
    app.locate.click()
    app.methods.near.value = True
    assert not app.answer.results and "click on the map" in app.methods.fix.value


def test_the_heading_found_is_the_heading_set(app):
    app.source.value = "mine"
    app._uploaded("me.png", panorama_bytes())
    app._try_all()
    found = app.session.try_headings(app.mine.picture, app.methods.chosen[0])
    assert app.mine.heading.value == round(found.best_deg) and "fits best" in said(app)
    assert app.answer.results[0].matches == found.result.matches
    assert "polyline" in app.answer.headings.value


def test_a_bad_upload_is_told_and_the_one_before_stays(app):
    app.source.value = "mine"
    app._uploaded("good.png", panorama_bytes())
    app.mine.upload.on_bytes("bad.png", b"nothing of the kind")
    assert "expected a JPEG" in said(app) and app.query.name == "good.png"


def test_names_are_never_markup(app):
    app.source.value = "mine"
    app._uploaded("../<script>alert(1)</script>.png", panorama_bytes())
    assert "<script" not in app.answer.query.value + app.mine.about.value
    app.mine.upload.on_refused("<b>x</b>", 10**9)
    assert "<b>x" not in app.status.value and "at most 40 MB" in said(app)


def test_nothing_to_locate_is_said(app):
    app.source.value = "mine"
    app.locate.click()
    assert "nothing to locate" in said(app)


def test_an_area_of_ones_own_is_searched(city_root):
    area = App("smoke", str(city_root), str(city_root / "Seattle"))
    assert area.session.queries(area.methods.chosen[0]) is None
    area._uploaded("me.png", panorama_bytes())
    area.locate.click()
    assert {m.city for m in area.answer.results[0].matches} == {""}
    assert area.answer.city.view.matches and "Bring" not in said(area)
    area.reset()
    assert said(area).startswith("Bring a picture: ")


def test_what_is_left_out_of_an_area_is_told(city_root, tmp_path):
    for tile in sorted((city_root / "Seattle" / "satellite").iterdir())[:9]:
        shutil.copy(tile, tmp_path)
    (tmp_path / "<b>satellite.png").write_bytes(b"")
    area = App("smoke", str(city_root), str(tmp_path), tile_m=50.0)
    assert "9 tiles are ready" in said(area) and "1 files were left out" in said(area)
    assert "<b>" not in area.status.value
    localizer = area.session.localizer(area.methods.chosen[0])
    assert localizer.ground.tile_m == 50.0


def test_an_area_without_tiles_is_told(city_root, tmp_path):
    area = App("smoke", str(city_root), str(tmp_path))
    assert "satellite_" in said(area)


# -- what a browser may send -----------------------------------------------------------------

NONSENSE = [
    None, 7, [], "rows", {}, {"type": None}, {"type": "rows"}, {"type": "rows", "version": 1},
    {"type": "rows", "version": 1, "start": -1, "count": 5},
    {"type": "rows", "version": 1, "start": 0, "count": 10**9},
    {"type": "rows", "version": 1, "start": "0", "count": True},
    {"type": "choose", "tile": "1"}, {"type": "choose", "tile": 10**12}, {"type": "choose"},
    {"type": "fix", "row": float("nan"), "column": 0}, {"type": "fix", "row": "x"}, {"type": "fix"},
    {"type": "begin"}, {"type": "begin", "size": -1}, {"type": "begin", "size": 1e9},
    {"type": "piece", "id": "", "at": 0}, {"type": "too_large"}, {"type": "too_large", "size": "a"},
]  # fmt: skip


@pytest.mark.parametrize("message", NONSENSE)
def test_nonsense_from_a_browser_changes_nothing(app, message):
    app.locate.click()
    before = [m.tile for m in app.answer.results[0].matches], app.query, app.fix
    chosen = app.answer.city.view.chosen
    for view in (app.test_set.list, *app.answer.galleries, app.answer.city.view, app.mine.upload):
        send(view, message)
        send(view, message, memoryview(b"x"))
    assert ([m.tile for m in app.answer.results[0].matches], app.query, app.fix) == before
    assert app.answer.city.view.chosen == chosen


def test_pieces_that_do_not_fit_are_dropped():
    whole = []
    view = Upload()
    view.on_bytes = lambda name, data: whole.append(data)
    send(view, {"type": "begin", "id": "a", "name": "x", "size": 4})
    send(view, {"type": "piece", "id": "a", "at": 0}, memoryview(b"12345"))  # more than announced
    send(view, {"type": "piece", "id": "a", "at": 0}, memoryview(b"1234"))
    assert whole == []
    send(view, {"type": "begin", "id": "b", "name": "x", "size": 2 * PIECE_BYTES})
    send(view, {"type": "piece", "id": "b", "at": 0}, memoryview(bytes(PIECE_BYTES + 1)))
    send(view, {"type": "begin", "id": "c", "name": "x", "size": 4})
    send(view, {"type": "piece", "id": "c", "at": 2}, memoryview(b"34"))  # not the next
    send(view, {"type": "piece", "id": "c", "at": 0}, memoryview(b"12"))
    assert whole == []
    send(view, {"type": "begin", "id": "d", "name": "x", "size": 4})
    for at in (0, 2):
        send(view, {"type": "piece", "id": "d", "at": at}, memoryview(b"ab"))
    assert whole == [b"abab"]


def test_more_than_the_limit_is_never_taken():
    refused = []
    view = Upload()
    view.on_refused = lambda name, size: refused.append(size)
    send(view, {"type": "begin", "id": "a", "name": "x", "size": LIMITS.bytes + 1})
    assert refused == [LIMITS.bytes + 1] and view._id == ""


def test_the_list_gives_what_is_asked_for(monkeypatch):
    sent = []
    view = QueryList()
    view.rows = lambda start, count: [({"title": str(start + k)}, b"j") for k in range(count)]
    view.fill(5, 0)
    monkeypatch.setattr(view, "send", lambda *message: sent.append(message))
    send(view, {"type": "rows", "version": view.version, "start": 3, "count": 10})
    ((message, pictures_),) = sent
    assert [row["title"] for row in message["rows"]] == ["3", "4"] and pictures_ == [b"j", b"j"]
    view.position = 99
    assert view.position == 4


def test_a_failure_is_told_without_its_text():
    told = []
    safely = guard(lambda text, mood: told.append(text))

    def failing(kind):
        raise kind("<b>/secret/place</b>")

    safely(failing)(ValueError)
    safely(failing)(RuntimeError)
    assert told[0] == "&lt;b&gt;/secret/place&lt;/b&gt;"
    assert "RuntimeError" in told[1] and "secret" not in told[1]


# -- words and pictures ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0.0 m"), (4.23, "4.2 m"), (9.96, "10 m"), (999.4, "999 m"), (999.6, "1.0 km"),
     (1300, "1.3 km"), (3_874_400, "3,874 km")],
)  # fmt: skip
def test_distances_read_well(value, said):
    assert metres(value) == said


@pytest.mark.parametrize(
    ("rank", "said"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (13, "13th"),
     (21, "21st"), (42, "42nd"), (111, "111th")],
)  # fmt: skip
def test_ordinals_read_well(rank, said):
    assert words.ordinal(rank) == said


def test_verdicts_tell_right_from_covered_from_wrong(app):
    localizer = app.session.localizer(app.methods.chosen[0])
    result = localizer.locate_query(0)
    first = dataclasses.replace(result.best, reference="positive")
    right = dataclasses.replace(result, matches=(first,))
    covered = dataclasses.replace(
        result, matches=(dataclasses.replace(first, reference="semi-positive"),)
    )
    wrong = dataclasses.replace(result, matches=(dataclasses.replace(first, reference=""),))
    assert [words.verdict(r)[1] for r in (right, covered, wrong)] == ["right", "covered", "wrong"]
    assert "not among 1" in words.verdict(wrong)[0]
    unknown = dataclasses.replace(first, distance_m=None, error_m=None)
    assert words.verdict(dataclasses.replace(result, matches=(unknown,)))[1] == "unknown"


def test_where_the_query_is_on_the_tile_agrees_in_words_and_pixels(match):
    north, east = 100.0, -50.0  # the tile's centre lies north-west of the query
    moved = dataclasses.replace(
        match,
        offset_px=(north, east),
        predicted_lat_deg=match.lat_deg - 1e-4,
        predicted_lon_deg=match.lon_deg + 1e-4,
    )
    text = dict(words.facts(moved))["that is"]
    assert "south" in text and "east" in text
    circle = re.search(r'cx="([\d.]+)" cy="([\d.]+)"', match_html(moved))
    assert (float(circle[1]), float(circle[2])) == (370.0, 420.0)


def test_markup_in_names_is_shown_as_text(match):
    name = '"><img src=x onerror=alert(1)>'
    shown = match_html(dataclasses.replace(match, name=name, city="<b>"))
    assert "<img src=x" not in shown and "<b>," not in shown


def test_a_tile_that_cannot_be_read_is_a_grey_card(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    sheet = Image.open(io.BytesIO(pictures.contact_sheet([tmp_path / "bad.png"] * 3, 16, 2)))
    assert sheet.size == (32, 32)
    assert np.asarray(sheet)[8, 8].tolist() == pytest.approx(list(pictures.MISSING_RGB), abs=3)


def test_the_contact_sheet_is_in_reading_order(tmp_path):
    paths = []
    for k in range(5):
        paths.append(tmp_path / f"{k}.png")
        Image.new("RGB", (20, 20), (50 * k, 0, 0)).save(paths[-1])
    sheet = np.asarray(Image.open(io.BytesIO(pictures.contact_sheet(paths, 16, 3))))
    reds = [int(sheet[8 + 16 * (k // 3), 8 + 16 * (k % 3), 0]) for k in range(5)]
    assert reds == pytest.approx([0, 50, 100, 150, 200], abs=4)


def test_pictures_carry_no_metadata():
    written = Image.open(io.BytesIO(pictures.jpeg(np.zeros((8, 8, 3), np.uint8))))
    assert not written.getexif() and "comment" not in written.info


def test_a_panorama_is_shown_with_its_compass():
    shown = panorama_html(np.zeros((32, 64, 3), np.uint8), "caption")
    source = re.search(r"base64,([^\"]+)", shown)[1]
    assert Image.open(io.BytesIO(base64.b64decode(source))).size == (64, 32)
    assert re.findall(r"<span>(\w)</span>", shown) == ["S", "W", "N", "E", "S"]


def test_the_simulated_fix_stays_within_its_error():
    truth = (47.6, -122.3)
    distances = [float(great_circle_m(*truth, *noisy_fix(truth, 100, seed))) for seed in range(200)]
    assert max(distances) <= 101 and np.mean(distances) == pytest.approx(200 / 3, abs=6)
    assert noisy_fix(truth, 100, 7) == noisy_fix(truth, 100, 7)


def test_gps_of_a_picture_is_its_truth(city_root):
    image, exif = Image.new("RGB", (128, 64)), Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 36.0, 0.0), 3: "W", 4: (122.0, 18.0, 0.0)})
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif)
    picture = my_picture("me.jpg", out.getvalue())
    session = Session("smoke", str(city_root))
    method = session.methods[0]
    assert session.truth(picture, method) == pytest.approx((47.6, -122.3))
    assert session.city(picture, method) == "Seattle"
    sentence, outcome = words.verdict(session.locate(picture, method))
    assert "from the GPS" in sentence and outcome == "unknown"


# -- help and serving ------------------------------------------------------------------------


def test_the_manual_names_every_key_that_works():
    for key in ("p, n", "| r |", "Enter", "| g |", "| ? |", "Esc"):
        assert key in help_text()


def test_views_wait_for_nobody_else():
    for view in (QueryList, Gallery, MapView, Upload):
        assert "http" not in str(view._esm).replace("http://www.w3.org/2000/svg", "")


def test_visitors_get_the_output_only():
    command = serve.command(port=1234, browser=False)
    assert "--strip_sources=True" in command and "--show_tracebacks=False" in command
    assert "--VoilaConfiguration.file_denylist=.*" in command and "--port=1234" in command
    settings = serve.environment("smoke", "/data", "/tiles")
    assert settings["VIGOR_APP_TILES"] == "/tiles" and settings["VIGOR_APP_DATA_ROOT"] == "/data"
