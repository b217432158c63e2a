// Keeps a served page up to date: asks the server for the version of the page every few seconds, and replaces the sections that changed.
// The reader keeps the place: scroll position, opened details, focus, and what is typed or chosen in forms.
(() => {
  "use strict";

  const INTERVAL_MS = 3000;
  // After the server has not answered.
  const LONG_INTERVAL_MS = 10000;

  const htmlOfSections = (root) => new Map([...root.querySelectorAll("main > section")].map((section) => [section.id, section.outerHTML]));
  const dataBlocks = (root) => new Map([...root.querySelectorAll("body > script[id]")].map((block) => [block.id, block]));

  // This script runs before all others, so these are the sections as they were served.
  let served = htmlOfSections(document);

  const [address, firstVersion] = document.body.dataset.watch.split("?");
  let version = firstVersion;

  const note = document.createElement("p");
  note.className = "detail watch-note";
  note.setAttribute("role", "status");
  document.querySelector("body > header")?.append(note);

  // A screen reader announces every change of the text, so the time of an update is not part of it.
  const say = (text) => {
    if (note.textContent !== text) note.textContent = text;
  };

  // The text of a summary names an element across updates, except its numbers.
  const nameOf = (details) => details.id || (details.querySelector(":scope > summary")?.textContent ?? "").replace(/\d+/g, "#");

  /** Returns the elements with the same name in order, by name. */
  const byName = (elements, name) => {
    const found = new Map();
    for (const element of elements) found.set(name(element), [...(found.get(name(element)) ?? []), element]);
    return found;
  };

  const FIELDS = "input, select, textarea";
  const FOCUSABLE = `a[href], button, summary, [tabindex], ${FIELDS}`;
  const SCROLLED = "[tabindex='0']";

  /** Records what the reader has done in a section. Returns a function that does it in the new section. */
  const remember = (section) => {
    const details = byName(section.querySelectorAll("details"), nameOf);
    const opened = [...details].map(([name, elements]) => [name, elements.map((element) => element.open)]);
    const fields = [...section.querySelectorAll(FIELDS)].map((field) => ({ value: field.value, checked: field.checked }));
    const scrolled = [...section.querySelectorAll(SCROLLED)].map((box) => [box.scrollLeft, box.scrollTop]);
    const focused = section.contains(document.activeElement) ? document.activeElement : null;
    const focusId = focused?.id;
    const focusAt = focused ? [...section.querySelectorAll(FOCUSABLE)].indexOf(focused) : -1;
    return (fresh) => {
      const now = byName(fresh.querySelectorAll("details"), nameOf);
      for (const [name, states] of opened) {
        (now.get(name) ?? []).forEach((element, at) => {
          if (at < states.length) element.open = states[at];
        });
      }
      [...fresh.querySelectorAll(FIELDS)].forEach((field, at) => {
        const old = fields[at];
        if (!old || (field.value === old.value && field.checked === old.checked)) return;
        if (field.checked !== undefined) field.checked = old.checked;
        if (field.type !== "checkbox" && field.type !== "radio") field.value = old.value;
        field.dispatchEvent(new Event("input", { bubbles: true }));
        field.dispatchEvent(new Event("change", { bubbles: true }));
      });
      [...fresh.querySelectorAll(SCROLLED)].forEach((box, at) => {
        if (scrolled[at]) [box.scrollLeft, box.scrollTop] = scrolled[at];
      });
      if (focused && !fresh.contains(document.activeElement)) {
        const target = (focusId && document.getElementById(focusId)) || fresh.querySelectorAll(FOCUSABLE)[focusAt];
        target?.focus({ preventScroll: true });
      }
    };
  };

  /** Returns a function that puts the element at the top of the window back to where it is now. */
  const keepPlace = () => {
    const candidates = [...document.querySelectorAll("main [id]")].filter((element) => element.getClientRects().length > 0);
    const top = (element) => element.getBoundingClientRect().top;
    // The last element that begins above the top, or the first one in sight.
    const anchor = candidates.filter((element) => top(element) <= 1).at(-1) ?? candidates[0];
    if (!anchor || window.scrollY === 0) return () => {};
    const [id, before] = [anchor.id, top(anchor)];
    return () => {
      const now = document.getElementById(id);
      if (now) window.scrollBy({ top: top(now) - before, behavior: "instant" });
    };
  };

  const hasSelection = (section) => {
    const selection = getSelection();
    return selection.type === "Range" && (section.contains(selection.anchorNode) || section.contains(selection.focusNode));
  };

  const replaceData = (page) => {
    const [old, fresh] = [dataBlocks(document), dataBlocks(page)];
    const changed = [...fresh.values()].filter((block) => old.get(block.id)?.textContent !== block.textContent);
    for (const block of changed) {
      const adopted = document.adoptNode(block);
      if (old.has(adopted.id)) old.get(adopted.id).replaceWith(adopted);
      else document.body.append(adopted);
    }
    for (const [id, block] of old) if (!fresh.has(id)) block.remove();
    return changed.map((block) => block.id);
  };

  const replaceText = (page, selector) => {
    const [old, fresh] = [document.querySelector(selector), page.querySelector(selector)];
    if (old && fresh && old.innerHTML !== fresh.innerHTML) old.replaceChildren(...document.adoptNode(fresh).childNodes);
  };

  /**
   * Replaces the sections that changed. Returns whether all of them could be replaced, those that were, and functions that restore what the
   * reader did in them. A section in which the reader has selected text stays until the selection ends.
   */
  const replaceSections = (page, changedData) => {
    const fresh = htmlOfSections(page);
    const main = document.querySelector("main");
    const [replaced, restore] = [[], []];
    let isComplete = true;
    let previous = null;
    for (const [id, html] of fresh) {
      const old = document.getElementById(id);
      const mustChange = served.get(id) !== html || changedData.some((name) => html.includes(`"${name}"`));
      if (old && mustChange && hasSelection(old)) {
        isComplete = false;
        fresh.set(id, served.get(id));
      } else if (!old || mustChange) {
        const section = document.adoptNode(page.getElementById(id));
        replaced.push(section);
        if (old) {
          const again = remember(old);
          old.replaceWith(section);
          restore.push(() => again(section));
        } else if (previous) previous.after(section);
        else main.prepend(section);
      }
      previous = document.getElementById(id);
    }
    for (const id of served.keys()) if (!fresh.has(id)) document.getElementById(id)?.remove();
    served = fresh;
    return [isComplete, replaced, restore];
  };

  /** Lets the other scripts of the page, which run after this one, build what belongs to new sections. */
  const start = (sections) => {
    for (const section of sections) {
      startControls(section);
      rlvr.startCharts(section);
    }
    startNavigation();
    startResponses();
  };

  const update = (text) => {
    const page = new DOMParser().parseFromString(text, "text/html");
    if (!page.body.dataset.watch) throw new Error("the answer is not a report");
    const place = keepPlace();
    document.title = page.title;
    for (const selector of ["body > header h1", "body > header .subtitle", "body > nav ul"]) replaceText(page, selector);
    const [isComplete, replaced, restore] = replaceSections(page, replaceData(page));
    start(replaced);
    restore.forEach((again) => again());
    place();
    if (isComplete) version = page.body.dataset.watch.split("?")[1];
  };

  const get = async (path) => {
    const answer = await fetch(path, { cache: "no-store" });
    if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
    return answer;
  };

  const poll = async () => {
    const newest = await (await get(address)).json();
    if (newest.version !== version) update(await (await get("/")).text());
    say(newest.ended ? "The run has ended. This page shows its final state." : "This page follows the run.");
  };

  let timer = 0;
  let isPolling = false;
  const next = async () => {
    clearTimeout(timer);
    if (isPolling) return;
    isPolling = true;
    let pause = INTERVAL_MS;
    try {
      // A page that nobody sees does not ask.
      if (!document.hidden) await poll();
    } catch (error) {
      pause = LONG_INTERVAL_MS;
      const isOver = note.textContent.startsWith("The run has ended");
      if (!isOver) say(`The server does not answer, so this page shows an earlier state (${error.message}).`);
    }
    isPolling = false;
    timer = setTimeout(next, pause);
  };
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) next();
  });
  timer = setTimeout(next, INTERVAL_MS);
})();
