// The list of held-out problems: filters, order, search, and moving in it with the keyboard.
const heldOutList = (() => {
  "use strict";

  const { element, isolated, count, outcomeSign, outcomeWords, select } = responseParts;

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

  const change = (problem) => {
    const first = problem.outcomes.length > 1 ? problem.outcomes[0] : null;
    const last = problem.outcomes.at(-1);
    if (!first || !last) return "other";
    if (first === "correct") return last === "correct" ? "right" : "worse";
    return last === "correct" ? "better" : "wrong";
  };

  class List {
    /** `open(problem, takesFocus)` opens a problem. `searchAll()` makes all texts searchable; null if they cannot be. */
    constructor(index, open, searchAll) {
      Object.assign(this, { open, searchAll, matching: [], selected: 0, opened: null });
      this.filters = { pass: "", change: "", subject: "", level: "", search: "", sort: "" };
      this.form = element("form", { class: "response-filters", onsubmit: (event) => event.preventDefault() });
      this.status = element("p", { role: "status", "aria-live": "polite", class: "response-status" });
      this.list = element("ul", { role: "listbox", tabindex: "0", "aria-label": "Problems", class: "response-list" });
      this.list.addEventListener("keydown", (event) => this.onKey(event));
      this.list.addEventListener("focus", () => this.announce());
      this.list.addEventListener("click", (event) => this.onClick(event));
      this.pages = element("p", { class: "response-pages" });
      const signs = "✓ correct, (✓) right but not boxed, ✗ wrong, ∅ no boxed answer, · no response";
      const help = `${signs}. Arrow keys or j and k move in the list, Home and End jump, Enter opens, Escape goes back to the list.`;
      this.elements = [this.form, element("p", { class: "response-help" }, help), this.list, this.pages, this.status];
      this.show(index);
    }

    /** Shows a list, and selects the same problem as before. */
    show(index) {
      const same = (problem) => problem && index.problems.find((one) => this.isSame(index, one, problem));
      const [selected, opened] = [same(this.matching[this.selected]), same(this.opened)];
      // The texts of problems that were opened stay searchable.
      const key = (passes, problem) => JSON.stringify([passes[problem.pass], problem.sample, problem.id]);
      const texts = new Map((this.index?.problems ?? []).map((problem) => [key(this.index.passes, problem), problem.searched]));
      index.problems.forEach((problem, number) =>
        Object.assign(problem, { number, change: change(problem), searched: texts.get(key(index.passes, problem)) ?? "" }),
      );
      Object.assign(this, { index, opened: opened ?? null });
      const choices = JSON.stringify([index.passes, ...["subject", "level"].map((key) => this.values(key))]);
      // Otherwise the field stays that the reader is using.
      if (choices !== this.choices) this.fillForm();
      this.choices = choices;
      this.filter();
      if (selected) this.select(this.matching.indexOf(selected));
    }

    isSame(index, one, other) {
      return one.id === other.id && one.sample === other.sample && index.passes[one.pass] === this.index.passes[other.pass];
    }

    values(key) {
      return [...new Set(this.index.problems.map((problem) => problem[key]))].filter(Boolean).sort();
    }

    fillForm() {
      const { filters, index } = this;
      const choose = (label, key, options) => (options.length > 2 ? select(label, options, filters[key], (value) => this.set(key, value)) : null);
      const any = (key) => [["", "all"], ...this.values(key).map((value) => [value, value])];
      const search = element("input", { type: "search", value: filters.search, placeholder: "name or opened text", oninput: (event) => this.set("search", event.target.value) });
      const all = element("button", { type: "button", hidden: !this.searchAll, onclick: () => this.loadAll(all) }, "Search in all texts");
      const sorts = [["", "as included"], ["id", "by name"], ["subject", "by subject"], ["level", "by level"]];
      const fields = [
        choose("Pass", "pass", [["", "all"], ...index.passes.map((name, number) => [String(number), name])]),
        choose("Change", "change", Object.entries(CHANGES)),
        choose("Subject", "subject", any("subject")),
        choose("Level", "level", any("level")),
        choose("Order", "sort", sorts),
        element("label", {}, "Search ", search),
        all,
      ];
      this.form.replaceChildren(...fields.filter(Boolean));
    }

    set(key, value) {
      this.filters[key] = value;
      this.filter();
    }

    async loadAll(button) {
      button.disabled = true;
      button.textContent = "Unpacking …";
      await this.searchAll();
      button.textContent = "All texts are searched";
      this.filter();
    }

    filter() {
      const { filters } = this;
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
      this.select(Math.max(0, this.matching.indexOf(this.opened)));
      this.say(`${count(this.matching.length)} ${this.matching.length === 1 ? "entry matches" : "entries match"}.`);
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

    /** Marks the opened problem, and selects it if `selects`. */
    mark(problem, selects) {
      this.opened = problem;
      const at = this.matching.indexOf(problem);
      if (selects && at >= 0) this.select(at);
      for (const option of this.list.children) option.classList.toggle("opened", this.matching[option.dataset.at] === problem);
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

    say(words) {
      this.status.textContent = words;
    }

    announce() {
      if (this.matching.length === 0) this.say("No entry matches.");
      else {
        const option = document.getElementById(`response-option-${this.selected}`);
        this.say(`${count(this.selected + 1)} of ${count(this.matching.length)}: ${option.getAttribute("aria-label")}`);
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
  }

  return { List };
})();
