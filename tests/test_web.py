"""The static page in a real browser gives the same results as the Python interface."""

import base64
import functools
import http.server
import importlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from hypernet_jax import BLUR_SIGMA, Restorer, make_model, save_weights
from hypernet_jax.inference.requests import resolve_level
from hypernet_jax.inference.sources import Source
from hypernet_jax.photographs.level_maps import blend_of_mask, level_map, read_mask

from .browser import begin_anew, start_chromium
from .conftest import REPOSITORY
from .models import random_theta, unet_config

pytest.importorskip("selenium", reason="selenium is not installed")
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

UNET = "unet.safetensors"

needs_tools = pytest.mark.skipif(
    None in map(shutil.which, ("chromium", "chromedriver", "npm")),
    reason="chromium, chromedriver and npm are not all on this machine",
)


class Server(http.server.SimpleHTTPRequestHandler):
    requests: list[str] = []  # noqa: RUF012

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.requests.append(self.path)
        super().do_GET()

    def do_POST(self):
        self.requests.append(f"POST {self.path}")
        self.send_error(405)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The assembled page's folder."""
    scratch = tmp_path_factory.mktemp("web")
    folder, unet = scratch / "page", scratch / UNET
    # Shipped networks, one of them with several parts, and one of another architecture.
    # Its widths work on WebGPU.
    config = unet_config(channels=(4, 8, 8)) | {
        "task": "deblur",
        "normalisation": BLUR_SIGMA.normalisation,
    }
    save_weights(unet, random_theta(make_model(config)), config)
    weights = ["photo", "denoise", "sr", unet]
    process = subprocess.run(
        [sys.executable, REPOSITORY / "web/assemble.py", "-o", folder, "--weights", *weights],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if "npm could not install" in process.stderr:
        pytest.skip(process.stderr.strip())
    assert process.returncode == 0, process.stderr
    return folder


@pytest.fixture(scope="module")
def address(page):
    handler = functools.partial(Server, directory=str(page))
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_address[1]}/"
        server.shutdown()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chromium")
    flags = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
    driver = start_chromium(folder / "profile", folder, window=(960, 720), flags=flags)
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def browser(address, chromium, tmp_path):
    (tmp_path / "downloads").mkdir()
    begin_anew(chromium, tmp_path / "downloads", address)
    yield chromium
    chromium.get("about:blank")


def wait(browser, state="done", seconds=120):
    def reached(driver):
        found = driver.execute_script("return document.body.dataset.state")
        assert found != "failed" or state == "failed", status(driver)
        return found == state

    WebDriverWait(browser, seconds, poll_frequency=0.1).until(reached)


def status(browser):
    return browser.find_element("id", "status").text


def pixels(browser, canvas):
    """A canvas' RGB pixels."""
    url = browser.execute_script(f"return document.getElementById('{canvas}').toDataURL()")
    content = base64.b64decode(url.split(",")[1])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def levels_shown(browser, model):
    """The level in the page's controls, by name of part."""
    fields = {axis["name"]: f"number-{axis['name']}" for axis in model["axes"]}
    return {
        name: float(browser.find_element("id", field).get_property("value"))
        for name, field in fields.items()
    }


def differs(one, other):
    """The largest difference in grey levels, and the number of differing values."""
    distance = np.abs(one.astype(int) - other.astype(int))
    return distance.max(), (distance > 0).mean()


