// An opened held-out problem: its question, and its responses at several steps side by side, with the differences marked.
const heldOutProblem = (() => {
  "use strict";

  const { element, isolated, count, verdict, text, select } = responseParts;

  let marksDifferences = true;

  const response = (shown, segments) => {
    const facts = [
      shown.tokens > 0 && `${count(shown.tokens)} tokens`,
      { stop: "stopped by itself", length: "cut off at the limit" }[shown.finish],
      shown.style && `style: ${shown.style}`,
    ];
    return [
      element("p", {}, verdict(shown.outcome)),
      element("p", {}, "Answer: ", shown.answer == null ? "none" : element("b", {}, isolated(shown.answer))),
      element("p", { class: "reason" }, isolated(`${shown.reason}.`)),
      element("p", { class: "about" }, facts.filter(Boolean).join(", ")),
      text(segments),
    ];
  };

  /** The responses at the milestones, or at the steps that the reader chooses. */
  class Columns {
    constructor(milestones, loaded) {
      Object.assign(this, { milestones, loaded, steps: milestones.map((milestone) => milestone.step) });
      this.root = element("div", { class: "response-columns" });
      this.note = element("p", { class: "response-note", role: "status" });
      this.fill();
    }

    fill() {
      const responses = this.steps.map((step) => this.loaded.responses[this.loaded.steps.indexOf(step)] ?? null);
      const texts = responses.map((response) => response?.text ?? "");
      const plain = texts.map((whole) => [{ text: whole, fresh: false, gone: false }]);
      const { marked, complete } = marksDifferences ? responseDiff.mark(texts) : { marked: plain, complete: true };
      this.note.textContent = complete ? "" : "The texts are too long to compare word by word: all between their common start and end is marked.";
      this.root.replaceChildren(...responses.map((response, number) => this.column(number, response, responses[number - 1], marked[number])));
    }

    column(number, shown, before, segments) {
      const [step, milestone] = [this.steps[number], this.milestones[number]];
      const heading = step === milestone.step ? `${milestone.name} (step ${step})` : `Step ${step}`;
      const column = element("section", { class: "response-column" }, element("h5", {}, heading), this.chooser(number));
      column.append(...(shown ? response(shown, segments) : [element("p", {}, "No response is recorded.")]));
      if (shown && before?.text === shown.text) column.append(element("p", { class: "response-note" }, "The same text as in the column before."));
      return column;
    }

    /** A choice of steps; null if all are shown. */
    chooser(number) {
      if (this.loaded.steps.length <= this.steps.length) return null;
      const choose = (value) => {
        this.steps[number] = Number(value);
        this.fill();
        // The select that the reader used has been replaced.
        this.root.children[number].querySelector("select").focus();
      };
      return select("Step", this.loaded.steps.map((step) => [step, String(step)]), this.steps[number], choose);
    }
  }

  /** Returns the elements of a problem of the list, with what `responseSource.problem` has returned. */
  const content = (index, problem, loaded) => {
    const about = [
      index.passes[problem.pass],
      problem.subject,
      problem.level && `level ${problem.level}`,
      problem.sample > 0 && `sample ${problem.sample}`,
    ];
    const columns = new Columns(index.milestones, loaded);
    const box = element("input", { type: "checkbox" });
    box.checked = marksDifferences;
    box.addEventListener("change", () => {
      marksDifferences = box.checked;
      columns.fill();
    });
    return [
      element("h4", { tabindex: "-1" }, isolated(problem.id)),
      element("p", { class: "about" }, about.filter(Boolean).join(", ")),
      element("p", { class: "response-text", dir: "auto" }, loaded.question ?? "The text of the question is not at hand."),
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
      columns.root,
      columns.note,
    ];
  };

  return { content };
})();
