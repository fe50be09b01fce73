// The scoreboard's filter: by verdict and by chapter. Without this script everything is shown.
document.addEventListener("DOMContentLoaded", () => {
  const boards = [...document.querySelectorAll(".verdict-board")];
  const rows = boards.flatMap((board) => [...board.querySelectorAll(":scope > ul > li")]);
  const chapters = [...new Set(rows.map((row) => row.dataset.chapter))].sort();
  if (chapters.length < 2) return; // a chapter's own rows need no filter

  const dots = [...document.querySelectorAll(".verdict-board summary .verdict-dot")];

  const chosen = new Set();
  const filter = document.createElement("div");
  filter.className = "verdict-filter";
  filter.setAttribute("role", "group");
  filter.setAttribute("aria-label", "Which claims to show");

  for (const style of ["reproduced", "corrected", "contradicted", "undecided", "wrong", "open"]) {
    const dot = dots.find((dot) => dot.classList.contains(style));
    if (!dot) continue;
    const button = document.createElement("button");
    const count = rows.filter((row) => row.dataset.verdicts.split(" ").includes(style)).length;
    button.type = "button";
    button.className = style;
    button.textContent = `${dot.textContent} ${dot.title.split(": ").pop()} (${count})`;
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      if (!chosen.delete(style)) chosen.add(style);
      button.setAttribute("aria-pressed", String(chosen.has(style)));
      show();
    });
    filter.append(button);
  }

  const select = document.createElement("select");
  select.setAttribute("aria-label", "Chapter");
  select.add(new Option("all chapters", ""));
  for (const chapter of chapters) {
    const [number, name] = chapter.split("_");
    select.add(new Option(`${Number(number)} ${name}`, chapter));
  }
  select.addEventListener("change", show);

  const told = document.createElement("span");
  told.setAttribute("role", "status");
  filter.append(select, told);
  boards[0].before(filter);

  function show() {
    for (const row of rows) {
      const verdicts = row.dataset.verdicts.split(" ");
      row.hidden = !(
        (chosen.size === 0 || verdicts.some((style) => chosen.has(style))) &&
        (select.value === "" || row.dataset.chapter === select.value)
      );
    }
    const left = rows.filter((row) => !row.hidden).length;
    told.textContent = left === rows.length ? "" : `${left} of ${rows.length} rows`;
    for (const board of boards) board.hidden = !board.querySelector(":scope > ul > li:not([hidden])");
  }
});
