// Starts the browsers for responses, and follows addresses that name a response or a step.
const startResponses = (() => {
  "use strict";

  const browsers = { response: heldOutBrowser, rollouts: rolloutBrowser };
  const places = { response: "held-out", rollouts: "rollouts" };

  /** Returns which part of the section the address names; undefined if it names none. */
  const named = () => location.hash.match(/^#(response|rollouts)=/)?.[1];

  const scroll = () => document.querySelector(`#${places[named()]} [data-browser]`)?.scrollIntoView();

  addEventListener("hashchange", () => {
    if (!named()) return;
    browsers[named()].follow();
    scroll();
  });

  let isFirst = true;

  // A served page calls this again after it has changed.
  return async () => {
    await Promise.all(Object.values(browsers).map((browser) => browser.start().catch((error) => console.error(error))));
    // The page moves only once, and not before the parts above have their size.
    if (isFirst) scroll();
    isFirst = false;
  };
})();
startResponses();
