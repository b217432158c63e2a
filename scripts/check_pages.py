"""Opens reports in headless Chromium and checks what a reader would notice.

Usage: check_pages.py --program RLVR --run RUN --screenshots FOLDER PAGE.html ...
For each page, at 360 and 1440 px, in light and dark mode: no console error, no request, no horizontal scrolling, no text that is too
small to read, no violation of the accessibility rules that axe-core checks (contrast, names, headings, landmarks, tables). Then: every
control is reached with the keyboard and shows its focus, pictures show values, responses open, the page prints. Last, a served page
shows the responses of any step and changes when the run grows. Prints each failure and exits with 1 if there is one.
"""

import argparse
import gzip
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

WIDTHS = (360, 1440)
# The smallest text in CSS pixels, and in a picture after scaling.
MIN_TEXT, MIN_PICTURE_TEXT = 11, 11.9

SMALL_TEXT = """([minText, minPicture]) => {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || element.closest('script, style, title, desc') || !element.checkVisibility()) continue;
    const svg = element.closest('svg');
    const scale = svg && element.getScreenCTM ? Math.hypot(element.getScreenCTM().a, element.getScreenCTM().b) : 1;
    const size = parseFloat(getComputedStyle(element).fontSize) * scale;
    if (size < (svg ? minPicture : minText) - 0.01) found.push(`${size.toFixed(1)} px: ${node.textContent.trim().slice(0, 40)}`);
  }
  return found;
}"""

WIDE_ELEMENTS = """() => [...document.body.querySelectorAll('*')]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && e.checkVisibility())
  .slice(0, 5).map(e => e.outerHTML.slice(0, 80))"""

# The outline, shadow, border and background of the element with the focus.
FOCUS_LOOK = """() => {
  const e = document.activeElement, s = getComputedStyle(e);
  return [s.outlineStyle, s.outlineWidth, s.boxShadow, s.borderColor, s.backgroundColor, s.textDecoration].join(' ');
}"""


class Checks:
    """Collects failures."""

    def __init__(self):
        self.count, self.failures = 0, []

    def that(self, claim, is_true, detail=""):
        self.count += 1
        if not is_true:
            self.failures.append(f"{claim}{': ' if detail else ''}{detail}")
            print("FALSE:", self.failures[-1])


