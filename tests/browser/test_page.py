"""The interactive page in a real browser, headless, without any network."""

import shutil

import keras
import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import keras_attention as ka
from keras_attention.models import TransformerLanguageModel
from keras_attention.visualization import write_attention_page

pytestmark = pytest.mark.browser

MARKUP = "<img src=x onerror='document.title=1'><b>&lt;cat&gt;</b> \\n${1}"
SENTENCES = [["<b>the</b>", "&amp;", "dog", "barks"], ["</script>", "%{z}"]]
TOKENS = np.array([[2, 5, 6, 7, 0], [2, 4, 0, 0, 0]], "int32")


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    options.binary_location = shutil.which("chromium")
    driver = webdriver.Chrome(options, service)
    yield driver
    driver.quit()


def image_model(name, attention):
    model = keras.Sequential(name=name)
    model.add(keras.Input((12, 10, 3)))
    model.add(keras.layers.Conv2D(8, 3, activation="relu", name="conv"))
    model.add(attention)
    model.add(keras.layers.MaxPooling2D(name="pool"))
    model.add(ka.SqueezeExcite(4, name="squeeze"))
    return model


@pytest.fixture(scope="module")
def image_page(tmp_path_factory):
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).normal(size=(3, 12, 10, 3))
    models = {
        f"teacher {MARKUP}": image_model("teacher", ka.CBAM(4, name="cbam")),
        "student": image_model("student", ka.NonLocal(name="nonlocal")),
    }
    return write_attention_page(
        tmp_path_factory.mktemp("page") / "images.html",
        models,
        images.astype("float32"),
        [MARKUP, "second", "third"],
        title=MARKUP,
    )


@pytest.fixture(scope="module")
def class_page(tmp_path_factory):
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).normal(size=(3, 12, 10, 3))
    model = image_model("student", ka.CBAM(4, name="cbam"))
    model.add(keras.layers.GlobalAveragePooling2D())
    model.add(keras.layers.Dense(2, "softmax"))
    path = tmp_path_factory.mktemp("page") / "classes.html"
    return write_attention_page(
        path, model, images.astype("float32"), class_names=["cat", MARKUP]
    )


@pytest.fixture(scope="module")
def token_page(tmp_path_factory):
    keras.utils.set_random_seed(0)
    arguments = {
        "width": 12,
        "num_blocks": 2,
        "num_heads": 3,
        "feed_forward_dim": 8,
    }
    models = {
        "attention": TransformerLanguageModel(9, **arguments),
        "dynamic": TransformerLanguageModel(9, "dynamic", **arguments),
        "lightweight": TransformerLanguageModel(9, "lightweight", **arguments),
    }
    for model in models.values():
        model(TOKENS)
    return write_attention_page(
        tmp_path_factory.mktemp("page") / "tokens.html",
        models,
        TOKENS,
        words=SENTENCES,
    )


def open_page(browser, path, width=1400):
    browser.set_window_size(width, 1000)
    browser.get(path.as_uri())


def drawn(browser, panel=0, plot=0):
    """What plotly has been given to draw."""
    return browser.execute_script(
        "const p = document.querySelectorAll(`#panel-${arguments[0]} .plot`)"
        "[arguments[1]]; return p.data[0].z ?? p.data[0].y",
        panel,
        plot,
    )


def choose(browser, where, text):
    for choice in browser.find_elements(By.CSS_SELECTOR, f"{where} .choice"):
        if choice.text == text:
            choice.click()
            return
    raise AssertionError(f"{where} has no {text}")


def assert_no_errors(browser):
    assert [e for e in browser.get_log("browser") if e["level"] != "INFO"] == []


def checked_layer(browser):
    checked = "#panel-0 .layers input:checked + span"
    return browser.find_element(By.CSS_SELECTOR, checked).text


def pixels(browser, panel=0):
    return browser.find_element(
        By.CSS_SELECTOR, f"#panel-{panel} .plot"
    ).screenshot_as_png


def test_a_click_on_a_layer_changes_the_figure(browser, image_page):
    open_page(browser, image_page)
    before = drawn(browser), pixels(browser), drawn(browser, 1)
    choose(browser, "#panel-0 .layers", "squeeze")
    assert drawn(browser) != before[0]
    assert pixels(browser) != before[1]
    assert drawn(browser, 1) == before[2], "The other model stays."
    assert np.shape(drawn(browser)) == (5, 4)
    assert len(drawn(browser, plot=1)) == 8
    assert_no_errors(browser)


