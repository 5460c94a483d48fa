// The matches in order: one contact sheet, cut into cards by CSS.
const STEPS = { ArrowRight: 1, ArrowLeft: -1 };

function card(about, place, columns, count) {
  const button = document.createElement("button");
  button.className = `vg-card ${about.reference}`;
  button.dataset.tile = about.tile;
  button.setAttribute("aria-label", `rank ${about.rank}, ${about.distance || "distance unknown"}`);
  button.title = about.hint;
  const picture = document.createElement("div");
  picture.className = "vg-picture";
  const rows = Math.ceil(count / columns);
  const at = (index, of) => (of > 1 ? (100 * index) / (of - 1) : 0);
  picture.style.backgroundSize = `${100 * columns}% ${100 * rows}%`;
  picture.style.backgroundPosition =
    `${at(place % columns, columns)}% ${at(Math.floor(place / columns), rows)}%`;
  const rank = document.createElement("span");
  rank.className = "vg-rank";
  rank.textContent = about.rank;
  const line = document.createElement("div");
  line.className = "vg-line";
  line.textContent = about.distance || about.similarity;
  if (about.reference) {
    const mark = document.createElement("span");
    mark.className = "vg-mark";
    mark.textContent = about.reference === "positive" ? "right" : "covers";
    picture.append(mark);
  }
  picture.append(rank);
  button.append(picture, line);
  return button;
}

function render({ model, el }) {
  el.classList.add("vg");
  const head = document.createElement("div");
  head.className = "vg-head";
  const title = document.createElement("b"), verdict = document.createElement("span");
  head.append(title, verdict);
  const grid = document.createElement("div");
  grid.className = "vg-grid";
  grid.setAttribute("aria-label", "most similar tiles, best first");
  el.append(head, grid);
  let url = "";

  const draw = () => {
    const cards = model.get("cards");
    title.textContent = model.get("heading");
    verdict.textContent = model.get("verdict");
    verdict.className = `vg-verdict ${model.get("outcome")}`;
    if (url) URL.revokeObjectURL(url);
    url = URL.createObjectURL(new Blob([model.get("sheet")], { type: "image/jpeg" }));
    el.style.setProperty("--sheet", `url(${url})`);
    grid.replaceChildren(...cards.map((each, k) => card(each, k, model.get("columns"), cards.length)));
    grid.dataset.count = cards.length;
    mark();
  };
  const mark = () => {
    for (const button of grid.children) {
      const tile = Number(button.dataset.tile);
      button.classList.toggle("hovered", tile === model.get("hovered"));
      button.classList.toggle("chosen", tile === model.get("chosen"));
    }
  };
  const hover = (tile) => {
    if (model.get("hovered") === tile) return;
    model.set("hovered", tile);
    model.save_changes();
  };
  const tileOf = (event) => event.target.closest?.(".vg-card")?.dataset.tile;

  grid.addEventListener("pointerover", (event) => hover(Number(tileOf(event) ?? -1)));
  grid.addEventListener("pointerleave", () => hover(-1));
  grid.addEventListener("focusin", (event) => hover(Number(tileOf(event) ?? -1)));
  grid.addEventListener("click", (event) => {
    const tile = tileOf(event);
    if (tile !== undefined) model.send({ type: "choose", tile: Number(tile) });
  });
  grid.addEventListener("keydown", (event) => {
    const cards = [...grid.children], here = cards.indexOf(event.target.closest(".vg-card"));
    if (here < 0) return;
    const top = (card) => card.offsetTop;
    const wide = cards.filter((each) => top(each) === top(cards[0])).length;
    const step = STEPS[event.key] ?? { ArrowDown: wide, ArrowUp: -wide }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    cards[here + step]?.focus();
  });

  model.on("change:version", draw);
  model.on("change:hovered", mark);
  model.on("change:chosen", mark);
  draw();
  return () => {
    model.off("change:version", draw);
    model.off("change:hovered", mark);
    model.off("change:chosen", mark);
    if (url) URL.revokeObjectURL(url);
  };
}

export default { render };