@needs_tools
def test_the_page_restores_as_the_package_does(page, address, browser, tmp_path):
    Server.requests.clear()
    browser.get(address)
    wait(browser, "ready")
    models = json.loads((page / "models.json").read_text())
    assert all(model["gpu"] for model in models.values())
    for task, model in models.items():
        Select(browser.find_element("id", "task")).select_by_value(task)
        browser.find_element("id", "example").click()
        wait(browser)
        photograph = np.asarray(Image.open(page / model["example"]))
        live = Restorer.from_pretrained(page.parent / UNET if task == "deblur" else task)
        shown = levels_shown(browser, model)
        if task == "photo":
            # Opened with the same estimated level as in the package.
            found, _ = resolve_level(live.model.task, "auto", photograph, None)
            for axis in live.space.axes:
                z = [float(axis.normalise(level[axis.name])) for level in (shown, found)]
                assert z[0] == pytest.approx(z[1], abs=0.01)
        else:
            assert list(shown.values()) == [axis["level"] for axis in model["axes"]]
        expected = live.restore(photograph, level=shown)
        largest, share = differs(pixels(browser, "after"), expected)
        assert largest <= 1 and share < 0.01
        factor = next(iter(shown.values())) if model["enlarges"] else None
        source = Source(photograph[None], factor)
        entering = 255 * source.read(0, *(slice(0, length) for length in source.size))
        largest, share = differs(pixels(browser, "before"), entering)
        assert largest <= 1 and share < 0.001
        assert "on this machine" in status(browser)
        browser.execute_script("document.body.dataset.state = 'ready'")
        if task == "photo":
            assert min(expected.shape[:2]) > 256  # so there was more than one tile
            if "HYPERNET_JAX_SCREENSHOT" in os.environ:  # the picture in docs/howto/browser.md
                browser.save_screenshot(os.environ["HYPERNET_JAX_SCREENSHOT"])
    # Only the page's own files were requested, and nothing was sent.
    own = {f"/{file.relative_to(page)}" for file in page.rglob("*")} | {"/"}
    assert set(Server.requests) <= own
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe


@needs_tools
def test_own_photographs_levels_and_mistakes(page, address, browser, tmp_path, photograph):
    own = tmp_path / "own photo.png"
    noisy = np.dstack([photograph[:101, :57], np.full((101, 57), 255, np.uint8)])
    noisy[:5, :, 3] = 0
    Image.fromarray(noisy).save(own)
    text = tmp_path / "notes.png"
    text.write_text("not an image")
    browser.get(address)
    wait(browser, "ready")
    Select(browser.find_element("id", "task")).select_by_value("denoise")
    chooser = browser.find_element("id", "file")
    chooser.send_keys(str(text))
    WebDriverWait(browser, 20).until(lambda driver: "not an image" in status(driver))
    chooser.send_keys(str(own))
    wait(browser)
    number = browser.find_element("id", "number-noise")
    for level, message in (("150", "from 0 to 100"), ("", "from 0 to 100")):
        number.clear()
        number.send_keys(level + "\t")
        WebDriverWait(browser, 20).until(lambda driver, message=message: message in status(driver))
        assert not browser.find_element("id", "download").is_enabled()
    # An unfinished request does not replace the message on the refused level.
    for level in ("20", "150"):
        browser.execute_script(
            "const n = document.getElementById('number-noise'); n.value = arguments[0];"
            "n.dispatchEvent(new Event('change'))",
            level,
        )
    time.sleep(3.0)
    assert "from 0 to 100" in status(browser)
    browser.execute_script("document.body.dataset.state = 'ready'")
    number.clear()
    number.send_keys("60\t")
    wait(browser)
    restored = pixels(browser, "after")
    expected = Restorer.from_pretrained("denoise").restore(noisy[..., :3], level=60)
    assert restored.shape == expected.shape == (101, 57, 3)
    # A canvas keeps no colour where it is transparent; elsewhere all is equal.
    largest, share = differs(restored[60:], expected[60:])
    assert largest <= 1 and share < 0.01
    browser.find_element("id", "download").click()
    downloaded = tmp_path / "downloads" / "own photo-restored.png"
    WebDriverWait(browser, 20).until(lambda _: downloaded.exists())
    saved = np.asarray(Image.open(downloaded))
    assert saved.shape == (101, 57, 4) and (saved[:5, :, 3] == 0).all()
    np.testing.assert_array_equal(saved[5:, :, :3], restored[5:])
    # The divider shows what lies under it.
    browser.execute_script(
        "const d = document.getElementById('divider'); d.value = 30;"
        "d.dispatchEvent(new Event('input'))"
    )
    clip = browser.execute_script("return document.getElementById('after').style.clipPath")
    assert "30%" in clip


