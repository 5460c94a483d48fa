// The list of all queries: only the rows in sight exist, and only their pictures are asked for.
const ROW = 52, PAGE = 24;

function row(position) {
  const item = document.createElement("div");
  item.className = "vq-row";
  item.setAttribute("role", "option");
  item.id = "";
  item.style.top = `${position * ROW}px`;
  item.dataset.position = position;
  item.innerHTML = "<div class='vq-picture'></div><div class='vq-text'><b></b><span></span></div><i></i>";
  return item;
}

function fill(item, about, url) {
  item.querySelector("b").textContent = about.title;
  item.querySelector("span").textContent = about.detail;
  const mark = item.querySelector("i");
  mark.textContent = about.mark;
  mark.className = `vq-mark ${about.outcome}`;
  mark.title = about.hint;
  item.title = about.name;
  if (url) item.querySelector(".vq-picture").style.backgroundImage = `url(${url})`;
  item.dataset.filled = "true";
}

function render({ model, el }) {
  el.classList.add("vq");
  const list = document.createElement("div");
  list.className = "vq-list";
  list.tabIndex = 0;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "queries of the test set");
  const inner = document.createElement("div");
  inner.className = "vq-inner";
  list.append(inner);
  const empty = document.createElement("div");
  empty.className = "vq-empty";
  el.append(list, empty);

  const rows = new Map(), asked = new Set(), urls = [];

  const clear = () => {
    rows.clear(); asked.clear();
    urls.splice(0).forEach((url) => URL.revokeObjectURL(url));
    inner.replaceChildren();
    inner.style.height = `${model.get("total") * ROW}px`;
    empty.textContent = model.get("total") ? "" : "No query passes these filters.";
    empty.style.display = model.get("total") ? "none" : "block";
    draw();
  };

  const draw = () => {
    const total = model.get("total"), height = list.clientHeight || 320;
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
    const last = Math.min(total, Math.ceil((list.scrollTop + height) / ROW) + 4);
    for (const [position, item] of rows)
      if (position < first || position >= last) { item.remove(); rows.delete(position); }
    for (let position = first; position < last; position++)
      if (!rows.has(position)) {
        const item = row(position);
        rows.set(position, item);
        inner.append(item);
        const known = cache.get(position);
        if (known) fill(item, known.about, known.url);
      }
    mark();
    for (let page = Math.floor(first / PAGE); page * PAGE < last; page++)
      if (!asked.has(page)) {
        asked.add(page);
        model.send({ type: "rows", version: model.get("version"), start: page * PAGE, count: PAGE });
      }
  };

  const cache = new Map();
  const mark = () => {
    const chosen = model.get("position");
    for (const [position, item] of rows) {
      item.setAttribute("aria-selected", position === chosen);
      item.classList.toggle("chosen", position === chosen);
    }
  };

  const reveal = () => {
    const top = model.get("position") * ROW;
    if (top < 0) return;
    if (top < list.scrollTop || top + ROW > list.scrollTop + list.clientHeight)
      list.scrollTop = Math.max(0, top - list.clientHeight / 2 + ROW / 2);
    draw();
  };

  const choose = (position) => {
    if (position < 0 || position >= model.get("total")) return;
    model.set("position", position);
    model.save_changes();
  };

  list.addEventListener("scroll", () => draw(), { passive: true });
  list.addEventListener("click", (event) => {
    const item = event.target.closest(".vq-row");
    if (item) choose(Number(item.dataset.position));
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 6, PageUp: -6 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const last = model.get("total") - 1;
    choose(Math.min(last, Math.max(0, model.get("position") + step)));
  });

  const onRows = (message, buffers) => {
    if (message.type !== "rows" || message.version !== model.get("version")) return;
    message.rows.forEach((about, k) => {
      const position = message.start + k;
      const url = URL.createObjectURL(new Blob([buffers[k]], { type: "image/jpeg" }));
      urls.push(url);
      cache.set(position, { about, url });
      if (rows.has(position)) fill(rows.get(position), about, url);
    });
  };
  const onVersion = () => { cache.clear(); list.scrollTop = 0; clear(); reveal(); };
  const onPosition = () => { mark(); reveal(); };

  model.on("msg:custom", onRows);
  model.on("change:version", onVersion);
  model.on("change:position", onPosition);
  const watch = new ResizeObserver(() => draw()); // it has no height before it is shown
  watch.observe(list);
  clear();
  return () => {
    watch.disconnect();
    model.off("msg:custom", onRows);
    model.off("change:version", onVersion);
    model.off("change:position", onPosition);
    urls.forEach((url) => URL.revokeObjectURL(url));
  };
}

export default { render };
