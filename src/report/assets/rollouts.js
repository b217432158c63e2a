// The browser for the rollouts of the training example: the choice of a step, and the responses at that step.
const rolloutBrowser = (() => {
  "use strict";

  const { element, isolated, count, verdict, text } = responseParts;

  // A server is not asked for each step that a slider passes.
  const SETTLE_MS = 120;

  const percent = (share) => `${Math.round(share * 100)}%`;

  /** The number of the step that is nearest to one; of two, the earlier. */
  const nearest = (steps, step) => steps.reduce((best, one, at) => (Math.abs(one - step) < Math.abs(steps[best] - step) ? at : best), 0);

  class Browser {
    constructor(root, index) {
      this.step = null;
      this.slider = element("input", { type: "range", min: "0", value: "0", "aria-label": "Step" });
      this.slider.addEventListener("input", () => this.show(this.index.steps[this.slider.value]));
      this.field = element("input", { type: "number", onchange: (event) => this.showNearest(Number(event.target.value)) });
      this.bars = element("div", { class: "rollout-bars" });
      this.summary = element("p", { role: "status", "aria-live": "polite" });
      this.view = element("div", { class: "rollout-list" });
      const move = (words, by) => element("button", { type: "button", onclick: () => this.show(this.index.steps[this.at + by]) }, words);
      const help = "Bars: the share of correct responses at some steps; hatched bars: most responses are unreadable.";
      this.elements = [
        element("p", { class: "response-help" }, help),
        this.bars,
        element("div", { class: "rollout-slider" }, move("Previous", -1), this.slider, move("Next", 1), element("label", {}, "Step ", this.field)),
        this.summary,
        this.view,
      ];
      this.update(index);
      this.moveTo(root);
    }

    /** Moves to another place, when the section has been replaced by a newer one. */
    moveTo(root) {
      this.root = root;
      root.replaceChildren(...this.elements);
      root.hidden = false;
    }

    /** Offers a newer list of steps. The shown step stays. */
    update(index) {
      this.index = index;
      this.slider.max = String(index.steps.length - 1);
      Object.assign(this.field, { min: String(index.steps[0]), max: String(index.steps.at(-1)) });
      this.bars.replaceChildren(...index.chosen.map((summary) => this.bar(summary)));
      const typed = this.field.value;
      this.place();
      if (document.activeElement === this.field) this.field.value = typed;
    }

    bar(summary) {
      const share = summary.correct / summary.responses;
      const fill = element("span", {});
      fill.style.height = `${Math.max(3, 100 * share)}%`;
      const isUnreadable = summary.unreadable * 2 >= summary.responses;
      // The slider does the same for keyboards and screen readers.
      return element(
        "button",
        {
          type: "button",
          tabindex: "-1",
          "aria-hidden": "true",
          class: isUnreadable ? "unreadable" : null,
          title: `step ${summary.step}: ${percent(share)} correct`,
          onclick: () => this.show(summary.step),
        },
        fill,
      );
    }

    /** Moves the controls to the shown step. */
    place() {
      if (this.step === null) return;
      this.at = nearest(this.index.steps, this.step);
      this.slider.value = String(this.at);
      this.slider.setAttribute("aria-valuetext", `step ${this.step}`);
      this.field.value = String(this.step);
      this.index.chosen.forEach((summary, number) => this.bars.children[number].classList.toggle("selected", summary.step === this.step));
    }

    showNearest(wanted) {
      const step = this.index.steps[nearest(this.index.steps, wanted)];
      this.show(step, true, step === wanted ? "" : `Step ${wanted} is not here; the nearest is ${step}. `);
    }

    /** Shows the responses at a step. The address names the step if the reader `isChosen` it. */
    async show(step, isChosen = true, note = "") {
      if (step === undefined) return;
      const isSame = step === this.step;
      this.step = step;
      this.place();
      if (isSame && !this.hasFailed) return;
      this.hasFailed = false;
      let shown;
      try {
        if (responseSource.isServed) await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
        if (this.step !== step) return;
        shown = await responseSource.rollouts(step);
      } catch (error) {
        shown = null;
        if (this.step === step) {
          this.hasFailed = true;
          this.summary.textContent = `The responses of step ${step} cannot be shown: ${error.message}`;
        }
      }
      if (this.step !== step) return;
      if (isChosen) history.replaceState(null, "", `#rollouts=${step}`);
      this.view.replaceChildren();
      if (!shown) return;
      this.summary.textContent = note + this.describe(shown);
      const missing = shown.missing.map((sentence) => element("p", {}, `Not all responses can be shown: ${sentence}`));
      this.view.append(...this.examples(shown), ...missing, ...this.rollouts(shown));
    }

    describe({ summary, rollouts, first }) {
      const { step, responses, correct, reward, tokens, unreadable } = summary;
      if (responses === 0) return `Step ${step} has no responses that can be read.`;
      const facts = [
        `${count(correct)} of ${count(responses)} responses are correct (${percent(correct / responses)})`,
        `mean reward ${reward.toPrecision(3)}`,
        tokens != null && `mean length ${tokens.toFixed(1)} tokens`,
        unreadable > 0 && `${count(unreadable)} unreadable`,
      ];
      const notes = [
        step === this.index.saturation && "The train accuracy is saturated from here on.",
        step === this.index.gibberish && "From here on, most responses are unreadable.",
        step === 1 && "These responses are from the base model.",
        first.length < rollouts.length && `${count(first.length)} of ${count(rollouts.length)} different responses are below.`,
      ];
      return [`Step ${step}: ${facts.filter(Boolean).join(", ")}.`, ...notes.filter(Boolean)].join(" ");
    }

    /** The training examples of the responses, with their gold answers and labels. */
    examples({ examples, rollouts }) {
      const ids = [...new Set(rollouts.map((rollout) => rollout.example))];
      return ids.map((id) => {
        const example = examples[id];
        const name = id || "the training example";
        if (!example) return element("p", {}, "The text of ", isolated(name), " is not at hand.");
        const label = example.label == null ? null : element("p", {}, "Label that replaces it in training: ", element("b", {}, isolated(example.label)));
        return element(
          "div",
          { class: "rollout-example" },
          element("p", { class: "about" }, isolated(name)),
          element("p", { class: "response-text", dir: "auto" }, example.question),
          element("p", {}, "Gold answer: ", element("b", {}, isolated(example.gold || "none"))),
          label,
        );
      });
    }

    /** The first responses, and a button that shows all. */
    rollouts({ rollouts, first }) {
      const shown = first.map((number) => this.rollout(rollouts[number]));
      if (first.length === rollouts.length) return shown;
      const button = element("button", { type: "button" }, `Show all ${count(rollouts.length)} different responses`);
      button.addEventListener("click", () => {
        const all = rollouts.map((rollout) => this.rollout(rollout));
        shown.forEach((article) => article.remove());
        button.replaceWith(...all);
        all[0].focus();
      });
      return [...shown, button];
    }

    rollout(rollout) {
      const facts = [
        `group ${rollout.group}`,
        `sample ${rollout.sample}`,
        `reward ${Number(rollout.reward.toPrecision(4))}`,
        rollout.boxed ? "boxed" : "not boxed",
        { stop: "stopped by itself", length: "cut off at the limit" }[rollout.finish],
        `${count(rollout.chars)} characters`,
        rollout.copies > 1 && `${count(rollout.copies)} identical responses`,
      ];
      return element(
        "article",
        { class: "rollout", tabindex: "-1" },
        element("p", {}, verdict(rollout.correct ? "correct" : "wrong"), " ", element("span", { class: "about" }, facts.filter(Boolean).join(", "))),
        rollout.reason ? element("p", { class: "reason" }, isolated(`${rollout.reason}.`)) : null,
        text([{ text: rollout.text, fresh: false, gone: false }]),
      );
    }

    /** Shows the step that the address names. Returns whether it names one. */
    follow() {
      const [, step] = location.hash.match(/^#rollouts=(\d+)$/) ?? [];
      if (step !== undefined) this.showNearest(Number(step));
      return step !== undefined;
    }
  }

  let current = null;

  const place = () => document.querySelector("#rollouts [data-browser]");

  /** Builds the browser where the page has a place for it. A served page calls this again when it has changed. */
  const start = async () => {
    // At once, so that the focus is kept.
    if (current && place()?.childElementCount === 0) current.moveTo(place());
    const index = place() && (await responseSource.steps());
    // The section may have been replaced in the meantime.
    const root = place();
    if (!root || !index || index.steps.length === 0) return;
    if (current) {
      if (current.root !== root) current.moveTo(root);
      current.update(index);
    } else {
      current = new Browser(root, index);
      if (!current.follow()) current.show(index.steps[0], false);
    }
  };

  return { start, follow: () => current?.follow() };
})();
