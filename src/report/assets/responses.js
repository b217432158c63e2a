// The browser for the responses to held-out problems: a list with filters, and the opened problem with its responses side by side. Data
// comes from the page, or from the server of a served page.
const heldOutBrowser = (() => {
  "use strict";

  const { element, isolated, unpack, count, outcomeSign, outcomeWords, verdict, text, select } = responseParts;

  // Problems in the list at a time.
  const PAGE = 100;

  const CHANGES = {
    "": "any",
    better: "wrong → right",
    worse: "right → wrong",
    right: "stayed right",
    wrong: "stayed wrong",
    other: "not comparable",
  };

  // Kept when the section is replaced by a newer one.
  const filters = { pass: "", change: "", subject: "", level: "", search: "", sort: "" };
  let marksDifferences = true;

  const isServed = () => document.body.dataset.watch !== undefined;

  const fetched = async (address) => {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
    return answer.json();
  };

  const change = (problem) => {
    const first = problem.outcomes.length > 1 ? problem.outcomes[0] : null;
    const last = problem.outcomes.at(-1);
    if (!first || !last) return "other";
    if (first === "correct") return last === "correct" ? "right" : "worse";
    return last === "correct" ? "better" : "wrong";
  };

  const fragment = (index, problem) =>
    `#response=${encodeURIComponent(index.passes[problem.pass])}/${problem.sample}/${encodeURIComponent(problem.id)}`;

  class Browser {
    constructor(root, index, served) {
      Object.assign(this, { root, index, served, blocks: new Map(), matching: [], selected: 0, opened: null });
      index.problems.forEach((problem, number) => Object.assign(problem, { number, change: change(problem), searched: "" }));
      this.status = element("p", { role: "status", "aria-live": "polite", class: "response-status" });
      this.list = element("ul", { role: "listbox", tabindex: "0", "aria-label": "Problems", class: "response-list" });
      this.list.addEventListener("keydown", (event) => this.onKey(event));
      this.list.addEventListener("focus", () => this.announce());
      this.list.addEventListener("click", (event) => this.onClick(event));
      this.pages = element("p", { class: "response-pages" });
      this.view = element("div", { class: "response-opened", role: "region", "aria-label": "Opened problem" });
      const signs = "✓ correct, (✓) right but not boxed, ✗ wrong, ∅ no boxed answer, · no response";
      const help = `${signs}. Arrow keys or j and k move in the list, Home and End jump, Enter opens, Escape goes back to the list.`;
      root.replaceChildren(this.form(), element("p", { class: "response-help" }, help), this.list, this.pages, this.status, this.view);
      this.view.addEventListener("keydown", (event) => {
        if (event.key === "Escape") this.list.focus();
      });
      this.filter();
      root.hidden = false;
    }

    form() {
      const values = (key) => [...new Set(this.index.problems.map((problem) => problem[key]))].filter(Boolean).sort();
      const choose = (label, key, options) => (options.length > 2 ? select(label, options, filters[key], (value) => this.set(key, value)) : null);
      const any = (key) => [["", "all"], ...values(key).map((value) => [value, value])];
      const search = element("input", { type: "search", value: filters.search, placeholder: "name or opened text", oninput: (event) => this.set("search", event.target.value) });
      const all = element("button", { type: "button", hidden: this.served, onclick: () => this.loadAll(all) }, "Search in all texts");
      const sorts = [["", "as included"], ["id", "by name"], ["subject", "by subject"], ["level", "by level"]];
      return element(
        "form",
        { class: "response-filters", onsubmit: (event) => event.preventDefault() },
        choose("Pass", "pass", [["", "all"], ...this.index.passes.map((name, number) => [String(number), name])]),
        choose("Change", "change", Object.entries(CHANGES)),
        choose("Subject", "subject", any("subject")),
        choose("Level", "level", any("level")),
        choose("Order", "sort", sorts),
        element("label", {}, "Search ", search),
        all,
      );
    }

    set(key, value) {
      filters[key] = value;
      this.filter();
    }

    /** Unpacks all texts, so that the search finds them. */
    async loadAll(button) {
      button.disabled = true;
      button.textContent = "Unpacking …";
      const blocks = Math.ceil(this.index.problems.length / this.index.block);
      for (let number = 0; number < blocks; number += 1) await this.block(number);
      button.textContent = "All texts are searched";
      this.filter();
    }

    filter() {
      const searched = filters.search.toLowerCase();
      const matches = (problem) =>
        (filters.pass === "" || problem.pass === Number(filters.pass)) &&
        (filters.change === "" || problem.change === filters.change) &&
        (filters.subject === "" || problem.subject === filters.subject) &&
        (filters.level === "" || problem.level === filters.level) &&
        (searched === "" || problem.id.toLowerCase().includes(searched) || problem.searched.includes(searched));
      this.matching = this.index.problems.filter(matches);
      if (filters.sort) {
        const key = filters.sort;
        this.matching.sort((a, b) => a[key].localeCompare(b[key], "en", { numeric: true }) || a.number - b.number);
      }
      const opened = this.matching.indexOf(this.opened);
      this.select(opened < 0 ? 0 : opened);
      this.status.textContent = `${count(this.matching.length)} ${this.matching.length === 1 ? "entry matches" : "entries match"}.`;
    }

    /** Selects a problem of the list, and shows the part of the list that has it. */
    select(at) {
      this.selected = Math.max(0, Math.min(at, this.matching.length - 1));
      const start = Math.floor(this.selected / PAGE) * PAGE;
      const shown = this.matching.slice(start, start + PAGE);
      this.list.replaceChildren(...shown.map((problem, offset) => this.option(problem, start + offset)));
      const option = this.list.children[this.selected - start];
      if (option) this.list.setAttribute("aria-activedescendant", option.id);
      else this.list.removeAttribute("aria-activedescendant");
      // Scroll only the list, never the page.
      if (option) {
        const below = option.offsetTop + option.offsetHeight - this.list.clientHeight;
        this.list.scrollTop = Math.max(below, Math.min(this.list.scrollTop, option.offsetTop));
      }
      this.showPages(start, shown.length);
    }

    option(problem, at) {
      const names = this.index.milestones.map((milestone) => milestone.name);
      const signs = problem.outcomes.map(outcomeSign).join(" → ");
      const words = problem.outcomes.map((outcome, number) => `${names[number]}: ${outcomeWords(outcome)}`).join(", ");
      const sample = problem.sample > 0 ? `, sample ${problem.sample}` : "";
      const pass = this.index.passes.length > 1 ? this.index.passes[problem.pass] : "";
      const about = [pass, problem.subject, problem.level && `level ${problem.level}`].filter(Boolean).join(", ");
      return element(
        "li",
        {
          role: "option",
          id: `response-option-${at}`,
          "data-at": at,
          "aria-selected": String(at === this.selected),
          "aria-label": [problem.id + sample, about, words].filter(Boolean).join(", "),
          class: problem === this.opened ? "opened" : null,
        },
        element("span", { class: "outcomes" }, signs),
        element("span", { class: "name" }, isolated(problem.id), sample),
        element("span", { class: "about" }, about),
      );
    }

    showPages(start, length) {
      const total = this.matching.length;
      if (total <= PAGE) {
        this.pages.replaceChildren();
        return;
      }
      const go = (words, at, usable) => element("button", { type: "button", disabled: !usable, onclick: () => this.select(at) }, words);
      this.pages.replaceChildren(
        `${count(start + 1)} to ${count(start + length)} of ${count(total)} entries that match. `,
        go("Previous", start - PAGE, start > 0),
        " ",
        go("Next", start + PAGE, start + PAGE < total),
      );
    }

    announce() {
      const problem = this.matching[this.selected];
      if (!problem) this.status.textContent = "No entry matches.";
      else {
        const option = document.getElementById(`response-option-${this.selected}`);
        this.status.textContent = `${count(this.selected + 1)} of ${count(this.matching.length)}: ${option.getAttribute("aria-label")}`;
      }
    }

    onKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const moves = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
      if (event.key === "Enter") this.open(this.matching[this.selected], true);
      else if (event.key in moves) {
        this.select(this.selected + moves[event.key]);
        this.announce();
      } else return;
      event.preventDefault();
    }

    onClick(event) {
      const option = event.target.closest("[role=option]");
      if (!option) return;
      this.select(Number(option.dataset.at));
      this.open(this.matching[this.selected], false);
    }

    /** Returns the problems of a block with their texts, unpacked once. */
    async block(number) {
      if (!this.blocks.has(number)) {
        const texts = await unpack(`responses-${number}`);
        this.blocks.set(number, texts);
        texts.forEach((opened, offset) => {
          const problem = this.index.problems[number * this.index.block + offset];
          problem.searched = [opened.question ?? "", opened.gold, ...opened.responses.map((response) => response?.text ?? "")].join("\n").toLowerCase();
        });
      }
      return this.blocks.get(number);
    }

    /** Returns `{question, gold, steps, responses}` of a problem. */
    async load(problem) {
      if (!this.served) {
        const block = await this.block(Math.floor(problem.number / this.index.block));
        const opened = block[problem.number % this.index.block];
        return { ...opened, steps: this.index.milestones.map((milestone) => milestone.step) };
      }
      const query = new URLSearchParams({ pass: this.index.passes[problem.pass], id: problem.id });
      const served = await fetched(`responses/problem.json?${query}`);
      const sample = served.samples.find((one) => one.sample === problem.sample);
      return { ...served, responses: sample?.responses ?? [] };
    }

    async open(problem, takesFocus) {
      if (!problem) return;
      this.opened = problem;
      history.replaceState(null, "", fragment(this.index, problem));
      for (const option of this.list.children) option.classList.toggle("opened", this.matching[option.dataset.at] === problem);
      let content;
      try {
        content = this.content(problem, await this.load(problem));
      } catch (error) {
        content = [element("p", {}, `The responses cannot be shown: ${error.message}`)];
      }
      // The reader may have opened another problem in the meantime.
      if (this.opened !== problem) return;
      this.view.replaceChildren(...content);
      this.status.textContent = `Opened ${problem.id}.`;
      if (takesFocus) this.view.querySelector("h4")?.focus();
    }

    content(problem, loaded) {
      const about = [
        this.index.passes[problem.pass],
        problem.subject,
        problem.level && `level ${problem.level}`,
        problem.sample > 0 && `sample ${problem.sample}`,
      ];
      const question = loaded.question == null ? "The text of the question is not at hand." : loaded.question;
      const columns = element("div", { class: "response-columns" });
      const note = element("p", { class: "response-note", role: "status" });
      const steps = this.index.milestones.map((milestone) => milestone.step);
      const fill = () => this.fillColumns(columns, note, loaded, steps, fill);
      fill();
      const box = element("input", { type: "checkbox" });
      box.checked = marksDifferences;
      box.addEventListener("change", () => {
        marksDifferences = box.checked;
        fill();
      });
      return [
        element("h4", { tabindex: "-1" }, isolated(problem.id)),
        element("p", { class: "about" }, about.filter(Boolean).join(", ")),
        element("p", { class: "response-text", dir: "auto" }, question),
        element("p", {}, "Gold answer: ", element("b", {}, isolated(loaded.gold))),
        element(
          "p",
          { class: "response-legend" },
          element("label", {}, box, " Mark differences"),
          ": ",
          element("mark", { class: "fresh" }, "not in the column before"),
          ", ",
          element("mark", { class: "gone" }, "not in the column after"),
        ),
        columns,
        note,
      ];
    }

    fillColumns(columns, note, loaded, steps, refill) {
      const responses = steps.map((step) => loaded.responses[loaded.steps.indexOf(step)] ?? null);
      const texts = responses.map((response) => response?.text ?? "");
      const plain = texts.map((whole) => [{ text: whole, fresh: false, gone: false }]);
      const { marked, complete } = marksDifferences ? responseDiff.mark(texts) : { marked: plain, complete: true };
      note.textContent = complete ? "" : "The texts are too long to compare word by word: all between their common start and end is marked.";
      columns.replaceChildren(
        ...responses.map((response, number) => {
          const name = this.index.milestones[number]?.name ?? "";
          const choose = (value) => {
            steps[number] = Number(value);
            refill();
          };
          const chooser = loaded.steps.length > steps.length ? select("Step", loaded.steps.map((step) => [step, String(step)]), steps[number], choose) : null;
          const isFirst = steps[number] === this.index.milestones[number]?.step;
          const heading = isFirst ? `${name} (step ${steps[number]})` : `Step ${steps[number]}`;
          const column = element("section", { class: "response-column" }, element("h5", {}, heading), chooser);
          column.append(...(response ? this.response(response, marked[number]) : [element("p", {}, "No response is recorded.")]));
          if (number > 0 && response && responses[number - 1]?.text === response.text) {
            column.append(element("p", { class: "response-note" }, "The same text as in the column before."));
          }
          return column;
        }),
      );
    }

    response(response, segments) {
      const facts = [
        response.tokens > 0 && `${count(response.tokens)} tokens`,
        { stop: "stopped by itself", length: "cut off at the limit" }[response.finish],
        response.style && `style: ${response.style}`,
      ];
      return [
        element("p", {}, verdict(response.outcome)),
        element("p", {}, "Answer: ", response.answer == null ? "none" : element("b", {}, isolated(response.answer))),
        element("p", { class: "reason" }, isolated(`${response.reason}.`)),
        element("p", { class: "about" }, facts.filter(Boolean).join(", ")),
        text(segments),
      ];
    }

    /** Opens the problem that the address names, and moves the page there if `scrolls`. */
    async follow(scrolls) {
      const [, pass, sample, id] = location.hash.match(/^#response=([^/]*)\/(\d+)\/(.*)$/) ?? [];
      if (id === undefined) return;
      const isNamed = (problem) =>
        this.index.passes[problem.pass] === decodeURIComponent(pass) && problem.sample === Number(sample) && problem.id === decodeURIComponent(id);
      const problem = this.index.problems.find(isNamed);
      if (scrolls) this.root.scrollIntoView();
      if (!problem) this.status.textContent = "The page does not include the response that the address names.";
      else if (problem !== this.opened) {
        const at = this.matching.indexOf(problem);
        if (at >= 0) this.select(at);
        await this.open(problem, false);
      }
    }
  }

  /** Builds the browser where the page has a place for it. */
  const start = async () => {
    const root = document.querySelector("#held-out [data-browser]");
    if (!root || root.childElementCount > 0) return;
    let served = isServed();
    let index = null;
    if (served) index = await fetched("responses/index.json").catch(() => null);
    if (!index) {
      served = false;
      index = await unpack("responses-index");
    }
    if (!index || index.problems.length === 0 || root.childElementCount > 0) return;
    const browser = new Browser(root, index, served);
    if (served) root.parentElement.querySelector("[data-inclusion]").textContent = `All ${count(index.total)} entries come from the server, with the responses at all evaluations.`;
    root.parentElement.querySelector("[data-plain]").classList.add("response-replaced");
    const isFirst = !current;
    current = browser;
    await browser.follow(isFirst);
  };

  let current = null;
  addEventListener("hashchange", () => current?.follow(true));
  return { start };
})();