def set_range(browser, name, value):
    browser.execute_script(
        "const r = document.getElementById(arguments[0]); r.value = arguments[1];"
        "r.dispatchEvent(new Event('input'))",
        name,
        value,
    )


def after_doing(browser, action):
    """The pixels of the result, once the last action has been answered."""
    browser.execute_script("document.body.dataset.state = 'ready'")
    action()
    wait(browser)
    return pixels(browser, "after").astype(int)


@needs_tools
def test_a_brush_gives_regions_their_own_strength(page, address, browser, tmp_path):
    browser.get(address)
    wait(browser, "ready")
    Select(browser.find_element("id", "task")).select_by_value("deblur")
    by_id = functools.partial(browser.find_element, "id")
    after_doing(browser, by_id("example").click)
    by_id("brush").click()
    set_range(browser, "size", 40)
    nothing = after_doing(browser, by_id("clear").click)
    assert not by_id("erase").is_selected()
    canvas = by_id("mask")
    painting = ActionChains(browser).move_to_element_with_offset(canvas, -60, -30)
    painting = painting.click_and_hold().move_by_offset(50, 20).release()
    painted = after_doing(browser, painting.perform)
    saved = tmp_path / "downloads" / "example-deblur-mask.png"
    by_id("save-mask").click()
    WebDriverWait(browser, 20).until(lambda _: saved.exists())
    mask = read_mask(saved, painted.shape[:2])
    assert mask.max() == 1 and 0.005 < (mask > 0).mean() < 0.1
    # Only pixels near the painted region changed, and they equal those of the package.
    model = json.loads((page / "models.json").read_text())["deblur"]
    rows, columns = np.nonzero(mask)
    margin = model["margin"]
    near = np.zeros(mask.shape, bool)
    near[
        max(0, rows.min() - margin) : rows.max() + margin + 1,
        max(0, columns.min() - margin) : columns.max() + margin + 1,
    ] = True
    changed = (painted != nothing).any(axis=-1)
    assert changed[mask == 1].mean() > 0.2 and not changed[~near].any()
    live = Restorer.from_pretrained(page.parent / UNET)
    photograph = np.asarray(Image.open(page / model["example"]))
    np.testing.assert_array_equal(nothing, photograph)
    levels = level_map(live.space.parse(levels_shown(browser, model)), mask)
    expected = live.restore(photograph, level=levels, blend=blend_of_mask(mask))
    largest, share = differs(painted, expected)
    assert largest <= 1 and share < 0.02
    # A stroke is visible at once, before the network has answered.
    seen = browser.execute_script(
        """
        const canvas = document.getElementById("after"), mask = document.getElementById("mask");
        const shown = () => canvas.toDataURL();
        const box = mask.getBoundingClientRect();
        const at = (x, y) => ({ clientX: box.left + x, clientY: box.top + y, pointerId: 1 });
        mask.setPointerCapture = () => {};
        const before = shown();
        mask.dispatchEvent(new PointerEvent("pointerdown", at(60, 60)));
        mask.dispatchEvent(new PointerEvent("pointermove", at(90, 70)));
        const during = shown();
        mask.dispatchEvent(new PointerEvent("pointerup", at(90, 70)));
        return [before !== during, document.body.dataset.state];
        """
    )
    assert seen == [True, "busy"]
    wait(browser)
    after_doing(browser, by_id("undo").click)
    undone = after_doing(browser, by_id("undo").click)
    np.testing.assert_array_equal(undone, nothing)
    # With the keyboard alone, as the label says.
    browser.execute_script("document.getElementById('mask').focus()")
    by_keys = after_doing(browser, lambda: canvas.send_keys(Keys.ARROW_LEFT, Keys.SPACE))
    assert (by_keys != nothing).any()
    canvas.send_keys("e]")
    assert by_id("erase").is_selected() and by_id("size").get_property("value") == "50"
    again = after_doing(browser, lambda: canvas.send_keys(Keys.CONTROL, "z", Keys.NULL))
    np.testing.assert_array_equal(again, nothing)
    # The scale factor is the same for the whole image.
    Select(by_id("task")).select_by_value("sr")
    assert not by_id("region").is_displayed() and not canvas.is_displayed()


