// The browser for the responses to held-out problems: the list, and below it the opened problem.
const heldOutBrowser = (() => {
  "use strict";

  const { element } = responseParts;

  const fragment = (index, problem) =>
    `#response=${encodeURIComponent(index.passes[problem.pass])}/${problem.sample}/${encodeURIComponent(problem.id)}`;

  class Browser {
    constructor(root, index) {
      const searchAll = responseSource.isServed ? null : () => Promise.all(this.list.index.problems.map((problem) => this.load(problem)));
      this.list = new heldOutList.List(index, (problem, takesFocus) => this.open(problem, takesFocus), searchAll);
      this.view = element("div", { class: "response-opened", role: "region", "aria-label": "Opened problem" });
      this.view.addEventListener("keydown", (event) => {
        if (event.key === "Escape") this.list.list.focus();
      });
      this.missing = element("div", {});
      this.showMissing(index);
      this.moveTo(root);
    }

    /** Moves to another place, when the section has been replaced by a newer one. */
    moveTo(root) {
      this.root = root;
      root.replaceChildren(...this.list.elements, this.view, this.missing);
      root.hidden = false;
      root.parentElement.querySelector("[data-plain]")?.classList.add("response-replaced");
    }

    /** Shows a newer list. The opened problem stays as it is, because the reader may be reading it. */
    update(index) {
      this.list.show(index);
      this.showMissing(index);
    }

    showMissing({ missing = [] }) {
      const items = missing.map((sentence) => element("li", {}, sentence));
      this.missing.replaceChildren(...(items.length > 0 ? [element("p", {}, "Not all responses can be shown:"), element("ul", {}, ...items)] : []));
    }

    /** Returns a problem with its responses, which the search finds from now on. */
    async load(problem) {
      const loaded = await responseSource.problem(this.list.index, problem);
      problem.searched = [loaded.question ?? "", loaded.gold, ...loaded.responses.map((response) => response?.text ?? "")].join("\n").toLowerCase();
      return loaded;
    }

    async open(problem, takesFocus, selects = false) {
      if (!problem) return;
      const { index } = this.list;
      this.list.mark(problem, selects);
      history.replaceState(null, "", fragment(index, problem));
      let content;
      try {
        content = heldOutProblem.content(index, problem, await this.load(problem));
      } catch (error) {
        content = [element("p", {}, `The responses cannot be shown: ${error.message}`)];
      }
      // The reader may have opened another problem in the meantime.
      if (!this.list.opened || !this.list.isSame(index, problem, this.list.opened)) return;
      this.view.replaceChildren(...content);
      this.list.say(`Opened ${problem.id}.`);
      if (takesFocus) this.view.querySelector("h4")?.focus();
    }

    /** Opens the problem that the address names. */
    async follow() {
      const [, pass, sample, id] = location.hash.match(/^#response=([^/]*)\/(\d+)\/(.*)$/) ?? [];
      if (id === undefined) return;
      const { index, opened } = this.list;
      const isNamed = (problem) =>
        index.passes[problem.pass] === decodeURIComponent(pass) && problem.sample === Number(sample) && problem.id === decodeURIComponent(id);
      const problem = index.problems.find(isNamed);
      if (!problem) this.list.say("The page does not include the response that the address names.");
      else if (problem !== opened) await this.open(problem, false, true);
    }
  }

  let current = null;
  // True from a change of the page until the list has followed it.
  let isStale = false;

  const place = () => document.querySelector("#held-out [data-browser]");

  /** Builds the browser where the page has a place for it. A served page calls this again when it has changed. */
  const start = async () => {
    if (!place() || (place().childElementCount !== 0 && !isStale)) return;
    // At once, so that the focus and the place in the list are kept.
    if (place().childElementCount === 0) current?.moveTo(place());
    isStale = true;
    const index = await responseSource.heldOut();
    isStale = false;
    // The section may have been replaced in the meantime.
    const root = place();
    if (!root || !index || index.problems.length === 0) return;
    if (current) {
      if (current.root !== root) current.moveTo(root);
      current.update(index);
    } else {
      current = new Browser(root, index);
      await current.follow();
    }
  };

  return { start, follow: () => current?.follow() };
})();
