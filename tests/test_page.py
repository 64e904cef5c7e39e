"""The page: requests that it answers or refuses, and its use in a real browser."""

import contextlib
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from hypernet_jax import Restorer, UserError, make_model
from hypernet_jax.cli.main import main
from hypernet_jax.images.colour import Colour
from hypernet_jax.images.reading import read_photograph
from hypernet_jax.images.srgb import in_srgb
from hypernet_jax.photographs.level_maps import read_mask
from hypernet_jax.serve.middleware import OwnRequests
from hypernet_jax.serve.server import _free_port as _free_port_at
from hypernet_jax.serve.server import _names, serve_page, sweep
from hypernet_jax.serve.studio import NOTHING, Given, Studio

from .browser import begin_anew, start_chromium
from .commands import refuse
from .conftest import REPOSITORY
from .models import photo_config, random_theta, tiny_restorer

# The primaries of Display P3 at a gamma of 1.8.
WIDE = Colour((0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06), 1.8)


@pytest.fixture
def noisy(tmp_path, photograph):
    file = tmp_path / "noisy.png"
    # A sigma other than the initial value of the slider.
    noise = np.random.default_rng(0).normal(0, 14, (241, 333, 3))
    Image.fromarray(np.clip(photograph[:241, :333] + noise, 0, 255).astype(np.uint8)).save(file)
    return file


@pytest.fixture(scope="module")
def studio():
    return Studio(limit=1.0, restorers={task: tiny_restorer(task) for task in ("denoise", "sr")})


@pytest.mark.parametrize(("task", "level"), [("denoise", 25.0), ("sr", 1.7)])
@pytest.mark.parametrize("centre", [(0.0, 0.0), (0.4, 0.7), (1.0, 1.0)])
def test_the_window_shows_the_pixels_of_the_whole_result(task, level, centre, studio, noisy):
    part = studio.part(noisy, task, level, centre, 100)
    before, after = studio.compare(noisy, task, level, part)
    whole = studio.restorer(task).restore(read_photograph(noisy).pixels, level=level)
    assert before.shape == after.shape == (100, 100, 3)
    assert np.abs(after.astype(int) - whole[part]).max() <= 1
    assert (before != after).any()
    overview = studio.overview(noisy, task, level, part)
    assert overview.shape == (241, 333, 3)


@pytest.mark.parametrize(("task", "level"), [("denoise", 25.0), ("sr", 1.7)])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_the_window_shows_photographs_as_viewers_do(
    mode, task, level, studio, tmp_path, photograph
):
    """Transparent photographs on white, and those with a profile by it."""
    grey = mode == "LA"
    profile = WIDE.profile(grey=grey)
    alpha = np.zeros((120, 150), np.uint8)
    alpha[30:, 20:], alpha[60:, 50:] = 128, 255
    hidden = photograph[:120, :150] * (alpha > 0)[..., None]  # black where nothing is visible
    picture = Image.fromarray(hidden).convert(mode)
    picture.putalpha(Image.fromarray(alpha))
    picture.save(tmp_path / "in.png", icc_profile=profile)
    part = studio.part(tmp_path / "in.png", task, level, (0.3, 0.3), 90)
    before, after = studio.compare(tmp_path / "in.png", task, level, part)
    overview = studio.overview(tmp_path / "in.png", task, level, part)
    assert before.shape == after.shape == (90, 90, 3) and overview.shape == (120, 150, 3)

    def seen(file):
        picture = Image.open(file)
        white = Image.new(mode, picture.size, (255,) * len(mode))
        on_white = Image.alpha_composite(white.convert("RGBA"), picture.convert("RGBA"))
        shown = in_srgb(on_white.convert("L" if grey else "RGB"), io.BytesIO(profile))
        assert picture.info["icc_profile"] == profile
        return np.asarray(shown).astype(int)

    whole = seen(studio.whole(tmp_path / "in.png", task, level, tmp_path).file)
    # A level of rounding may grow where the profile is steep.
    assert np.abs(after - whole[part]).max() <= 4 and np.abs(after - whole[part]).mean() < 0.3
    small = studio.small(tmp_path / "in.png").astype(int)
    assert np.abs(small - seen(tmp_path / "in.png")).max() <= 1
    assert np.ptp(small, axis=-1).max() == 0 or not grey
    raw = np.asarray(Image.open(tmp_path / "in.png").convert("RGB")).astype(int)
    assert np.abs(small - raw)[60:, 50:].mean() > 2


def test_parts_of_a_level_are_given_by_hand(noisy):
    model = make_model(photo_config())
    restorer = Restorer(model, random_theta(model), backend="jax")
    photo = Studio(limit=1.0, restorers={"photo": restorer})
    given = Given(parts=(20.0, 60.0, 1.0))
    space = model.task.space
    assert photo.level(noisy, "photo", 1.0, given) == space.parse("noise=20,jpeg=60,blur=1")
    assert photo.level(noisy, "photo", 0.0, given) == space.parse("noise=0,jpeg=100,blur=0")
    part = photo.part(noisy, "photo", 1.0, (0.5, 0.5), 100)
    mask = np.zeros((24, 33), np.float32)
    before, after = photo.compare(noisy, "photo", 1.0, part, Given(mask, given.parts))
    np.testing.assert_array_equal(before, after)  # nothing is painted
    _, after = photo.compare(noisy, "photo", 1.0, part, Given(mask + 1, given.parts))
    _, expected = photo.compare(noisy, "photo", 1.0, part, given)
    assert np.abs(after.astype(int) - expected).max() <= 1


