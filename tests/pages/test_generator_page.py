"""A browser draws with a generator on its page; a few lines of JavaScript stand for the generator."""

import json

import numpy as np
import pytest
from PIL import Image

from pages import generator_page
from tests.support.browser import example_page
from tests.support.browser.generator_pages import after_translation, opened, pixels
from tests.support.images import picture

NEGATIVE = """  // the negative of an image; from noise, a square whose green is z[0] and whose blue is the class
onmessage = ({ data: { id, call, argument } }) => {
  if (call === "start") return postMessage({ id, value: "CPU", milliseconds: 0 });
  const { image, z, label } = argument;
  let value = image && { data: image.data.map((x) => -x), dims: image.dims };
  if (!value) {
    value = { data: new Float32Array(z.dims[0] * 48), dims: [z.dims[0], 3, 4, 4] };
    value.data.fill(Math.tanh(z.data[0]), 16, 32);
    value.data.fill(Number(label.data[0]) - 1, 32, 48);
  }
  postMessage({ id, value, milliseconds: 1 });
};
"""
MAP = [[0, 0, 200], [255, 90, 0], [60, 200, 60]]
IMAGES = {"inputs": {"image": [3, 40, 60]}, "width": 60, "height": 40, "classes": [], "sizes": "any", "colours": MAP,
          "kind": "label map"}  # fmt: skip
LINES = IMAGES | {"colours": [[255, 255, 255], [0, 0, 0]], "kind": "lines"}
AXES = [[1.0, *[0.0] * 4], [0.0, 1.0, 0.0, 0.0, 0.0]]
NOISE = {"inputs": {"z": [5], "label": []}, "width": 4, "height": 4, "classes": ["cat", "dog", "<b>"], "sizes": "4x4",
         "directions": AXES}  # fmt: skip


@pytest.fixture
def shown(browser, tmp_path):
    """shown(facts, **settings) opens the page of a stand-in."""

    def show(facts, credit="", **settings):
        generator_page.write_generator_page(tmp_path, "a <run>", facts, [], credit)
        (tmp_path / "worker.js").write_text(NEGATIVE)
        return opened(browser, tmp_path, **settings)

    return show


def drag(page, selector, *shares):
    """Draw a line through points given as shares of an element's width and height."""
    box = page.locator(selector).bounding_box()
    for number, (x, y) in enumerate(shares):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=5)
        if not number:
            page.mouse.down()
    page.mouse.up()


def colours_of(image):
    return {tuple(colour) for colour in image.reshape(-1, 3).tolist()}


def test_a_label_map_is_drawn_in_exact_colours_and_translated(shown):
    with shown(IMAGES) as page:
        assert colours_of(pixels(page, ".easel")) == {tuple(MAP[0])}
        page.get_by_role("button", name="Colour 2").click()
        after_translation(
            page, lambda: drag(page, ".easel", (0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8), (0.2, 0.2))
        )
        drawn = pixels(page, ".easel")
        assert colours_of(drawn) == {tuple(MAP[0]), tuple(MAP[2])}
        assert (drawn[8, 12:48] == MAP[2]).all() and (drawn[20, 30] == MAP[0]).all()
        page.keyboard.press("f")
        page.keyboard.press("1")
        after_translation(page, lambda: drag(page, ".easel", (0.5, 0.5)))
        filled = pixels(page, ".easel")
        assert (filled[20, 30] == MAP[1]).all() and (filled[0, 0] == MAP[0]).all()
        assert colours_of(filled) == set(map(tuple, MAP))
        np.testing.assert_array_equal(pixels(page, ".stage > canvas"), 255 - filled)
        after_translation(page, lambda: page.keyboard.press("Control+z"))
        np.testing.assert_array_equal(pixels(page, ".easel"), drawn)
        after_translation(page, lambda: page.keyboard.press("Control+Shift+z"))
        np.testing.assert_array_equal(pixels(page, ".easel"), filled)
        after_translation(page, lambda: page.get_by_role("button", name="Clear").click())
        assert colours_of(pixels(page, ".easel")) == {tuple(MAP[0])}


def test_lines_are_drawn_in_black_on_white_without_a_palette(shown):
    with shown(LINES) as page:
        assert page.locator(".swatch").count() == 0
        after_translation(page, lambda: drag(page, ".easel", (0.1, 0.5), (0.9, 0.5)))
        drawn = pixels(page, ".easel")
        assert (drawn[20, 10:50] < 40).all() and (drawn[0] == 255).all()
        page.keyboard.press("e")
        after_translation(page, lambda: drag(page, ".easel", (0.5, 0.5), (0.7, 0.5)))
        assert (pixels(page, ".easel")[20, 32:40] > 215).all()


