"""Takes the picture of the page for the docs, and times the slider in a real browser.

    python benchmarks/page.py --output docs/images --overwrite

Starts `hypernet-jax serve`, opens it in headless Chromium (Debian's chromium and
chromium-driver, with selenium), opens the example, moves the slider, and prints one
line of JSON with the seconds from the slider's event until the new picture is loaded.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from hypernet_jax.files import check_output, write_atomically

# Measures the time in the page itself, from the event until the new picture is loaded.
_TURN = """
const [value, done] = arguments;
const image = document.querySelectorAll('#divider img')[1];
const old = image.src, start = performance.now();
const look = () => {
  const now = document.querySelectorAll('#divider img')[1];
  if (now && now.src !== old && now.complete) done((performance.now() - start) / 1000);
  else setTimeout(look, 5);
};
const slider = document.querySelector('#level input[type=range]');
slider.value = value;
slider.dispatchEvent(new Event('input', {bubbles: true}));
look();
"""


def _wait(condition, seconds: float = 60.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = condition()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(0.1)
    raise SystemExit("The page did not answer.")


def _save(driver, path: Path) -> None:
    # In full colour, because a palette would look like noise.
    picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    write_atomically(path, content.getvalue(), overwrite=True)


def main() -> None:
    """Starts the server, drives the browser and measures."""
    from tests.browser import start_chromium

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for page-parts.png")
    parser.add_argument("--overwrite", action="store_true", help="replace the picture")
    parser.add_argument("--port", type=int, default=7897)
    args = parser.parse_args()
    picture = args.output / "page-parts.png"
    check_output(picture, overwrite=args.overwrite)
    command = [sys.executable, "-m", "hypernet_jax.cli.main", "serve", "--port", str(args.port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        _wait(lambda: "Open" in (server.stdout.readline() if server.stdout else ""))
        with tempfile.TemporaryDirectory() as folder:
            driver = start_chromium(Path(folder), Path(folder), window=(1280, 1400))
            time.sleep(2)
            driver.get(f"http://127.0.0.1:{args.port}/")
            find = driver.find_elements
            _wait(lambda: find("css selector", "#example"))[0].click()
            _wait(lambda: len(find("css selector", "#divider img")) == 2)
            time.sleep(2)
            driver.set_script_timeout(60)
            strengths = [round(0.15 * number, 2) for number in range(1, 12)]
            seconds = [driver.execute_async_script(_TURN, each) for each in [*strengths, 1.0]]
            _wait(lambda: find("css selector", "#details button"))[0].click()
            _wait(lambda: find("css selector", "#part-0 input[type=range]"))
            time.sleep(2)
            _save(driver, picture)
            driver.quit()
    finally:
        server.terminate()
        server.wait(30)
    figures = {
        "benchmark": "page",
        "turns": len(seconds),
        "median_seconds": round(statistics.median(seconds), 3),
        "worst_seconds": round(max(seconds), 3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