def test_sliders_give_what_they_show(studio, noisy):
    found = studio.found(noisy, "denoise")
    shown, sentence = studio.starting_value(noisy, "denoise")
    assert shown == round(float(found), 2) != float(found)
    assert sentence.startswith("Estimated noise sigma: 1")
    # Where it was found, and while its box is empty, the level is exactly the estimated one.
    assert studio.level(noisy, "denoise", shown) == studio.level(noisy, "denoise", None) == found
    assert float(studio.level(noisy, "denoise", 20)) == 20
    # A browser sends what was typed before it corrects it.
    assert float(studio.level(noisy, "denoise", 500)) == 100
    assert float(studio.level(noisy, "denoise", -1)) == 0
    for wrong in ("a", float("nan"), [1]):
        with pytest.raises(UserError, match="number"):
            studio.level(noisy, "denoise", wrong)


def test_parts_without_a_value_are_those_that_were_found(noisy):
    photo = Studio(limit=1.0)
    found = photo.found(noisy, "photo")
    empty = Given(parts=(None, 40.0, 99.0))
    level = photo.level(noisy, "photo", None, empty)
    assert level["noise"] == pytest.approx(found["noise"]) and level["jpeg"] == 40
    assert level["blur"] == found.space.axes[2].high
    assert photo.level(noisy, "photo", 9.0) == found.space.scaled(found, 2.0)


def test_the_studio_keeps_to_its_limits(studio, noisy, tmp_path):
    with pytest.raises(UserError, match="choose a smaller factor"):
        studio.part(noisy, "sr", 8.0, (0.5, 0.5), 100)
    Image.new("L", (1100, 1000)).save(tmp_path / "large.png")
    with pytest.raises(UserError, match="more than 1 megapixels"):
        studio.photograph(tmp_path / "large.png")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_missing_extra_is_reported(tmp_path):
    code = (
        "import sys; sys.modules['gradio'] = None; "
        "from hypernet_jax.cli.main import main; sys.exit(main(['serve', '--port', '0']))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    assert process.returncode == 2
    assert "pip install 'hypernet-jax[serve]'" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--max-upload", "nan"], "--max-upload is nan; give a number above 0"),
        (["--limit", "inf"], "--limit is inf"),
        (["--queue", "0"], "--queue is 0"),
        (["--host", "203.0.113.7"], "choose another --host"),
        (["--host", "no.such.host.invalid"], "choose another --host"),
    ],
)
def test_settings_that_cannot_be_served_are_reported(options, words, capsys):
    pytest.importorskip("gradio", reason="the extra `serve` is not installed")
    with pytest.raises(SystemExit) as stop:
        main(["serve", "--port", "0", *options])
    message = capsys.readouterr().err
    assert stop.value.code == 2 and words in message and message.count("\n") == 1


def test_a_port_in_use_is_reported(capsys):
    pytest.importorskip("gradio", reason="the extra `serve` is not installed")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit):
        main(["serve", "--port", str(taken.getsockname()[1])])
    assert "choose another --port" in capsys.readouterr().err


def test_only_files_that_nobody_uses_are_swept_away(studio, noisy, tmp_path):
    (tmp_path / "folder").mkdir()
    unused = tmp_path / "folder" / "unused.png"
    Image.new("L", (9, 9)).save(unused)
    for path in (noisy, unused):
        os.utime(path, (0, 0))
    studio.photograph(noisy)
    sweep(tmp_path, 3600)
    assert noisy.exists() and not unused.exists() and unused.parent.exists()


def test_old_empty_folders_are_swept_away(tmp_path):
    old = tmp_path / "results" / "old"
    (old / "inner").mkdir(parents=True)
    used, new = tmp_path / "results" / "used", tmp_path / "results" / "new"
    for path in (used, new):
        path.mkdir()
    for path in (old / "inner" / "unused.png", used / "used.png"):
        path.write_bytes(b"")
    for path in (old / "inner" / "unused.png", old / "inner", old, used, tmp_path / "results"):
        os.utime(path, (0, 0))
    sweep(tmp_path, 3600)
    assert {path.name for path in tmp_path.rglob("*")} == {"results", "used", "used.png", "new"}
    for path in (used / "used.png", used, new, tmp_path / "results"):
        os.utime(path, (0, 0))
    sweep(tmp_path, 3600)
    assert list(tmp_path.rglob("*")) == [tmp_path / "results"]


@pytest.fixture
def endless(monkeypatch):
    """A studio whose restorations never end by themselves, and an event when one has begun."""
    begun, restorer = threading.Event(), tiny_restorer()

    def restore(image, *, progress, **options):
        del image, options
        for _ in range(10_000):
            progress(0, 1)
            begun.set()
            time.sleep(0.01)
        raise AssertionError("nobody ended it")

    monkeypatch.setattr(restorer, "restore", restore)
    return Studio(limit=1.0, restorers={"denoise": restorer}), begun


