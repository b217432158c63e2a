"use strict";

// What all parts of the page share: unpacking data, downloads, and texts from templates of the page.
const rlvr = {
  // Returns the text of a data block: deflate, written in base64.
  async unpack(id) {
    const element = document.getElementById(id);
    if (!element) throw new Error(`The page has no data named ${id}.`);
    const bytes = Uint8Array.from(atob(element.textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return new Response(stream).text();
  },

  download(name, text, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  },
};

// The button for dark mode. The choice lasts if the browser allows a page to store it.
{
  const button = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => {
    try { return localStorage.getItem("rlvr-theme"); } catch { return null; }
  };
  const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const show = () => button.setAttribute("aria-pressed", String(isDark()));
  const theme = stored();
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  button.addEventListener("click", () => {
    const chosen = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = chosen;
    try { localStorage.setItem("rlvr-theme", chosen); } catch { /* The choice ends with the page. */ }
    show();
  });
  dark.addEventListener("change", show);
  button.hidden = false;
  show();
}

// Details are open in print.
{
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of opened) one.open = false;
  });
}

// Filters for the rows of a table, and buttons that download a data block.
function startControls(root) {
  for (const control of root.querySelectorAll(".controls [hidden]")) control.hidden = false;
  for (const input of root.querySelectorAll("input[data-filter]")) {
    const table = document.getElementById(input.dataset.filter);
    const count = document.getElementById(`${input.dataset.filter}-count`);
    const only = root.querySelector(`input[data-filter-of="${input.dataset.filter}"]`);
    const apply = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const rows = [...table.tBodies[0].rows];
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word)) || (only?.checked && !row.classList.contains(only.dataset.only));
      }
      const shown = rows.filter((row) => !row.hidden).length;
      count.textContent = shown === rows.length ? "" : `${shown} of ${rows.length} rows`;
    };
    input.addEventListener("input", apply);
    only?.addEventListener("change", apply);
  }
  for (const button of root.querySelectorAll("button[data-download]")) {
    button.addEventListener("click", async () => {
      rlvr.download(button.dataset.name, await rlvr.unpack(button.dataset.download), "text/plain");
    });
  }
}
startControls(document);

// The navigation marks the section that is being read. A served page that replaces sections calls this again.
let sectionObserver = null;
function startNavigation() {
  sectionObserver?.disconnect();
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const visible = new Set();
  sectionObserver = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) visible.add(entry.target.id);
      else visible.delete(entry.target.id);
    }
    const current = [...links.keys()].find((id) => visible.has(id));
    for (const [id, link] of links) {
      if (id === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-10% 0px -60% 0px" });
  for (const section of document.querySelectorAll("main > section")) sectionObserver.observe(section);
}
startNavigation();