def test_a_click_on_an_image_changes_both_models(browser, image_page):
    open_page(browser, image_page)
    before = drawn(browser), drawn(browser, 1)
    choose(browser, "#examples", "third")
    assert drawn(browser) != before[0] and drawn(browser, 1) != before[1]
    assert_no_errors(browser)


def test_markup_is_shown_as_text(browser, image_page, token_page):
    open_page(browser, image_page)
    assert browser.title == MARKUP
    assert browser.find_element(By.TAG_NAME, "h1").text == MARKUP
    first = browser.find_element(By.CSS_SELECTOR, "#examples .choice")
    assert first.text == MARKUP
    heading = browser.find_element(By.CSS_SELECTOR, "#panel-0 h2")
    assert heading.text == f"teacher {MARKUP}"
    assert browser.find_elements(By.CSS_SELECTOR, "b, img[src=x]") == []
    assert_no_errors(browser)

    open_page(browser, token_page)
    ticks = browser.find_elements(By.CSS_SELECTOR, "#panel-0 .ytick text")
    assert [tick.text for tick in ticks] == [*SENTENCES[0], "[PAD]"]
    choose(browser, "#examples", " ".join(SENTENCES[1]))
    ticks = browser.find_elements(By.CSS_SELECTOR, "#panel-0 .ytick text")
    assert [tick.text for tick in ticks] == [*SENTENCES[1], *["[PAD]"] * 3]
    assert_no_errors(browser)


def test_heads_and_filters(browser, token_page):
    open_page(browser, token_page)
    before = [drawn(browser, panel) for panel in range(3)]
    assert np.shape(before[0]) == (5, 5) and before[0][0][1] is None
    choose(browser, "#panel-0 .heads", "2")
    assert drawn(browser) != before[0]
    choose(browser, "#panel-1 .heads", "1")
    assert drawn(browser, 1) != before[1]
    assert not browser.find_element(
        By.CSS_SELECTOR, "#panel-2 .heads"
    ).is_displayed()
    assert np.shape(before[2]) == (3, 3)
    assert_no_errors(browser)


def test_class_activation(browser, class_page):
    open_page(browser, class_page)
    assert checked_layer(browser) == "squeeze"
    shown = browser.find_element(By.CLASS_NAME, "prediction").text
    assert shown.startswith(("predicts cat, ", f"predicts {MARKUP}, "))
    titles = [h.text for h in browser.find_elements(By.TAG_NAME, "h3")]
    text = shown.removeprefix("predicts ")
    assert titles[:2] == [
        "activation map, sum of squares",
        f"class activation (Grad-CAM) of {text}",
    ]
    before = drawn(browser, plot=1)
    assert np.min(before) >= 0 and np.shape(before) == (5, 4)
    choose(browser, "#examples", "1")
    assert drawn(browser, plot=1) != before
    assert_no_errors(browser)


def test_dark_and_light(browser, token_page):
    colors = []
    for scheme in ("light", "dark"):
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": media}
        )
        open_page(browser, token_page)
        colors.append(
            browser.execute_script(
                "const p = document.querySelector('.plot').layout; return ["
                "getComputedStyle(document.body).backgroundColor, "
                "p.paper_bgcolor, p.font.color]"
            )
        )
        assert_no_errors(browser)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert colors[0] == ["rgb(255, 255, 255)", "#ffffff", "#1d2433"]
    assert colors[1] == ["rgb(20, 24, 31)", "#14181f", "#e4e8ef"]


def test_keyboard(browser, image_page):
    open_page(browser, image_page)
    before = drawn(browser)
    body = browser.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.TAB)
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert drawn(browser) != before
    before = checked_layer(browser)
    for _ in range(2):  # Over the slider, to the layers of the first model.
        browser.switch_to.active_element.send_keys(Keys.TAB)
    browser.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    assert checked_layer(browser) != before
    assert_no_errors(browser)


@pytest.mark.parametrize("width", [1400, 500])
def test_nothing_is_wider_than_the_window(
    browser, image_page, token_page, width
):
    for page in (image_page, token_page):
        open_page(browser, page, width)
        assert browser.execute_script(
            "return document.documentElement.scrollWidth <= innerWidth"
        )
        boxes = browser.find_elements(By.CLASS_NAME, "panel")
        is_wide = width > 1000
        assert (boxes[0].location["y"] == boxes[1].location["y"]) == is_wide


def test_no_network(image_page):
    page = image_page.read_text()
    assert "default-src 'none'" in page
    assert "<script src" not in page and '<link rel="stylesheet' not in page
