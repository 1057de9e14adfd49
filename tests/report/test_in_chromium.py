"""The report in a headless Chromium that has no network: drawn, quiet, readable at every width."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from report_demo import write_demo

from analysis.report import render

pytestmark = pytest.mark.browser

CHROMIUM = next(
    filter(None, [os.environ.get("CHROME"), *map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))]),
    None,
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
FIGURES = 3
# Contrast of every shown text with what is behind it, by the formula of WCAG 2; what is below 4.5 is listed.
TOO_FAINT = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgb(getComputedStyle(at).backgroundColor);
      if (color[3] > 250) return color;
    }
    return [255, 255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || ["SCRIPT", "STYLE", "NOSCRIPT"].includes(element.tagName) || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const ink = element instanceof SVGElement ? style.fill : style.color;
    const [high, low] = [light(rgb(ink)), light(behind(element))].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) faint.push(`${element.tagName} ${element.textContent.trim().slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return faint;
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    facts = {"vLLM": "0.32.0", "configuration": "speculative_config=" + "x" * 200}
    return render(write_demo(folder), folder / "index.html", title="A study", stamp="miniature", provenance=facts)


@pytest.fixture(scope="module")
def chromium():
    if not CHROMIUM:
        pytest.skip("no Chromium here (looked for $CHROME, chromium, chromium-browser, google-chrome)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Visit:
    """An open page and what it asked for and complained about."""

    def __init__(self, browser, report: Path, width: int = 1280, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
        self.page = context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url[:200]}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.goto(report.as_uri())
        if options.get("java_script_enabled", True):
            self.page.wait_for_selector("html[data-figures=drawn]", state="attached")

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_) -> None:
        self.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_figure_is_drawn_without_a_request_or_a_complaint(chromium, report, width, scheme):
    with Visit(chromium, report, width, color_scheme=scheme) as visit:
        page = visit.page
        assert page.locator(".picture").count() == FIGURES
        assert page.locator(".picture.drawn .live svg.main-svg").first.is_visible()
        assert page.locator(".picture.drawn").count() == FIGURES
        assert page.locator(".static:visible").count() == 0
        assert page.evaluate(
            "[...document.querySelectorAll('.live')].every(e => e.querySelector('.points, .lines, .bars'))"
        )
        assert [url for url in visit.requests if not url.startswith(("file:", "data:", "blob:"))] == []
        assert len([url for url in visit.requests if url.startswith("file:")]) == 1
        assert visit.complaints == []


@pytest.mark.parametrize("width", [1280, 768, 390, 320])
def test_the_page_never_scrolls_sideways(chromium, report, width):
    with Visit(chromium, report, width) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert visit.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_a_wide_table_scrolls_in_its_own_box(chromium, report):
    with Visit(chromium, report, 390) as visit:
        box = visit.page.locator("#k-sweep .wide:visible").first
        assert box.evaluate("e => e.scrollWidth - e.clientWidth") > 100
        assert box.evaluate("e => { e.scrollLeft = 50; return e.scrollLeft }") == 50


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_contrast(chromium, report, scheme):
    with Visit(chromium, report, color_scheme=scheme) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert visit.page.evaluate(TOO_FAINT) == []


def test_figures_follow_a_change_of_scheme(chromium, report):
    ink = "() => getComputedStyle(document.querySelector('.live .xtick text')).fill"
    with Visit(chromium, report, color_scheme="light") as visit:
        before = visit.page.evaluate(ink)
        visit.page.emulate_media(color_scheme="dark")
        for _ in range(200):  # the page's policy forbids eval, which the driver's own waiting for a function needs
            if visit.page.evaluate(ink) != before:
                break
            visit.page.wait_for_timeout(50)
        assert visit.page.evaluate(ink) != before
        assert visit.complaints == []


def test_without_scripts_the_still_pictures_and_everything_else_are_there(chromium, report):
    with Visit(chromium, report, java_script_enabled=False) as visit:
        assert visit.page.locator(".static svg:visible").count() == FIGURES
        assert visit.page.get_by_text("Scripts are off").is_visible()
        assert visit.page.locator("nav ol").is_visible()


def test_on_paper_the_still_pictures_are_shown(chromium, report):
    with Visit(chromium, report, color_scheme="dark") as visit:
        visit.page.emulate_media(media="print")
        assert visit.page.locator(".static svg:visible").count() == FIGURES
        assert visit.page.locator(".live:visible").count() == 0
        assert visit.page.locator("nav:visible").count() == 0
        assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_the_first_tab_leads_past_the_contents(chromium, report):
    with Visit(chromium, report) as visit:
        visit.page.keyboard.press("Tab")
        assert visit.page.evaluate("document.activeElement.textContent") == "Skip to the content"
        visit.page.keyboard.press("Enter")
        assert visit.page.evaluate("document.activeElement.id") == "main"


def test_on_a_phone_the_contents_are_folded_and_open_by_keyboard(chromium, report):
    with Visit(chromium, report, 390) as visit:
        summary = visit.page.locator("nav summary")
        assert not visit.page.locator("nav ol").is_visible()
        summary.focus()
        visit.page.keyboard.press("Enter")
        assert visit.page.locator("nav ol").is_visible()
        visit.page.locator("nav a[href='#concurrency']").click()
        assert not visit.page.locator("nav ol").is_visible()
        assert visit.page.evaluate("document.querySelector('#concurrency').getBoundingClientRect().top") < 450


def test_pictures_have_names_and_landmarks_exist(chromium, report):
    with Visit(chromium, report) as visit:
        for alt in ("Grouped bars.", "Five rising lines", "Three falling curves"):
            assert visit.page.get_by_role("img", name=alt).count() == 1
        for role in ("banner", "navigation", "main"):
            assert visit.page.get_by_role(role).count() == 1


def test_a_script_smuggled_into_the_page_does_not_run(chromium, report, tmp_path):
    smuggled = tmp_path / "smuggled.html"
    script = "<script>document.title = 'smuggled'</script><img src=x onerror=\"document.title = 'smuggled'\"></main>"
    smuggled.write_text(report.read_text("utf-8").replace("</main>", script), encoding="utf-8")
    with Visit(chromium, smuggled) as visit:
        assert visit.page.title() == "A study (miniature)"
        assert any("Content Security Policy" in complaint for complaint in visit.complaints)
