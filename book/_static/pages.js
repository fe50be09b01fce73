// What only a browser knows of a page.

// Of a page opened from a file no script may read another page, so a search lists titles without excerpts.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// Tables, code and formulas that are wider than their column: reached by the keyboard, with a mark where there is more.
function watchWideParts() {
  const mark = (part) => {
    const hidden = part.scrollWidth - part.clientWidth;
    const left = part.scrollLeft > 1;
    const right = part.scrollLeft < hidden - 1;
    if (hidden > 1) part.tabIndex = 0;
    else if (part.matches(":not(mjx-container)")) part.removeAttribute("tabindex");
    if (hidden > 1 && (left || right)) part.dataset.more = left && right ? "both" : left ? "left" : "right";
    else delete part.dataset.more;
  };
  const sizes = new ResizeObserver((changes) => changes.forEach((change) => mark(change.target)));
  const parts = ".pst-scrollable-table-container, .bd-article pre, .bd-article div.math mjx-container";
  for (const part of document.querySelectorAll(parts)) {
    sizes.observe(part);
    part.addEventListener("scroll", () => mark(part), {passive: true});
  }
}

// The theme calls its search field "Search", which reads "Search Ctrl+K": what is read is its name.
addEventListener("DOMContentLoaded", () => {
  for (const field of document.querySelectorAll(".search-button-field")) field.removeAttribute("aria-label");
});

addEventListener("load", () => {
  const formulas = window.MathJax?.startup?.promise ?? Promise.resolve();
  formulas.then(watchWideParts);
});