@needs_tools
def test_strength_scales_all_parts_of_a_level(page, address, browser, tmp_path):
    browser.get(address)
    wait(browser, "ready")
    by_id = functools.partial(browser.find_element, "id")
    model = json.loads((page / "models.json").read_text())["photo"]
    assert by_id("strength").is_displayed() and not by_id("levels").is_displayed()
    photograph = np.asarray(Image.open(page / model["example"]))[:128, :160]
    Image.fromarray(photograph).save(tmp_path / "small.png")
    after_doing(browser, lambda: by_id("file").send_keys(str(tmp_path / "small.png")))
    shown = levels_shown(browser, model)
    live = Restorer.from_pretrained("photo")
    for strength in (0.5, 1.5):
        set_range(browser, "strength", strength)
        found = after_doing(
            browser,
            lambda: browser.execute_script(
                "document.getElementById('strength').dispatchEvent(new Event('change'))"
            ),
        )
        level = live.space.scaled(live.space.parse(shown), strength)
        largest, share = differs(found, live.restore(photograph, level=level))
        assert largest <= 1 and share < 0.05
    assert by_id("strength-value").text == "150 %"
    # Parts can also be set by hand; a new estimate replaces them.
    by_id("parts").find_element("tag name", "summary").click()
    number = by_id("number-noise")
    number.clear()
    after_doing(browser, lambda: number.send_keys("40\t"))
    assert levels_shown(browser, model)["noise"] == 40
    after_doing(browser, by_id("estimate").click)
    assert levels_shown(browser, model) == shown
    Select(by_id("task")).select_by_value("denoise")
    assert not by_id("strength").is_displayed() and not by_id("estimate").is_displayed()


@needs_tools
def test_the_gpu_gives_the_same_picture(address, browser, tmp_path, photograph):
    small, pictures = tmp_path / "small.png", {}
    Image.fromarray(photograph[100:190, 200:301]).save(small)
    for backend, named in (("wasm", "WebAssembly, "), ("webgpu", "WebGPU")):
        browser.get(f"{address}?backend={backend}")
        wait(browser, "ready")
        assert browser.execute_script("return self.crossOriginIsolated"), "threads may be used"
        if backend == "webgpu" and not browser.execute_async_script(
            "navigator.gpu?.requestAdapter().then(arguments[0]) ?? arguments[0](null)"
        ):
            pytest.skip("this browser has no WebGPU")
        Select(browser.find_element("id", "task")).select_by_value("deblur")
        choose = functools.partial(browser.find_element("id", "file").send_keys, str(small))
        pictures[backend] = after_doing(browser, choose)
        assert named in status(browser), status(browser)
    largest, share = differs(pictures["wasm"], pictures["webgpu"])
    assert largest <= 1 and share < 0.01


def test_networks_that_gpus_get_wrong_stay_on_the_processor():
    sys.path.insert(0, str(REPOSITORY / "web"))
    try:
        assemble = importlib.import_module("assemble")
    finally:
        sys.path.remove(str(REPOSITORY / "web"))
    assert assemble._runs_on_gpus(make_model(unet_config(channels=(4, 8, 8))))
    assert not assemble._runs_on_gpus(make_model(unet_config(channels=(4, 6, 8))))


@needs_tools
def test_without_a_gpu_of_its_own_the_page_takes_the_processor(page, address, browser):
    """This browser's GPU is a software fallback, slower than WebAssembly."""
    browser.get(address)
    wait(browser, "ready")
    Select(browser.find_element("id", "task")).select_by_value("deblur")
    after_doing(browser, browser.find_element("id", "example").click)
    assert "WebAssembly" in status(browser)