@pytest.mark.parametrize("window", [(1366, 500), (390, 800), (1280, 900)])
@pytest.mark.parametrize("shape", [(60, 40), (40, 40), (20, 60)])
def test_strokes_are_where_the_pointer_is_in_every_window(window, shape, shown):
    facts = IMAGES | {"width": shape[0], "height": shape[1], "inputs": {"image": [3, shape[1], shape[0]]}}
    with shown(facts, viewport=dict(zip(("width", "height"), window))) as page:
        page.get_by_label("Thickness").fill("3")
        page.locator(".easel").scroll_into_view_if_needed()
        box = page.locator(".easel").bounding_box()
        scale = min(box["width"] / shape[0], box["height"] / shape[1])
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        place = x - scale * (shape[0] / 2 - 5.5), y - scale * (shape[1] / 2 - 9.5)  # the middle of the pixel (5, 9)
        after_translation(page, lambda: page.mouse.click(*place))
        rows, columns = np.nonzero((pixels(page, ".easel") != MAP[0]).any(2))
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 10, 4, 6)


def test_a_mask_of_two_classes_is_drawn_in_its_exact_colours(shown):
    with shown(IMAGES | {"colours": MAP[:2]}) as page:
        after_translation(page, lambda: drag(page, ".easel", (0.1, 0.2), (0.9, 0.7)))
        assert colours_of(pixels(page, ".easel")) == set(map(tuple, MAP[:2]))


def test_a_second_finger_draws_no_line(shown):
    with shown(LINES) as page:
        touch = """(all) => { for (const [kind, id, x] of all) {
          const easel = document.querySelector(".easel");
          easel.setPointerCapture = () => {};
          const box = easel.getBoundingClientRect();
          easel.dispatchEvent(new PointerEvent(kind, { pointerId: id, bubbles: true,
            clientX: box.left + x * box.width, clientY: box.top + box.height / 2 }));
        } }"""
        events = [["pointerdown", 1, 0.1], ["pointerdown", 2, 0.9], ["pointermove", 2, 0.88], ["pointermove", 1, 0.12]]
        after_translation(page, lambda: page.evaluate(touch, events))
        assert (pixels(page, ".easel")[:, 12:] == 255).all()


def test_undo_works_after_the_thickness_was_chosen(shown):
    with shown(LINES) as page:
        after_translation(page, lambda: drag(page, ".easel", (0.1, 0.5), (0.9, 0.5)))
        page.get_by_label("Thickness").click()
        after_translation(page, lambda: page.keyboard.press("Control+z"))
        assert (pixels(page, ".easel") == 255).all()


@pytest.mark.parametrize("size", [(60, 40), (131, 97), (20, 13), (60, 97)])
def test_a_picture_is_scaled_as_pillow_scales_it_and_saved(size, shown, tmp_path):
    picture(1, *size).save(tmp_path / "given.png")
    wanted = np.asarray(picture(1, *size).resize((60, 40), Image.Resampling.BICUBIC))
    with shown(IMAGES) as page:
        after_translation(page, lambda: page.set_input_files("input[type=file]", tmp_path / "given.png"))
        np.testing.assert_array_equal(pixels(page, ".easel"), wanted)
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save the result").click()
        saved.value.save_as(tmp_path / "saved.png")
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "saved.png").convert("RGB")), 255 - wanted)
        after_translation(page, lambda: page.get_by_label("Size").select_option("own"))
        assert pixels(page, ".stage > canvas").shape == (size[1], size[0], 3)
        page.set_input_files("input[type=file]", tmp_path / "index.html")
        page.get_by_text("index.html is no picture that this browser can read").wait_for()


def test_grey_is_that_of_pillow(shown, tmp_path):
    given = picture(2, 60, 40)
    given.save(tmp_path / "given.png")
    with shown(IMAGES | {"inputs": {"image": [1, 40, 60]}}) as page:
        after_translation(page, lambda: page.set_input_files("input[type=file]", tmp_path / "given.png"))
        grey = np.asarray(given.convert("L"))
        np.testing.assert_array_equal(pixels(page, ".stage > canvas"), 255 - np.stack([grey] * 3, 2))