def open_page(browser, address, width, scheme):
    """Opens an address. Returns the page with the lists of its console errors and requests."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    errors, requests = [], []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    page.wait_for_load_state("load")
    return page, errors, requests


def check_layout(checks, browser, path, screenshots):
    for width in WIDTHS:
        for scheme in ("light", "dark"):
            place = f"{path.name} at {width} px in {scheme} mode"
            page, errors, requests = open_page(browser, path.as_uri(), width, scheme)
            overflow = page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
            checks.that(f"{place} does not scroll sideways", overflow <= 0, f"{overflow} px, {page.evaluate(WIDE_ELEMENTS)}")
            small = page.evaluate(SMALL_TEXT, [MIN_TEXT, MIN_PICTURE_TEXT])
            checks.that(f"{place} has no text that is too small", not small, "; ".join(small[:5]))
            check_accessibility(checks, page, place)
            page.screenshot(path=screenshots / f"{path.stem}-{width}-{scheme}.png", full_page=True)
            checks.that(f"{place} has no console error", not errors, "; ".join(errors[:3]))
            checks.that(f"{place} makes no request", requests == [path.as_uri()], ", ".join(requests[1:4]))
            page.context.close()


def check_accessibility(checks, page, place):
    violations = json.loads(json.dumps(Axe().run(page).response))["violations"]
    found = [f"{one['id']} ({one['nodes'][0]['html'][:100]})" for one in violations]
    checks.that(f"{place} has no accessibility violation", not found, "; ".join(found[:5]))


def check_keyboard(checks, browser, path):
    """Tab reaches every visible control, and each shows that it has the focus."""
    page, errors, _ = open_page(browser, path.as_uri(), 1440, "light")
    controls = "a[href], button, input, select, summary, [tabindex='0']"
    expected = page.evaluate(
        "selector => [...document.querySelectorAll(selector)].filter(e => !e.disabled && e.tabIndex >= 0 && e.checkVisibility() && "
        "!e.closest('details:not([open]) > :not(summary)')).length",
        controls,
    )
    reached, unmarked = 0, []
    for _ in range(min(expected, 150)):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
        reached += 1
        look = page.evaluate(FOCUS_LOOK)
        page.evaluate("window.last = document.activeElement; last.blur()")
        plain = page.evaluate(FOCUS_LOOK.replace("document.activeElement", "window.last"))
        page.evaluate("last.focus({preventScroll: true})")
        if look == plain:
            unmarked.append(page.evaluate("last.outerHTML.slice(0, 80)"))
    checks.that(f"{path.name}: Tab reaches all {expected} controls", reached >= min(expected, 150), f"{reached}")
    checks.that(f"{path.name}: the focus is visible", not unmarked, "; ".join(unmarked[:3]))
    checks.that(f"{path.name}: the keyboard causes no error", not errors, "; ".join(errors[:3]))
    page.context.close()


def check_pictures(checks, browser, path):
    """Pictures have a title, are drawn without script, and show values under the pointer."""
    page, errors, _ = open_page(browser, path.as_uri(), 1440, "light")
    pictures = page.locator("figure svg[role=img]:visible")
    checks.that(f"{path.name} has pictures", pictures.count() > 3, str(pictures.count()))
    untitled = page.evaluate("[...document.querySelectorAll('svg[role=img]')].filter(e => !e.querySelector('title')?.textContent).length")
    checks.that(f"{path.name}: every picture has a title", untitled == 0, str(untitled))
    chart = page.locator("svg[data-chart=line]:visible").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.5)
    tip = page.locator(".readout:visible").first
    tip.wait_for(timeout=5000)
    checks.that(f"{path.name}: the pointer shows values", any(c.isdigit() for c in tip.inner_text()), tip.inner_text())
    with page.expect_download() as download:
        page.locator("button:visible", has_text="CSV").first.click()
    text = pathlib.Path(download.value.path()).read_text()
    checks.that(f"{path.name}: a figure's data is CSV", len(text.splitlines()) > 2 and "," in text, text[:80])
    checks.that(f"{path.name}: pictures cause no error", not errors, "; ".join(errors[:3]))
    page.context.close()

    context = browser.new_context(viewport={"width": 1440, "height": 800}, java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    checks.that(f"{path.name}: pictures are there without script", page.locator("figure svg[role=img]").count() > 3)
    page.emulate_media(media="print")
    checks.that(f"{path.name}: the navigation is not printed", not page.locator("nav").first.is_visible())
    context.close()


def check_responses(checks, browser, path):
    """A response opens with the keyboard, with its texts beside each other and a verdict."""
    page, errors, _ = open_page(browser, path.as_uri() + "#responses", 1440, "light")
    row = page.locator("#responses [role=option], #responses [role=row] button, #responses li button").first
    row.wait_for(timeout=10000)
    row.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    shown = page.locator("#responses").inner_text()
    checks.that(f"{path.name}: an opened response has a gold answer", "gold" in shown.lower(), shown[:200])
    checks.that(f"{path.name}: an opened response has a verdict", "correct" in shown.lower() or "wrong" in shown.lower(), shown[:200])
    checks.that(f"{path.name}: responses cause no error", not errors, "; ".join(errors[:3]))
    page.context.close()


def lengthen(run, steps):
    """Makes a longer run of a copy: its metrics and rollouts again, with the numbers of later steps."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    recorded = len(lines)
    with open(run / "metrics.jsonl", "a") as metrics:
        for step in range(recorded + 1, steps + 1):
            source = (step - 1) % recorded + 1
            metrics.write(json.dumps(json.loads(lines[source - 1]) | {"step": step}) + "\n")
            shutil.copy(run / f"rollouts/{source:05}.jsonl.gz", run / f"rollouts/{step:05}.jsonl.gz")


