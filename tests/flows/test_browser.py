"""What a user sees: Prefect's page of a run, the form of a new one, and our report, in a real browser."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.flows.scheduled import Server, prefect_server

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]
PATIENCE_SECONDS = 90


class Seen(NamedTuple):
    """A server with a finished run of the toy."""

    server: Server
    page: str
    run: dict[str, Any]
    home: Path


@pytest.fixture(scope="module")
def browser() -> "Iterator[Chrome]":
    """Chromium without a window, which reaches nothing but this machine."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("no chromium with its chromedriver is installed (Debian: chromium and chromium-driver)")
    options = selenium.ChromeOptions()
    options.binary_location = program
    options.page_load_strategy = "eager"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Prefect's page draws its graph of a run with WebGL, which takes a minute without a graphics card.
    for argument in ("--headless=new", "--disable-3d-apis", "--disable-dev-shm-usage", "--window-size=1400,2400"):
        options.add_argument(argument)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    found = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    yield found
    found.quit()


@pytest.fixture(scope="module")
def seen(browser: "Chrome", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """The browser first: where there is none, nothing else is started."""
    home = tmp_path_factory.mktemp("home")
    with prefect_server(tmp_path_factory.mktemp("prefect")) as server:
        server.set_up()
        settings = ("--iterations", "1", "--home", str(home), "--set", "exam.prompts.side=4")
        server.call(sys.executable, "-m", "flows.run", "toy", *settings)
        [run] = server.post("flow_runs/filter", flow_runs={"state": {"type": {"any_": ["COMPLETED"]}}})
        yield Seen(server, server.url.removesuffix("/api") + "/v2", run, home)


def shows(browser: "Chrome", *wanted: str) -> str:
    """The text of the page, once all that is wanted is in it."""
    from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
    from selenium.webdriver.support.ui import WebDriverWait

    def text() -> str:
        return str(browser.find_element("tag name", "body").text)

    waiting = WebDriverWait(browser, PATIENCE_SECONDS, ignored_exceptions=[StaleElementReferenceException])
    try:
        waiting.until(lambda _: all(part in text() for part in wanted))
    except TimeoutException:
        pytest.fail(f"{browser.current_url} shows no {[part for part in wanted if part not in text()]}")
    return text()


def click(browser: "Chrome", words: str) -> None:
    """The first thing that is called so and can be clicked."""
    from selenium.webdriver.support import expected_conditions
    from selenium.webdriver.support.ui import WebDriverWait

    where = ("xpath", f"//*[self::a or self::button][contains(normalize-space(), {words!r})]")
    WebDriverWait(browser, PATIENCE_SECONDS).until(expected_conditions.element_to_be_clickable(where)).click()


def test_the_page_has_the_run_and_what_its_iterations_made(browser: "Chrome", seen: Seen) -> None:
    assert seen.run["name"] == "toy: up to iteration 1"
    browser.get(f"{seen.page}/runs")
    click(browser, seen.run["name"])
    shows(browser, seen.run["name"], "Completed", "Artifacts")
    assert seen.run["id"] in browser.current_url
    click(browser, "Artifacts")
    shows(browser, *(f"toy-{what}" for what in ("progress", "exam", "funnel", "answers", "report")))
    asked = {"flow_runs": {"id": {"any_": [seen.run["id"]]}}, "artifacts": {"key": {"any_": ["toy-exam"]}}}
    exams = seen.server.post("artifacts/filter", sort="CREATED_DESC", **asked)
    browser.get(f"{seen.page}/artifacts/artifact/{exams[0]['id']}")
    shows(browser, "Iteration 1: promote", "points to the incumbent", "95% interval")


def test_the_form_of_a_new_run_explains_each_parameter(browser: "Chrome", seen: Seen) -> None:
    made = seen.server.deployments()["quickstart"]
    fields = made["parameter_openapi_schema"]["properties"]
    browser.get(f"{seen.page}/deployments")
    shows(browser, "quickstart", "upkeep")
    browser.get(f"{seen.page}/deployments/deployment/{made['id']}/run")
    told = [field["description"].splitlines()[0] for field in fields.values()]
    assert {"recipe", "iterations", "overrides", "home", "more"} <= set(fields)
    shows(browser, *fields, *told, "Submit")


def test_our_report_opens_with_its_plots_and_no_complaint(browser: "Chrome", seen: Seen) -> None:
    [report] = (seen.home / "reports").glob("toy-*.html")
    browser.get_log("browser")
    browser.get(report.as_uri())
    shows(browser, "promote", "Answer: ")
    widths = [image.get_property("naturalWidth") for image in browser.find_elements("tag name", "img")]
    assert len(widths) == 3 and all(width > 100 for width in widths)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource')") == [], (
        "nothing was loaded beside it"
    )