@pytest.mark.parametrize("progress", [None, lambda done, of: None])
def test_a_closed_studio_leaves_no_files(progress, endless, noisy, tmp_path):
    studio, begun = endless
    results = tmp_path / "results"
    with ThreadPoolExecutor() as pool:
        job = pool.submit(studio.whole, noisy, "denoise", 25.0, results, progress=progress)
        assert begun.wait(60)
        studio.close()
        # `close` waits until the job has ended.
        assert isinstance(job.exception(30), UserError)
        assert str(job.exception()) == "The server is ending."
    for refused in (
        lambda: studio.whole(noisy, "denoise", 25.0, results),
        lambda: studio.example(results, "denoise"),
    ):
        with pytest.raises(UserError, match="The server is ending"):
            refused()
    assert not results.exists()


@pytest.mark.parametrize("way", ["stop", "stopped"])
def test_a_visitor_stops_only_their_own_restoration(way, endless, noisy, tmp_path):
    pytest.importorskip("gradio", reason="the extra `serve` is not installed")
    from hypernet_jax.serve.brush import ONLY
    from hypernet_jax.serve.handlers import Handlers

    studio, begun = endless
    handlers = Handlers(studio, tmp_path / "results", 3)
    one, other = (SimpleNamespace(session_hash=name) for name in ("one", "other"))
    with ThreadPoolExecutor() as pool:
        chosen = str(noisy), "denoise", 25.0, None, ONLY, 0.2
        job = pool.submit(handlers.whole, *chosen, one, lambda *at, unit: None)
        assert begun.wait(60)
        getattr(handlers, way)(other)
        time.sleep(0.1)
        # What a closed or reloaded page asks for, too.
        getattr(handlers, way)(one)
        download, message = job.result(30)
    assert message == "**Stopped; nothing is kept.**" and not download.interactive
    assert not (tmp_path / "results").exists()
    handlers.stop(one)


def test_a_restoration_that_is_begun_again_can_be_stopped(endless, noisy, tmp_path):
    """The one before may still run when its event has been cancelled."""
    pytest.importorskip("gradio", reason="the extra `serve` is not installed")
    from hypernet_jax.serve.brush import ONLY
    from hypernet_jax.serve.handlers import Handlers

    studio, begun = endless
    handlers, visitor = Handlers(studio, tmp_path / "results", 3), SimpleNamespace(session_hash="")
    given = str(noisy), "denoise", 25.0, None, ONLY, 0.2, visitor, lambda *at, unit: None
    with ThreadPoolExecutor() as pool:
        first = pool.submit(handlers.whole, *given)
        assert begun.wait(60)
        second = pool.submit(handlers.whole, *given)
        assert "Stopped" in first.result(30)[1]
        time.sleep(0.1)
        assert not second.done()
        handlers.stopped(visitor)
        assert "Stopped" in second.result(30)[1]
    assert handlers._stopped == {}


def test_a_restoration_that_has_not_begun_can_be_stopped(endless, noisy, tmp_path):
    pytest.importorskip("gradio", reason="the extra `serve` is not installed")
    from hypernet_jax.serve.brush import ONLY
    from hypernet_jax.serve.handlers import Handlers

    studio, begun = endless
    handlers, visitor = Handlers(studio, tmp_path / "results", 3), SimpleNamespace(session_hash="")
    given = str(noisy), "denoise", 25.0, None, ONLY, 0.2, visitor, lambda *at, unit: None
    handlers.begun(visitor)
    handlers.stopped(visitor)
    with ThreadPoolExecutor() as pool:
        assert "Stopped" in pool.submit(handlers.whole, *given).result(60)[1]
        # The next one is not concerned.
        handlers.begun(visitor)
        begun.clear()
        job = pool.submit(handlers.whole, *given)
        assert begun.wait(60)
        time.sleep(0.1)
        assert not job.done()
        handlers.left(visitor)
        assert "Stopped" in job.result(60)[1]
    assert handlers._stopped == handlers._asked == {}


def test_events_that_meet_no_photograph_or_a_thin_one(studio, tmp_path):
    """A click may be on its way while the photograph is cleared or swept away."""
    pytest.importorskip("gradio", reason="the extra `serve` is not installed")
    from hypernet_jax.serve.brush import ONLY
    from hypernet_jax.serve.handlers import MIDDLE, Handlers

    handlers, visitor = Handlers(studio, tmp_path / "results", 3), SimpleNamespace(session_hash="")
    Image.new("L", (4000, 3), 99).save(tmp_path / "thin.png")
    thin, gone = str(tmp_path / "thin.png"), str(tmp_path / "gone.png")
    click = SimpleNamespace(index=[140, 0])
    assert handlers.moved(None, "denoise", 9.0, "x2", NOTHING, click)[:4] == (*MIDDLE, None, None)
    down, across, pair, overview, message = handlers.moved(
        thin, "denoise", 9.0, "x2", NOTHING, click
    )
    assert (down, across, message) == (0, 25, "") and overview.shape == (1, 560, 3)
    assert Image.open(pair[1]).size == (300, 3)
    for path, said in ((None, "Drop a photograph, or take"), (gone, "no longer on the server")):
        assert said in handlers.moved(path, "denoise", 9.0, "x2", NOTHING, click)[-1]
        assert said in handlers.view(path, "denoise", 9.0, "x2", 50, 50)[-1]
        assert said in handlers.changed(path, "denoise", 9.0, "x2", 5, 5)[1]
        assert said in handlers.whole(path, "denoise", 9.0, None, ONLY, 0.2, visitor)[-1]
    assert "The position down 'x' is not a number" in handlers.view(
        thin, "denoise", 9.0, "x2", "x", None
    )[-1]  # fmt: skip