def test_a_page_is_ready_once_its_first_picture_is_shown(shown):
    script = "document.addEventListener('translated', () => { window.readyBefore = document.body.dataset.ready; })"
    with shown(IMAGES) as page:
        page.add_init_script(f"window.readyBefore = 'nothing is shown'; {script}")
        page.reload()
        page.wait_for_selector("body[data-ready]")
        assert page.evaluate("window.readyBefore") is None


def test_the_edge_of_the_comparison_is_dragged(shown):
    with shown(IMAGES) as page:
        page.get_by_role("button", name="Compare").click()
        drag(page, ".stage", (0.5, 0.5), (0.25, 0.5))
        share = page.locator(".over").evaluate("each => getComputedStyle(each).clipPath")
        assert share.startswith("inset(0px 7")
        np.testing.assert_array_equal(pixels(page, ".over"), pixels(page, ".easel"))


def test_noise_has_sliders_classes_and_a_walk(shown):
    with shown(NOISE) as page:
        page.wait_for_function("() => document.querySelectorAll('.choice canvas').length === 12")
        assert page.get_by_role("button", name="<b>").is_visible()
        page.get_by_role("button", name="cat").dblclick()
        page.wait_for_function("() => document.body.dataset.busy === 'false'")
        assert page.locator(".choice").count() == 12
        slider = page.get_by_label("Direction 1")
        after_translation(page, lambda: slider.fill("1.5"))
        image = pixels(page, ".stage > canvas")
        assert image[0, 0, 1] == round((np.tanh(1.5) + 1) * 127.5) and image[0, 0, 2] == 0
        after_translation(page, lambda: page.get_by_role("button", name="dog").click())
        assert pixels(page, ".stage > canvas")[0, 0].tolist() == [128, image[0, 0, 1], 128]
        seen = page.evaluate("""() => new Promise((done) => {
          const seen = new Set();
          document.addEventListener("translated", () => {
            seen.add(document.querySelector("[aria-label='Direction 1']").value);
            if (seen.size > 20) done(seen.size);
          });
          [...document.querySelectorAll("button")].find((each) => each.textContent === "Walk").click();
        })""")
        assert seen == 21
        page.get_by_role("button", name="Stop").click()


def test_random_numbers_are_normal_and_those_of_their_seed(shown):
    with shown(NOISE) as page:
        one, again, other = (page.evaluate(f"[...normalNumbers({seed}, 20000)]") for seed in (1, 1, 2))
        assert one == again and abs(np.corrcoef(one, other)[0, 1]) < 0.03
        assert abs(np.mean(one)) < 0.03 and abs(np.std(one) - 1) < 0.03 and abs(np.mean(np.power(one, 4)) - 3) < 0.3


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("facts", [IMAGES, NOISE], ids=["images", "noise"])
def test_a_phone_shows_the_whole_page(facts, scheme, shown):
    with shown(facts, viewport={"width": 390, "height": 800}, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        heights = page.evaluate("[...document.querySelectorAll('button')].map(each => each.offsetHeight)")
        assert min(height for height in heights if height) >= 38  # a finger hits them


def test_names_and_credits_are_text(shown):
    with shown(IMAGES, credit="icons by <i>OpenMoji</i>") as page:
        assert page.locator("h1").inner_text() == "a <run>"
        assert page.get_by_text("icons by <i>OpenMoji</i>").is_visible()
        assert json.loads(page.locator("#data").inner_text())["colours"] == MAP


def test_the_newest_input_goes_first_and_kept_ones_stay(shown):
    with shown(NOISE) as page:
        order, values = page.evaluate("""async () => {
          const engine = makeEngine();
          await engine.start(null);
          const ended = [];
          const run = (number, isKept) => engine.run({
            z: { data: [number], dims: [1, 1] }, label: { data: [0n] },
          }, isKept).then((answer) => { ended.push(number); return answer && answer.value.data[16]; });
          const values = await Promise.all([run(1), run(2, true), run(3), run(4), run(5, true)]);
          return [ended, values];
        }""")
        assert order == [3, 1, 4, 2, 5]
        assert values[2] is None and np.allclose([v for v in values if v is not None], np.tanh([1, 2, 4, 5]))


def test_the_page_of_the_examples_is_current(tmp_path):
    example_page.write(tmp_path)
    for name in ("index.html", "worker.js"):
        is_same = (tmp_path / name).read_bytes() == (example_page.PLACE / name).read_bytes()
        assert is_same, f"examples/draw/{name} is old: run python -m tests.support.browser.example_page"
    assert sum(path.stat().st_size for path in example_page.PLACE.iterdir()) < 4e6
