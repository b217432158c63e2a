// Parts of the response browser that do not depend on where responses come from. All foreign text is inserted as text nodes.
const responseParts = (() => {
  "use strict";

  // Characters of a response that are shown before the reader asks for the rest.
  const COLLAPSED = 3000;

  const OUTCOMES = {
    correct: ["✓", "correct"],
    unboxed: ["(✓)", "right but not boxed, counts as wrong"],
    wrong: ["✗", "wrong"],
    no_answer: ["∅", "no boxed answer"],
    too_long: ["…", "prompt too long"],
  };

  /** Creates an element with attributes and children; strings become text. */
  const element = (name, attributes = {}, ...children) => {
    const created = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) created.addEventListener(key.slice(2), value);
      else if (value === true) created.setAttribute(key, "");
      else if (value !== false && value != null) created.setAttribute(key, value);
    }
    created.append(...children.filter((child) => child != null));
    return created;
  };

  /** Foreign text on one line, isolated from the direction of the text around it. */
  const isolated = (text) => element("bdi", {}, text);

  const count = (number) => number.toLocaleString("en-US");

  /** The sign and the words for a verdict; undefined or null where there is no response. */
  const outcomeSign = (outcome) => (outcome ? OUTCOMES[outcome][0] : "·");
  const outcomeWords = (outcome) => (outcome ? OUTCOMES[outcome][1] : "no response");

  const verdict = (outcome) =>
    element("span", { class: `verdict verdict-${outcome}` }, element("span", { "aria-hidden": "true" }, outcomeSign(outcome), " "), outcomeWords(outcome));

  /** A response's text from segments `{text, fresh, gone}`, collapsed if it is long. */
  const text = (segments) => {
    const block = element("pre", { class: "response-text", dir: "auto", tabindex: "0" });
    const total = segments.reduce((sum, segment) => sum + segment.text.length, 0);
    const fill = (limit) => {
      block.replaceChildren();
      let left = limit;
      for (const segment of segments) {
        if (left <= 0) break;
        const shown = segment.text.slice(0, left);
        left -= shown.length;
        const marks = [segment.fresh && "fresh", segment.gone && "gone"].filter(Boolean).join(" ");
        block.append(marks ? element("mark", { class: marks }, shown) : shown);
      }
    };
    if (total <= COLLAPSED * 1.2) {
      fill(total);
      if (total === 0) block.append(element("i", {}, "(empty)"));
      return block;
    }
    fill(COLLAPSED);
    const button = element("button", { type: "button", "aria-expanded": "false" }, `Show all ${count(total)} characters`);
    button.addEventListener("click", () => {
      const expand = button.getAttribute("aria-expanded") === "false";
      fill(expand ? total : COLLAPSED);
      button.setAttribute("aria-expanded", String(expand));
      button.textContent = expand ? "Show less" : `Show all ${count(total)} characters`;
    });
    return element("div", {}, block, button);
  };

  /** A labeled select; `options` are `[value, words]`. */
  const select = (label, options, value, onchange) => {
    const list = options.map(([key, words]) => element("option", { value: key, selected: key === value }, words));
    return element("label", {}, `${label} `, element("select", { onchange: (event) => onchange(event.target.value) }, ...list));
  };

  return { element, isolated, count, outcomeSign, outcomeWords, verdict, text, select };
})();
