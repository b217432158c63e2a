// Where responses come from: packed in the page, or from the server of a served page. Both answer the same questions.
const responseSource = (() => {
  "use strict";

  /** Unpacks a block of data of the page; null if the page has none with this id. */
  const unpack = async (id) => {
    const packed = document.getElementById(id);
    if (!packed) return null;
    const bytes = Uint8Array.from(atob(packed.textContent), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return JSON.parse(await new Response(stream).text());
  };

  /** Asks the server. */
  const get = async (address, parameters = {}) => {
    const answer = await fetch(`responses/${address}?${new URLSearchParams(parameters)}`, { cache: "no-store" });
    const content = await answer.json();
    if (!answer.ok) throw new Error(content.error);
    return content;
  };

  const blocks = new Map();

  /** Returns a promise of the problems of a block with their texts, unpacked once. */
  const block = (number) => {
    if (!blocks.has(number)) blocks.set(number, unpack(`responses-${number}`));
    return blocks.get(number);
  };

  let rolloutIndex = null;

  const inPage = {
    isServed: false,
    /** The list of held-out problems; null if there is none. */
    heldOut: () => unpack("responses-index"),
    /** `{question, gold, steps, responses}` of a problem of the list. */
    problem: async (index, problem) => {
      const opened = (await block(Math.floor(problem.number / index.block)))[problem.number % index.block];
      return { ...opened, steps: index.milestones.map((milestone) => milestone.step) };
    },
    /** `{steps, chosen, gibberish, saturation}`: the steps with rollouts, and summaries of those that stand out. */
    steps: async () => {
      rolloutIndex = await unpack("rollouts-index");
      return rolloutIndex && { ...rolloutIndex, steps: rolloutIndex.steps.map((one) => one.step), chosen: rolloutIndex.steps };
    },
    /** `{summary, examples, rollouts, first, missing}` of a step. */
    rollouts: async (step) => {
      const rollouts = await unpack(`rollouts-${step}`);
      const summary = rolloutIndex.steps.find((one) => one.step === step);
      return { summary, examples: rolloutIndex.examples, rollouts, first: [...rollouts.keys()], missing: [] };
    },
  };

  const onServer = {
    isServed: true,
    heldOut: () => get("index.json"),
    problem: async (index, problem) => {
      const served = await get("problem.json", { pass: index.passes[problem.pass], id: problem.id });
      const sample = served.samples.find((one) => one.sample === problem.sample);
      return { ...served, responses: sample?.responses ?? [] };
    },
    steps: () => get("steps.json"),
    rollouts: (step) => get("rollouts.json", { step }),
  };

  return document.body.dataset.watch === undefined ? inPage : onServer;
})();