def check_serving(checks, browser, program, run):
    """A served page asks only its own server, has the responses of every step, and shows new steps."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "run"
        shutil.copytree(run, copy)
        lengthen(copy, 100)
        server = subprocess.Popen([program, "report", "--watch", copy], stderr=subprocess.PIPE, text=True)
        try:
            address = next(word for line in server.stderr for word in line.split() if word.startswith("http://127.0.0.1:"))
            page, errors, requests = open_page(browser, address, 1440, "light")
            check_served_rollouts(checks, page, copy)
            check_served_problem(checks, page)
            before = page.locator("main").inner_text()
            page.get_by_role("slider", name="Step").focus()
            lengthen(copy, 101)
            page.wait_for_function("before => document.querySelector('main').innerText !== before", arg=before, timeout=30000)
            page.wait_for_function("() => document.querySelector('#rollouts input[type=range]').max === '100'", timeout=30000)
            focused = page.evaluate("document.activeElement.type")
            checks.that("a served page keeps the focus when the run makes a step", focused == "range", focused)
            step = page.get_by_role("spinbutton", name="Step").input_value()
            checks.that("a served page keeps the chosen step when the run makes a step", step == "99", step)
            check_new_evaluation(checks, page, copy)
            checks.that("a served page asks only its own server", all(url.startswith(address) for url in requests), str(requests[:5]))
            checks.that("a served page has no console error", not errors, "; ".join(errors[:3]))
            page.context.close()
            check_served_address(checks, browser, address)
        finally:
            server.terminate()
            server.wait(timeout=20)


def shown_step(page, step):
    """Waits for the responses of a step. Returns the summary of the step and the texts."""
    page.wait_for_function("step => document.querySelector('#rollouts [role=status]').textContent.includes(`Step ${step}:`)", arg=step)
    return page.locator("#rollouts [role=status]").inner_text(), page.locator("#rollouts pre").all_inner_texts()


def check_served_rollouts(checks, page, run):
    """The keyboard reaches the rollouts of a step that is not among the chosen ones."""
    page.locator("#rollouts [role=slider], #rollouts input[type=range]").wait_for(timeout=30000)
    blocks = page.locator("body > script[id^=rollouts], body > script[id^=responses]").count()
    checks.that("a served page includes no responses", blocks == 0, str(blocks))
    chosen = page.evaluate("fetch('responses/steps.json').then(answer => answer.json()).then(steps => steps.chosen.map(one => one.step))")
    others = [step for step in range(11, 100) if step not in chosen and step + 1 not in chosen]
    checks.that("some steps are not among the chosen ones", len(others) > 20, str(chosen))
    field = page.get_by_role("spinbutton", name="Step")
    field.focus()
    page.keyboard.press("Control+a")
    page.keyboard.type(str(others[0]))
    page.keyboard.press("Enter")
    summary, texts = shown_step(page, others[0])
    with gzip.open(run / f"rollouts/{others[0]:05}.jsonl.gz", "rt") as lines:
        records = [json.loads(line) for line in lines]
    correct = sum(record["correct"] for record in records)
    checks.that("a step that is typed has its own numbers", f"{correct} of {len(records)} responses are correct" in summary, summary)
    checks.that("a step that is typed has its own responses", texts and set(texts) <= {record["text"] for record in records}, str(texts)[:200])
    different = len({(record["text"], record["correct"]) for record in records})
    everything = page.get_by_role("button", name=f"Show all {different} different responses")
    everything.focus()
    page.keyboard.press("Enter")
    shown = page.locator("#rollouts pre").count()
    checks.that("all responses of a step can be shown", shown == different, f"{shown} of {different}")
    page.get_by_role("slider", name="Step").focus()
    page.keyboard.press("ArrowRight")
    shown_step(page, others[0] + 1)
    page.keyboard.press("End")
    shown_step(page, 100)
    page.keyboard.press("ArrowLeft")
    shown_step(page, 99)
    checks.that("the address names the step", page.url.endswith("#rollouts=99"), page.url)


def check_served_problem(checks, page):
    """A held-out problem has the responses at every evaluation."""
    page.locator("#held-out [role=listbox]").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator("#held-out .response-column").first.wait_for(timeout=10000)
    steps = page.locator("#held-out .response-column select").first.locator("option").all_inner_texts()
    checks.that("an opened problem offers every evaluation", steps == ["0", "10", "20", "30"], str(steps))
    page.locator("#held-out .response-column select").first.select_option("10")
    heading = page.locator("#held-out .response-column h5").first.inner_text()
    checks.that("an opened problem shows the chosen evaluation", heading == "Step 10", heading)


def check_new_evaluation(checks, page, run):
    """A new evaluation replaces the section, and the reader keeps the place in it."""
    listbox = page.locator("#held-out [role=listbox]")
    listbox.focus()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    selected = page.locator("#held-out [aria-selected=true] .name").inner_text()
    opened = page.locator("#held-out .response-opened").inner_text()
    with page.expect_response(lambda response: "index.json" in response.url, timeout=60000):
        shutil.copytree(run / "eval/00030", run / "eval/00100")
    page.wait_for_function("() => document.querySelector('#held-out').textContent.includes('(step 100)')")
    # The list follows as soon as it has been read.
    page.wait_for_timeout(300)
    role = page.evaluate("document.activeElement.getAttribute('role')")
    checks.that("the list keeps the focus when there is a new evaluation", role == "listbox", str(role))
    now = page.locator("#held-out [aria-selected=true] .name").inner_text()
    checks.that("the list keeps its selection when there is a new evaluation", now == selected, f"{selected}, then {now}")
    now = page.locator("#held-out .response-opened").inner_text()
    checks.that("an opened problem stays when there is a new evaluation", now == opened, now[:200])
    step = page.get_by_role("spinbutton", name="Step").input_value()
    checks.that("the chosen step stays when there is a new evaluation", step == "99", step)
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#held-out .response-column:last-child h5')?.textContent.includes('step 100')", timeout=10000)
    steps = page.locator("#held-out .response-column select").first.locator("option").all_inner_texts()
    checks.that("a problem that is opened again has the new evaluation", steps == ["0", "10", "20", "30", "100"], str(steps))


def check_served_address(checks, browser, address):
    """An address can name any step; a step that does not exist leads to the nearest one."""
    for named, expected in ((57, 57), (900, 101)):
        page, errors, _ = open_page(browser, f"{address}#rollouts={named}", 360, "dark")
        page.locator("#rollouts input[type=range]").wait_for(timeout=30000)
        summary, texts = shown_step(page, expected)
        checks.that(f"the address of step {named} opens step {expected}", texts and (named == expected) != ("is not here" in summary), summary)
        overflow = page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
        page.wait_for_timeout(1000)
        top = page.locator("#rollouts input[type=range]").bounding_box()["y"]
        checks.that(f"the address of step {named} leads to the choice of steps", 0 <= top < 800, f"{top}")
        check_accessibility(checks, page, "a served page on a phone")
        checks.that("a served page does not scroll sideways", overflow <= 0, f"{overflow} px, {page.evaluate(WIDE_ELEMENTS)}")
        checks.that("a served page on a phone has no console error", not errors, "; ".join(errors[:3]))
        page.context.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--screenshots", type=pathlib.Path, required=True)
    parser.add_argument("pages", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.screenshots.mkdir(parents=True, exist_ok=True)
    checks = Checks()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for path in (page.resolve() for page in arguments.pages):
            size = path.stat().st_size
            checks.that(f"{path.name} has less than 2 MB", size < 2_000_000, f"{size} bytes")
            check_layout(checks, browser, path, arguments.screenshots)
            check_keyboard(checks, browser, path)
            check_pictures(checks, browser, path)
        check_responses(checks, browser, arguments.pages[0].resolve())
        check_serving(checks, browser, arguments.program, arguments.run)
        browser.close()
    print(f"{checks.count - len(checks.failures)} of {checks.count} checks passed")
    sys.exit(1 if checks.failures else 0)


main()
