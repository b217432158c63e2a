// The browser for the rollouts of the training example: a slider over the steps, and the responses of the selected one.
const rolloutBrowser = (() => {
  "use strict";

  const { element, isolated, unpack, count, verdict, text } = responseParts;

  const percent = (share) => `${Math.round(share * 100)}%`;

  // A page that is updated does not move.
  let isFirst = true;

  class Browser {
    constructor(root, index) {
      Object.assign(this, { root, index, at: -1 });
      const last = index.steps.length - 1;
      this.slider = element("input", { type: "range", min: "0", max: String(last), value: "0", "aria-label": "Step" });
      this.slider.addEventListener("input", () => this.show(Number(this.slider.value)));
      this.bars = element("div", { class: "rollout-bars" }, ...index.steps.map((step, at) => this.bar(step, at)));
      this.summary = element("p", { role: "status", "aria-live": "polite" });
      this.view = element("div", { class: "rollout-list" });
      const move = (words, by) => element("button", { type: "button", onclick: () => this.show(this.at + by) }, words);
      root.replaceChildren(
        element("p", { class: "response-help" }, "Bars: the share of correct responses at each step; hatched bars: most responses are unreadable."),
        this.bars,
        element("div", { class: "rollout-slider" }, move("Previous", -1), this.slider, move("Next", 1)),
        this.summary,
        this.view,
      );
      root.hidden = false;
      const named = location.hash.match(/^#rollouts=(\d+)$/);
      const at = named ? index.steps.findIndex((step) => step.step === Number(named[1])) : 0;
      this.show(Math.max(0, at));
      if (named && isFirst) root.scrollIntoView();
      isFirst = false;
    }

    bar(step, at) {
      const share = step.correct / step.responses;
      const fill = element("span", {});
      fill.style.height = `${Math.max(3, 100 * share)}%`;
      const isUnreadable = step.unreadable * 2 >= step.responses;
      // The slider does the same for keyboards and screen readers.
      return element(
        "button",
        { type: "button", tabindex: "-1", "aria-hidden": "true", class: isUnreadable ? "unreadable" : null, title: `step ${step.step}: ${percent(share)} correct`, onclick: () => this.show(at, true) },
        fill,
      );
    }

    async show(at, isChosen = this.at >= 0) {
      at = Math.max(0, Math.min(at, this.index.steps.length - 1));
      if (at === this.at) return;
      this.at = at;
      const step = this.index.steps[at];
      this.slider.value = String(at);
      this.slider.setAttribute("aria-valuetext", `step ${step.step}`);
      [...this.bars.children].forEach((bar, number) => bar.classList.toggle("selected", number === at));
      this.summary.textContent = this.describe(step);
      const rollouts = await unpack(`rollouts-${step.step}`).catch(() => null);
      if (this.at !== at) return;
      if (isChosen) history.replaceState(null, "", `#rollouts=${step.step}`);
      if (!rollouts) this.view.replaceChildren(element("p", {}, "The responses of this step cannot be unpacked."));
      else this.view.replaceChildren(...this.examples(rollouts), ...rollouts.map((rollout) => this.rollout(rollout)));
    }

    describe(step) {
      const notes = [];
      if (step.step === this.index.saturation) notes.push("The train accuracy is saturated from here on.");
      if (step.step === this.index.gibberish) notes.push("From here on, most responses are unreadable.");
      if (this.at === 0 && step.step === 1) notes.push("These responses are from the base model.");
      const facts = [
        `${count(step.correct)} of ${count(step.responses)} responses are correct (${percent(step.correct / step.responses)})`,
        `mean reward ${step.reward.toPrecision(3)}`,
        step.tokens != null && `mean length ${step.tokens.toFixed(1)} tokens`,
        step.unreadable > 0 && `${count(step.unreadable)} unreadable`,
      ];
      return `Step ${step.step}: ${facts.filter(Boolean).join(", ")}. ${notes.join(" ")}`;
    }

    /** The training examples of the responses, with their gold answers and labels. */
    examples(rollouts) {
      const ids = [...new Set(rollouts.map((rollout) => rollout.example))];
      return ids.map((id) => {
        const example = this.index.examples[id];
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
        { class: "rollout" },
        element("p", {}, verdict(rollout.correct ? "correct" : "wrong"), " ", element("span", { class: "about" }, facts.filter(Boolean).join(", "))),
        rollout.reason ? element("p", { class: "reason" }, isolated(`${rollout.reason}.`)) : null,
        text([{ text: rollout.text, fresh: false, gone: false }]),
      );
    }
  }

  /** Builds the browser where the page has a place for it. */
  const start = async () => {
    const root = document.querySelector("#rollouts [data-browser]");
    if (!root || root.childElementCount > 0) return;
    const index = await unpack("rollouts-index");
    if (!index || index.steps.length === 0 || root.childElementCount > 0) return;
    new Browser(root, index);
  };

  return { start };
})();

// A served page calls this again after it has replaced sections.
const startResponses = () => {
  for (const browser of [heldOutBrowser, rolloutBrowser]) browser.start().catch((error) => console.error(error));
};
startResponses();