def test_the_painted_mask_is_one_small_picture(tmp_path):
    pytest.importorskip("gradio", reason="the extra `serve` is not installed")
    from hypernet_jax.serve.brush import ONLY, SPARED, mask_of

    def layer(size, opacity):
        picture = Image.new("RGBA", size, (230, 40, 60, 0))
        picture.paste((230, 40, 60, opacity), (0, 0, 10, size[1]))
        picture.save(tmp_path / f"{opacity}-{size[0]}.png")
        return str(tmp_path / f"{opacity}-{size[0]}.png")

    painted = layer((40, 30), 128)
    assert mask_of(None, ONLY, 0.0) is None and mask_of([], ONLY, None) is None
    assert mask_of([layer((40, 30), 0)], SPARED, 0.0) is None
    expected = np.zeros((30, 40), np.float32)
    expected[:, :10] = 1
    np.testing.assert_array_equal(mask_of([painted], ONLY, 0.0), expected)
    np.testing.assert_array_equal(mask_of([painted], SPARED, None), 1 - expected)
    soft = mask_of([painted], ONLY, 1.0)
    assert 0 < soft[0, 11] < soft[0, 9] < soft[0, 5] <= 1 and soft.shape == (30, 40)
    (tmp_path / "a.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for layers in ([painted, painted], [layer((6000, 6000), 1)], [str(tmp_path / "a.eps")]):
        with pytest.raises(UserError, match="not one small picture"):
            mask_of(layers, ONLY, 0.0)
    with pytest.raises(UserError, match="softness 'x' is not a number"):
        mask_of([painted], ONLY, "x")


def test_a_job_ends_before_the_folder_of_the_server_is_deleted(
    endless, noisy, tmp_path, monkeypatch
):
    uvicorn = pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
    studio, begun = endless
    seen = {}

    def make_app(folder, *, studio, **options):
        del options

        def job():
            with pytest.raises(UserError, match="The server is ending"):
                studio.whole(noisy, "denoise", 25.0, folder / "results")

        seen["job"] = threading.Thread(target=job)

    def run(app, **options):
        del app, options
        seen["job"].start()
        assert begun.wait(60)
        sys.exit(0)

    monkeypatch.setattr("hypernet_jax.serve.server.make_app", make_app)
    monkeypatch.setattr("hypernet_jax.serve.server._end_on_signals", lambda: None)
    monkeypatch.setattr("hypernet_jax.serve.studio.Studio", lambda **options: studio)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(uvicorn, "run", run)
    (tmp_path / "temporary").mkdir()
    with pytest.raises(SystemExit):
        serve_page(host="127.0.0.1", port=0, limit=1.0, max_upload=1.0, queue=1)
    seen["job"].join(0.5)
    assert not seen["job"].is_alive() and not list((tmp_path / "temporary").iterdir())


def test_the_package_runs_as_a_module():
    command = [sys.executable, "-m", "hypernet_jax", "--version"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert answer.stdout.startswith("hypernet-jax ")


@pytest.mark.parametrize("output", ["{folder}/a.png", "-"])
def test_one_photograph_at_an_address_is_refused(output, tmp_path, capsys):
    output = output.format(folder=tmp_path)
    said = refuse(capsys, "restore", "gs://bucket/a.jpg", "-o", output, "--task", "denoise")
    assert "A single photograph at an address is not read" in said
    assert "give a folder or address as output, or copy the photograph here first" in said


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def _sent(address: str, name: str, content: bytes, **headers: str) -> str:
    """Uploads a file as a visitor's browser does; returns its path on the server."""
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n' % name.encode()
    body = head + b"Content-Type: image/png\r\n\r\n" + content + b"\r\n--b--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    request = urllib.request.Request(f"{address}gradio_api/upload", body, kind | headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a running page, as the command serves it, and the folder it may write in."""
    pytest.importorskip("gradio", reason="the extra `serve` is not installed")
    folder = tmp_path_factory.mktemp("server")
    port = _free_port()
    command = [sys.executable, "-m", "hypernet_jax.cli.main", "serve", "--port", str(port)]
    command += ["--max-upload", "2", "--limit", "1"]
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=os.environ | {"TMPDIR": str(folder)},
        stderr=subprocess.PIPE,
        text=True,
    )
    address = f"http://127.0.0.1:{port}/"
    for _ in range(240):
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(address, timeout=5).close()
            break
        except OSError:
            time.sleep(0.5)
    assert process.poll() is None, process.stderr.read()
    small = io.BytesIO()
    Image.new("RGB", (9, 9)).save(small, "PNG")
    _sent(address, "a.png", small.getvalue())
    yield address
    # Uploads still exist, and are removed when the page ends.
    assert list(folder.rglob("*.png"))
    # The signal of a closed terminal; under nohup the page ignores it too.
    passed_over = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    process.send_signal(signal.SIGTERM if passed_over else signal.SIGHUP)
    process.wait(30)
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert "Traceback" not in process.stderr.read()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chromium")
    driver = start_chromium(folder / "profile", folder)
    yield driver
    driver.quit()


@pytest.fixture
def browser(server, chromium, tmp_path):
    begin_anew(chromium, tmp_path, server)
    chromium.get(server)
    choose(chromium, "denoise", largest="100")
    yield chromium
    chromium.get("about:blank")


def wait(condition, seconds=60):
    """Waits until `condition` returns something true, and returns it; fails after a timeout."""
    from selenium.common.exceptions import StaleElementReferenceException

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        # An element may be replaced between being found and being read.
        with contextlib.suppress(StaleElementReferenceException, IndexError):
            if found := condition():
                return found
        time.sleep(0.05)
    raise AssertionError(f"nothing within {seconds} seconds")


def steady(condition, *, seconds):
    """What `condition` returns once that has not changed for some seconds."""
    found, since = condition(), time.monotonic()
    while time.monotonic() < since + seconds:
        time.sleep(0.1)
        if (now := condition()) != found:
            found, since = now, time.monotonic()
    return found


def css(driver, selector):
    return driver.find_elements("css selector", selector)


def pictures(driver):
    """Addresses of the two pictures under the divider."""
    found = [image.get_attribute("src") for image in css(driver, "#divider img")]
    return found if len(found) == 2 else None


def upload(driver, path):
    wait(lambda: css(driver, "#photograph input[type=file]"))[0].send_keys(str(path))


def message(driver):
    shown = css(driver, "#message")
    return shown[0].text if shown else ""


def estimate(driver):
    shown = css(driver, "#found")
    return shown[0].text if shown else ""


def fetched(address) -> Image.Image:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return Image.open(answer).copy()


def choose(driver, task, *, largest):
    """Chooses a task, and waits until the slider has its range."""

    def slider_is_there():
        sliders = css(driver, "#level input[type=range]")
        return sliders and sliders[0].get_attribute("max") == largest

    wait(lambda: css(driver, f"#task input[value={task}]"))[0].click()
    wait(slider_is_there)


def set_level(driver, value):
    """Moves the slider like a user, by its input event."""
    driver.execute_script(
        "const e = document.querySelector('#level input[type=range]');"
        "e.value = arguments[0]; e.dispatchEvent(new Event('input', {bubbles: true}));",
        value,
    )


def test_upload_slide_download(browser, noisy, tmp_path, server):
    upload(browser, noisy)
    before, first = wait(lambda: pictures(browser))
    whole = np.asarray(Image.open(noisy))
    np.testing.assert_array_equal(np.asarray(fetched(before).convert("RGB")), whole[:, 16:316])
    # The slider starts at the estimated level.
    slider = css(browser, "#level input[type=range]")[0]
    assert float(slider.get_attribute("value")) == pytest.approx(14, abs=2)
    wait(lambda: "Estimated noise sigma" in estimate(browser))
    set_level(browser, 60)
    second = wait(lambda: (pictures(browser) or [0, first])[1] != first and pictures(browser))[1]
    shown = [np.asarray(fetched(address).convert("RGB"), float) for address in (first, second)]
    # A higher sigma leaves less variation from pixel to pixel.
    variation = [np.abs(np.diff(picture, axis=1)).mean() for picture in shown]
    assert variation[1] < 0.9 * variation[0]

    wait(lambda: css(browser, "#restore"))[0].click()
    wait(lambda: "noisy-restored.png" in css(browser, "#download")[0].text)
    css(browser, "#download")[0].click()
    file = tmp_path / "noisy-restored.png"
    wait(file.exists)
    wait(lambda: not list(tmp_path.glob("*.crdownload")))
    result = Image.open(file)
    assert result.format == "PNG" and result.size == (333, 241)
    expected = Restorer.from_pretrained("denoise").restore(whole, level=60)
    assert np.abs(np.asarray(result).astype(int) - expected).max() <= 1

    requested = [
        json.loads(entry["message"])["message"] for entry in browser.get_log("performance")
    ]
    addresses = {
        event["params"]["request"]["url"]
        for event in requested
        if event["method"] == "Network.requestWillBeSent"
    }
    outside = {a for a in addresses if a.startswith("http") and not a.startswith(server)}
    assert not outside and any(a.startswith(server) for a in addresses)


def test_what_cannot_be_restored_is_refused_with_a_sentence(browser, tmp_path):
    text = tmp_path / "notes.png"
    text.write_text("not an image")
    upload(browser, text)
    wait(lambda: "notes.png is not an image" in message(browser))
    assert not pictures(browser)
    css(browser, "#photograph button[aria-label=Clear]")[0].click()
    wait(lambda: "Drop a photograph" in message(browser))

    Image.new("L", (1100, 1000)).save(tmp_path / "large.png")
    upload(browser, tmp_path / "large.png")
    wait(lambda: "more than 1 megapixels" in message(browser))
    css(browser, "#photograph button[aria-label=Clear]")[0].click()
    wait(lambda: "Drop a photograph" in message(browser))

    (tmp_path / "huge.png").write_bytes(b"\x89PNG" + bytes(3_000_000))
    upload(browser, tmp_path / "huge.png")
    messages = wait(
        lambda: [e.text for e in css(browser, ".toast-body, #photograph .error") if e.text]
    )
    assert "size" in " ".join(messages)
    assert not pictures(browser)


def test_the_example_and_its_region(browser):
    from selenium import webdriver

    wait(lambda: css(browser, "#example"))[0].click()
    first = wait(lambda: pictures(browser))
    css(browser, "#zoom input[value=x4]")[0].click()
    closer = wait(lambda: pictures(browser) != first and pictures(browser))
    assert fetched(closer[0]).size == (150, 150)
    time.sleep(0.5)
    corner = css(browser, "#overview img")[0]
    move = webdriver.ActionChains(browser).move_to_element(corner)
    move.move_by_offset(-corner.size["width"] // 3, -corner.size["height"] // 3).click().perform()
    moved = wait(lambda: pictures(browser) != closer and pictures(browser))
    assert fetched(moved[0]).size == (150, 150)
    assert fetched(moved[0]).tobytes() != fetched(closer[0]).tobytes()
    # The same by keyboard.
    css(browser, "#position button")[0].click()
    numbers = [
        wait(lambda name=name: css(browser, f"#{name} input[type=number]"))[0]
        for name in ("down", "across")
    ]
    wait(lambda: all(each.is_displayed() for each in numbers))
    assert not {("button", ""), ("slider", ""), ("spinbutton", ""), ("link", "")} & named(browser)
    assert all(5 < float(each.get_property("value")) < 35 for each in numbers)
    for each in numbers:
        each.send_keys(webdriver.Keys.CONTROL, "a")
        each.send_keys("50", webdriver.Keys.TAB)
    wait(lambda: pictures(browser) == closer)
    choose(browser, "sr", largest="8")


def named(driver) -> set[tuple[str, str]]:
    """Role and name of all that a screen reader finds."""
    nodes = driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    return {
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
    }


def test_the_page_by_keyboard_and_screen_reader(server, tmp_path):
    from selenium.webdriver.common.keys import Keys

    flags = ("--lang=de-DE", "--accept-lang=de-DE")
    driver = start_chromium(tmp_path / "profile", tmp_path, flags=flags)

    def press(*keys):
        for key in keys:
            driver.switch_to.active_element.send_keys(key)

    def focused(attribute="id"):
        return driver.switch_to.active_element.get_attribute(attribute)

    try:
        driver.get(server)
        wait(lambda: css(driver, "#example"))[0].send_keys(Keys.ENTER)
        first = wait(lambda: pictures(driver))
        wait(lambda: css(driver, "[role=status]")[0].get_property("textContent") == "Ready")
        window = "The window {} restoration"
        assert named(driver) >= {
            ("heading", "Restore a photograph"),
            ("group", "Task"),
            ("group", "Zoom"),
            ("image", "The whole photograph, with a frame around the window"),
            ("image", window.format("before")),
            ("image", window.format("after")),
            ("slider", "range slider for Strength"),
            ("slider", "Divider between before and after"),
        }
        # Gradio's words are of the page's language.
        assert driver.find_element("tag name", "html").get_attribute("lang") == "en"
        assert ("button", "Clear") in named(driver)
        # The text is announced, but not the seconds that count over it.
        announced = css(driver, "[aria-live=polite]:not([role=status])")
        assert {each.text.split(" ")[0] for each in announced} == {"Found", ""}
        assert not css(driver, "[aria-live] [data-testid=status-tracker]")
        # A group of choices is one stop, and arrow keys choose.
        css(driver, "#zoom input:checked")[0].send_keys(Keys.ARROW_RIGHT)
        wait(lambda: pictures(driver) != first and pictures(driver))
        assert focused("value") == "x4" and focused("checked")
        press(Keys.TAB)
        assert focused("aria-expanded") == "false"  # past the overview, which is clicked
        divider = css(driver, "#divider [role=slider]")[0]
        driver.execute_script("arguments[0].focus()", divider)

        def place():
            return int(divider.get_attribute("aria-valuenow"))

        for key, share in ((Keys.ARROW_RIGHT, 55), (Keys.ARROW_DOWN, 50), (Keys.END, 100)):
            press(key)
            wait(lambda share=share: abs(place() - share) <= 1)
        # The photograph goes, and the focus stays where it was.
        css(driver, "#photograph button[aria-label=Clear]")[0].send_keys(Keys.ENTER)
        wait(lambda: "Drop a photograph" in message(driver))
        wait(lambda: focused("aria-label") and css(driver, "#photograph :focus"))
    finally:
        driver.quit()


def test_the_page_opens_with_photographs_and_their_parts(server, noisy, tmp_path):
    from selenium.webdriver.common.keys import Keys

    driver = start_chromium(tmp_path / "profile", tmp_path)
    try:
        driver.get(server)
        upload(driver, noisy)
        first = wait(lambda: pictures(driver))
        slider = css(driver, "#level input[type=range]")[0]
        assert slider.get_attribute("max") == "2" and slider.get_attribute("value") == "1"
        assert "Found noise" in estimate(driver)
        wait(lambda: css(driver, "#details button"))[0].click()
        part = wait(lambda: css(driver, "#part-0 input[type=range]"))[0]
        assert 5 < float(part.get_attribute("value")) < 30
        # A number is typed after the one there is deleted; one outside the range is limited.
        number = css(driver, "#part-0 input[type=number]")[0]
        number.send_keys(Keys.CONTROL, "a")
        number.send_keys(Keys.BACKSPACE)
        time.sleep(1.0)
        assert pictures(driver) == first
        number.send_keys("400", Keys.TAB)
        wait(lambda: pictures(driver) != first and pictures(driver))
        wait(lambda: part.get_attribute("value") == "75")
        assert not css(driver, "#stop")[0].is_enabled()
        css(driver, "#restore")[0].click()
        wait(lambda: css(driver, "#stop")[0].is_enabled())
        wait(lambda: "noisy-restored.png" in css(driver, "#download")[0].text)
        wait(lambda: not css(driver, "#stop")[0].is_enabled())
        assert "Restored at noise 75, JPEG quality" in message(driver)
        assert "png (noise 75, JPEG quality" in css(driver, "#download")[0].text
        # The file is for the settings that are shown, and goes when they change.
        set_level(driver, 0.5)
        wait(lambda: "Nothing restored" in css(driver, "#download")[0].text)
        assert "Found noise" in estimate(driver)
        assert not css(driver, ".toast-body") and not css(driver, "button[aria-label*=Reset]")
        # The whole image has one scale factor.
        assert css(driver, "#region")[0].is_displayed()
        choose(driver, "sr", largest="8")
        wait(lambda: not any(each.is_displayed() for each in css(driver, "#region")))
    finally:
        driver.quit()


def asked(address, *, data=None, **headers):
    """(status, text) of a request."""
    request = urllib.request.Request(address, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def view_of(path) -> bytes:
    """The request of the page when the slider moves."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    return json.dumps({"data": [file, "denoise", 25, "x2"]}).encode()


@pytest.mark.parametrize(
    "path",
    ["{folder}/private.png", "/etc/passwd", "/dev/zero", "https://example.com/a.png", "a\0b", ""],
)
def test_only_what_was_uploaded_can_be_named(path, server, tmp_path):
    Image.new("L", (64, 64)).save(tmp_path / "private.png")
    body = view_of(path.format(folder=tmp_path))
    for part in ("call/view", "run/view", "queue/join"):
        answer = asked(
            f"{server}gradio_api/{part}", data=body, **{"content-type": "application/json"}
        )
        assert answer == (403, '{"detail": "The request names a file that was not uploaded."}')


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:7860"}, 200),
        ({"host": "[::1]:7860"}, 200),
        ({"host": "elsewhere.example"}, 403),
        ({"host": "[::1"}, 400),
        ({"origin": "http://[::1"}, 400),
        ({"host": "elsewhere.example", "origin": "http://elsewhere.example"}, 403),
        ({"origin": "http://elsewhere.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "localhost:1", "origin": "http://localhost:1"}, 200),
        ({"host": "localhost:1", "origin": "http://localhost:2"}, 403),
    ],
)
def test_other_sites_are_refused(headers, status, server):
    got, answer = asked(f"{server}config", **headers)
    assert got == status
    if status != 200:
        assert list(json.loads(answer)) == ["detail"]


def test_requests_are_bounded(server):
    upload = f"{server}gradio_api/upload"
    form = {"content-type": "multipart/form-data; boundary=b"}
    # Refused before the rest is sent.
    status, answer = asked(upload, data=b"--b", **form, **{"content-length": "3000000"})
    assert status == 413 and "larger than 2 megabytes" in answer
    # No other request counts as an upload, whatever its content type.
    assert asked(f"{server}gradio_api/call/view", data=view_of("/etc/passwd"), **form)[0] == 403
    json_form = {"content-type": "application/json"}
    assert asked(f"{server}gradio_api/call/view", data=b" " * 1_000_001, **json_form)[0] == 413
    assert asked(f"{server}gradio_api/call/view", data=b"{", **json_form)[0] == 400
    assert asked(f"{server}gradio_api/call/view", data=b"[" * 100_000, **json_form)[0] == 400
    # A request of chunks whose length is stated, too, but wrongly.
    stated = {"transfer-encoding": "chunked", "content-length": "9"}
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(server).netloc, timeout=30)
    connection.request(
        "POST", "/gradio_api/upload", iter([bytes(99)]), form | stated, encode_chunked=True
    )
    assert connection.getresponse().status == 411
    connection.close()


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.png"])
def test_uploads_are_no_pages(name, server):
    """What another visitor uploads must not run as a part of the page."""
    content = b"<script xmlns='http://www.w3.org/1999/xhtml'>alert(1)</script>"
    path = _sent(server, name, content)
    with urllib.request.urlopen(f"{server}gradio_api/file={path}", timeout=30) as answer:
        kind, place = answer.headers["content-type"], answer.headers["content-disposition"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.read() == content
    assert kind == "image/png" or (kind, place[:10]) == ("application/octet-stream", "attachment")


def test_a_full_disk_is_no_place_for_uploads(tmp_path, monkeypatch):
    guard = OwnRequests(None, folder=tmp_path, names=None, max_upload=10**6)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=3 * 10**6))
    with pytest.raises(Exception, match=r"disk is almost full") as refused:
        guard._check_upload("1000")
    assert refused.value.status == 507
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=5 * 10**6))
    guard._check_upload("1000")


def test_the_task_that_was_chosen_last_is_shown(browser, tmp_path):
    # Its estimate takes longer than the answer of the other task.
    noise = np.random.default_rng(0).normal(128, 14, (700, 900, 3))
    Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).save(tmp_path / "noise.png")
    upload(browser, tmp_path / "noise.png")
    time.sleep(0.3)
    css(browser, "#task input[value=deblur]")[0].click()

    def largest():
        return css(browser, "#level input[type=range]")[0].get_attribute("max")

    wait(lambda: largest() == "4")
    wait(lambda: pictures(browser))
    time.sleep(4.0)
    assert largest() == "4"
    assert "Estimated noise" not in estimate(browser)


def test_a_restoration_is_stopped_while_it_waits_and_while_it_runs(browser, server, tmp_path):
    client = pytest.importorskip("gradio_client")
    noise = np.random.default_rng(0).normal(128, 14, (990, 1000, 3))
    Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).save(tmp_path / "large.jpg")
    upload(browser, tmp_path / "large.jpg")
    wait(lambda: pictures(browser))
    restore, stop = (css(browser, name)[0] for name in ("#restore", "#stop"))
    restore.click()
    wait(stop.is_enabled)
    time.sleep(0.3)
    stop.click()
    wait(lambda: "Stopped; nothing is kept" in message(browser))
    wait(lambda: not stop.is_enabled())

    def waiting():
        return json.loads(asked(f"{server}gradio_api/queue/status")[1])["queue_size"]

    # One restoration runs at a time; this one is of another visitor.
    one = client.Client(server, verbose=False, httpx_kwargs={"timeout": 120})
    chosen = client.handle_file(str(tmp_path / "large.jpg")), "denoise", 20.0, None, None, 0.2
    job = one.submit(*chosen, *3 * [None], api_name="/restore")
    wait(lambda: job.status().code.name == "PROCESSING")
    restore.click()
    wait(lambda: waiting() == 1)
    stop.click()
    wait(lambda: waiting() == 0, seconds=5)  # the other one takes longer
    wait(lambda: not stop.is_enabled())
    assert "Stopped" in message(browser)
    assert "Nothing restored" in css(browser, "#download")[0].text
    job.cancel()
    one.close()


def test_names_that_the_page_answers_to():
    assert _names("0.0.0.0", []) is None
    assert "photos.example" in _names("0.0.0.0", ["Photos.example"])
    assert _names("::1", []) == {"localhost", "127.0.0.1", "::1"}


def test_parallel_requests_are_all_answered(server, noisy):
    client = pytest.importorskip("gradio_client")
    levels = [float(level) for level in range(5, 55, 5)]

    def ask(level):
        one = client.Client(server, verbose=False, httpx_kwargs={"timeout": 120})
        photograph, parts = client.handle_file(str(noisy)), 3 * [None]
        return one.predict(photograph, "denoise", level, "x2", 50, 50, *parts, api_name="/view")

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(ask, levels))
    results = [Path(pair[1]).read_bytes() for pair, *_ in answers]
    assert len(set(results)) == len(levels)


def test_any_free_port_is_found_and_told():
    assert _free_port_at("127.0.0.1", 0) > 0


def test_a_brush_gives_regions_their_own_strength(browser, noisy, tmp_path):
    from selenium import webdriver

    upload(browser, noisy)
    everything = wait(lambda: pictures(browser))
    wait(lambda: css(browser, "#region button"))[0].click()
    canvas = wait(lambda: css(browser, "#mask canvas"))[0]
    wait(lambda: canvas.size["height"] > 100 and canvas.is_displayed())
    time.sleep(1.0)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    stroke = webdriver.ActionChains(browser).move_to_element_with_offset(canvas, -40, -20)
    stroke.click_and_hold().move_by_offset(25, 10).move_by_offset(25, 10).release().perform()
    wait(lambda: pictures(browser) != everything and pictures(browser))
    # The first answer is for the first part of the stroke.
    painted = steady(lambda: pictures(browser), seconds=3)
    if "HYPERNET_JAX_SCREENSHOT_BRUSH" in os.environ:  # the picture in docs/howto/page.md
        browser.save_screenshot(os.environ["HYPERNET_JAX_SCREENSHOT_BRUSH"])
    css(browser, "#save-mask")[0].click()
    file = tmp_path / "noisy-mask.png"
    wait(file.exists)
    mask = read_mask(file, (241, 333))[:, 16:316]
    # Equal to the result without a mask where it is full, and nearly unchanged where it is empty.
    before, all_over = (np.asarray(fetched(each).convert("RGB"), int) for each in everything)
    partly = np.asarray(fetched(painted[1]).convert("RGB"), int)
    far = maximum_filter(mask, 61) == 0
    inside = minimum_filter(mask, 25) > 0.98
    assert inside.sum() > 100 and far.sum() > 10_000
    assert np.abs(partly - all_over)[inside].mean() < 1.0 < np.abs(partly - before)[inside].mean()
    assert np.abs(partly - before)[far].mean() < 1.0 < np.abs(partly - all_over)[far].mean()
    # The whole photograph is restored by the brush, too.
    css(browser, "#restore")[0].click()
    wait(lambda: "noisy-restored.png" in css(browser, "#download")[0].text)
    css(browser, "#download")[0].click()
    result = tmp_path / "noisy-restored.png"
    wait(lambda: result.exists() and not list(tmp_path.glob("*.crdownload")))
    np.testing.assert_allclose(np.asarray(Image.open(result), int)[:, 16:316], partly, atol=1)
    css(browser, "#mask button[aria-label=Undo]")[0].click()
    wait(lambda: pictures(browser)[1] == everything[1])


def test_a_restoration_that_gave_nothing_leaves_no_message(tmp_path):
    """Such as one that the full queue refused; one that was stopped says so itself."""
    pytest.importorskip("gradio", reason="the extra `serve` is not installed")
    from hypernet_jax.serve.handlers import Handlers

    handlers = Handlers(Studio(limit=1), tmp_path, 3)
    visitor = SimpleNamespace(session_hash="one")
    _, line = handlers.begun(visitor)
    assert line == "Restoring…" and handlers.failed(visitor) == ""
    handlers.stopped(visitor)
    assert handlers.failed(visitor) != ""
    handlers.begun(visitor)
    assert handlers.failed(visitor) == ""
    handlers.left(visitor)
    assert not handlers._ended
