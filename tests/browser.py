"""A headless Chromium for tests of the page."""

import shutil
from pathlib import Path

import pytest

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


def start_chromium(
    profile: Path,
    downloads: Path,
    *,
    window: tuple[int, int] = (1280, 1000),
    flags: tuple[str, ...] = (),
):
    """A driver that saves downloads in a folder and keeps a log of all requests.

    Skips the test where the browser, its driver or selenium is missing.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    size = "{},{}".format(*window)
    for flag in (*_FLAGS, *flags, f"--window-size={size}", f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.add_experimental_option(
        "prefs",
        {"download.default_directory": str(downloads), "download.prompt_for_download": False},
    )
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    return webdriver.Chrome(options=options, service=service)


def begin_anew(driver, downloads: Path, address: str) -> None:
    """Makes a browser that other tests have used as good as new.

    Args:
      driver: of `start_chromium`.
      downloads: an existing folder, where downloads go from now on.
      address: of the page, whose memory in the browser is deleted.
    """
    driver.get("about:blank")
    behaviour = {"behavior": "allow", "downloadPath": str(downloads)}
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    place = {"origin": address.rstrip("/"), "storageTypes": "all"}
    driver.execute_cdp_cmd("Storage.clearDataForOrigin", place)
    for log in ("performance", "browser"):
        driver.get_log(log)
