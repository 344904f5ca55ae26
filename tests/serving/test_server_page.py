"""The page of the server, used as a person would, in a real browser."""

import shutil
import threading
import time

import numpy as np
import pytest
import uvicorn
from PIL import Image

from keras_tl.commands import serve
from keras_tl.serving import server

playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs Playwright: pip install playwright"
)
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="needs the program chromium: apt install chromium",
    ),
]
TOKEN = "a-token-that-is-long"


@pytest.fixture
def start():
    """Function that serves runs in this process, and returns the address."""
    running = []

    def run(runs, **options):
        bound = serve.bind("127.0.0.1", 0)
        app = server.make_app(runs, **options)
        served = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=served.run, kwargs={"sockets": [bound]})
        thread.start()
        running.append((served, thread))
        while not served.started:
            time.sleep(0.01)
        return serve.address(bound)

    yield run
    for served, thread in running:
        served.should_exit = True
        thread.join()


@pytest.fixture
def page():
    """A page of a browser, which fails on errors of scripts and of the policy."""
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        page = browser.new_page()

        def note(message):
            # What the server refuses is said on the page, and here too.
            if message.type == "error" and "Failed to load" not in message.text:
                problems.append(message.text)

        problems, asked = [], []
        page.on("console", note)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.asked = asked
        yield page
        browser.close()
    assert problems == []


@pytest.fixture
def photos(tmp_path):
    """Two image files."""
    paths = []
    for number in range(2):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 256, (40, 60, 3), dtype="uint8")
        paths.append(tmp_path / f"photo{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def drop(page, path):
    """Drop a file on the page, as from a file manager."""
    content = list(path.read_bytes())
    page.evaluate(
        """([content, name]) => {
          const data = new DataTransfer();
          const file = new File([new Uint8Array(content)], name, {type: "image/png"});
          data.items.add(file);
          const event = new DragEvent("drop", {dataTransfer: data, bubbles: true});
          document.getElementById("images").dispatchEvent(event);
        }""",
        [content, path.name],
    )


def test_a_dropped_file_is_answered_and_its_label_corrected(
    start, page, photos, served, tmp_path
):
    address = start({"colours": served}, corrections=tmp_path / "kept")
    page.goto(address)
    page.get_by_text("Tells apart: red, green, blue.").wait_for()
    drop(page, photos[0])
    card = page.locator(".card")
    card.locator(".bars li").first.wait_for()
    answer = card.get_by_role("heading").inner_text()
    assert answer in ("red", "green", "blue")
    said = page.locator("#status").inner_text()
    assert said.startswith("photo0.png: ")
    assert answer in said
    assert card.locator(".bars li").count() == 3
    card.get_by_text("Correct it").click()
    card.get_by_label("Right label of photo0.png").select_option("blue")
    card.get_by_role("button", name="Keep this label").click()
    card.get_by_text("Kept as blue. 1 correction so far.").wait_for()
    (kept,) = (tmp_path / "kept/colours/blue").iterdir()
    assert kept.read_bytes() == photos[0].read_bytes()
    assert {url.startswith((address, "blob:", "data:")) for url in page.asked} == {True}


@pytest.mark.parametrize("abstains", [True, False])
def test_not_sure_is_said_only_where_the_model_abstains(
    start, page, photos, served, change_rules, abstains
):
    rule = {"precision": 0.95, "threshold": 1.1, "coverage": 0.1}
    change_rules(served, abstain=rule if abstains else None)
    page.goto(start({"colours": served}))
    page.locator("#about", has_text="red").wait_for()
    page.set_input_files("#files", photos[:1])
    page.locator(".bars li").first.wait_for()
    card = page.locator(".card")
    assert (card.get_by_role("heading").inner_text() == "Not sure") == abstains
    assert ("No answer is likely enough" in card.inner_text()) == abstains
    assert ("Not sure" in page.locator("#status").inner_text()) == abstains


def test_several_are_chosen_and_one_that_is_no_image_is_said(
    start, page, photos, served, tmp_path
):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"<svg></svg>")
    page.goto(start({"colours": served}))
    page.locator("#about", has_text="red").wait_for()
    with page.expect_response(lambda response: response.status == 422):
        page.set_input_files("#files", [*photos, broken])
    page.get_by_text("holds none of").first.wait_for()
    page.locator(".card:has(.bars li)").nth(1).wait_for()
    assert page.locator(".card").count() == 3


def test_all_of_it_can_be_done_with_the_keyboard(start, page, photos, served, tmp_path):
    # From here on, not from the key on: the browser takes a while to report choosers.
    page.on("filechooser", lambda chooser: chooser.set_files(photos[0]))
    page.goto(start({"colours": served}, corrections=tmp_path / "kept"))
    page.locator("#about", has_text="red").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    page.keyboard.press("Enter")
    page.locator(".bars li").first.wait_for()
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Correct it":
            break
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("g")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_text("Kept as green. 1 correction so far.").wait_for()


def test_texts_have_their_own_input(start, page, text_run):
    page.goto(start({"films": text_run}))
    page.get_by_label("Text").fill("good film")
    page.keyboard.press("Control+Enter")
    page.locator(".bars li").nth(1).wait_for()
    assert page.locator(".card .name").inner_text() == "good film"


def test_a_token_is_asked_for(start, page, served):
    page.goto(start({"colours": served}, token=TOKEN))
    page.get_by_label("This server needs a token").fill("another token")
    page.keyboard.press("Enter")
    page.get_by_text("This is not the server's token.").wait_for()
    page.get_by_label("This server needs a token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.get_by_text("Tells apart").wait_for()
    assert page.locator("#unlock").is_hidden()


def test_files_of_sound_are_chosen_and_answered(start, page, sound_run, tones):
    page.goto(start({"tones": sound_run[0]}))
    page.get_by_text("Tells apart: high, low.").wait_for()
    assert not page.locator("#images").is_visible()
    page.locator("#sounds").set_input_files([tones / "low" / "1.wav"])
    card = page.locator(".card")
    card.locator(".bars li").first.wait_for()
    assert card.get_by_role("heading").inner_text() in ("low", "Not sure")
    assert not card.locator(".view").is_visible()
    card.get_by_text("Nearest training examples").click()
    assert card.locator(".examples img").count() == 4
