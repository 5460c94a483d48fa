// A map of the city with an answer on it. Wheel: closer; drag: elsewhere; double click: all of it.
const SVG = "http://www.w3.org/2000/svg";

function shape(name, attributes, title) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (title) {
    const text = document.createElementNS(SVG, "title");
    text.textContent = title;
    node.append(text);
  }
  return node;
}

function niceLength(metres) {
  const power = 10 ** Math.floor(Math.log10(metres));
  return [5, 2, 1].map((step) => step * power).find((length) => length <= metres) ?? power;
}

function render({ model, el }) {
  el.classList.add("vm");
  const svg = shape("svg", { class: "vm-svg", role: "img", "aria-label": "map with the matches" });
  const picture = shape("image", { x: 0, y: 0 }), marks = shape("g", {});
  svg.append(picture, marks);
  const bar = document.createElement("div");
  bar.className = "vm-bar";
  const legend = document.createElement("div");
  legend.className = "vm-legend";
  el.append(svg, bar, legend);
  let url = "", view = null, drag = null, moved = false;

  const size = () => [model.get("width"), model.get("height")];
  const show = (x, y, w, h) => {
    const [width, height] = size();
    const longest = Math.max(width, height); // the frame is square
    w = Math.min(w, longest); h = Math.min(h, longest);
    const inside = (at, length, whole) => length > whole ? (whole - length) / 2 : Math.min(Math.max(at, 0), whole - length);
    view = [inside(x, w, width), inside(y, h, height), w, h];
    svg.setAttribute("viewBox", view.join(" "));
    draw();
  };
  const whole = () => show(0, 0, Math.max(...size()), Math.max(...size()));
  const scale = () => view[2] / (svg.clientWidth || 500); // map pixels a screen pixel

  const onImage = () => {
    const [width, height] = size();
    if (url) URL.revokeObjectURL(url);
    url = URL.createObjectURL(new Blob([model.get("image")], { type: "image/jpeg" }));
    picture.setAttribute("href", url);
    picture.setAttribute("width", width);
    picture.setAttribute("height", height);
    whole();
  };

  const draw = () => {
    const unit = scale(), nodes = [], active = model.get("hovered"), chosen = model.get("chosen");
    const line = { "vector-effect": "non-scaling-stroke" };
    const circle = model.get("circle"), truth = model.get("truth");
    if (circle.length)
      nodes.push(shape("circle", { ...line, class: "vm-circle", cx: circle[1], cy: circle[0], r: circle[2] }));
    const matches = model.get("matches");
    for (const match of [...matches].reverse()) { // the best on top
      const [top, left, bottom, right] = match.box;
      const state = (match.tile === active ? " hovered" : "") + (match.tile === chosen ? " chosen" : "");
      nodes.push(shape("rect", { ...line, class: `vm-tile m${match.method}${match.rank === 1 ? " best" : ""}${state}`,
        x: left, y: top, width: right - left, height: bottom - top, "data-tile": match.tile },
        match.label));
    }
    for (const match of matches) {
      if (match.rank !== 1 && match.tile !== active && match.tile !== chosen) continue;
      const [row, column] = match.predicted;
      if (truth.length)
        nodes.push(shape("line", { ...line, class: `vm-error m${match.method}`, x1: column, y1: row, x2: truth[1], y2: truth[0] }));
      nodes.push(shape("circle", { ...line, class: `vm-predicted m${match.method}`, cx: column, cy: row, r: 11 * unit }, match.label));
    }
    if (truth.length) {
      const arm = 8 * unit, [row, column] = truth;
      nodes.push(shape("path", { ...line, class: "vm-truth",
        d: `M${column - arm} ${row}H${column + arm}M${column} ${row - arm}V${row + arm}` }, "where it was taken"));
    }
    marks.replaceChildren(...nodes);
    const metre = model.get("px_per_metre") / unit; // screen pixels a metre
    if (metre > 0) {
      const length = niceLength(120 / metre);
      bar.style.width = `${length * metre}px`;
      bar.textContent = length >= 1000 ? `${length / 1000} km` : `${length} m`;
    }
    legend.textContent = model.get("legend");
  };

  const place = (event) => {
    const box = svg.getBoundingClientRect();
    const fit = Math.max(view[2] / box.width, view[3] / box.height);
    const left = (box.width - view[2] / fit) / 2, top = (box.height - view[3] / fit) / 2;
    return [view[0] + (event.clientX - box.left - left) * fit, view[1] + (event.clientY - box.top - top) * fit, fit];
  };
  const hover = (tile) => {
    if (model.get("hovered") === tile) return;
    model.set("hovered", tile);
    model.save_changes();
  };

  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    const [x, y] = place(event), factor = event.deltaY < 0 ? 0.8 : 1.25;
    if (view[2] * factor < 24) return;
    show(x - (x - view[0]) * factor, y - (y - view[1]) * factor, view[2] * factor, view[3] * factor);
  }, { passive: false });
  svg.addEventListener("dblclick", whole);
  svg.addEventListener("pointerdown", (event) => {
    drag = [event.clientX, event.clientY, ...view]; moved = false;
  });
  svg.addEventListener("pointermove", (event) => {
    if (!drag) return hover(Number(event.target.closest?.("[data-tile]")?.dataset.tile ?? -1));
    const [, , fit] = place(event), dx = event.clientX - drag[0], dy = event.clientY - drag[1];
    if (Math.hypot(dx, dy) > 4) { moved = true; show(drag[2] - dx * fit, drag[3] - dy * fit, drag[4], drag[5]); }
  });
  const drop = () => { drag = null; };
  window.addEventListener("pointerup", drop);
  svg.addEventListener("pointerleave", () => hover(-1));
  svg.addEventListener("click", (event) => {
    if (moved) return;
    const [x, y] = place(event), tile = event.target.closest?.("[data-tile]")?.dataset.tile;
    if (model.get("placing")) model.send({ type: "fix", row: y, column: x });
    else if (tile !== undefined) model.send({ type: "choose", tile: Number(tile) });
  });
  const onPlacing = () => svg.classList.toggle("placing", model.get("placing"));
  const focusOn = () => { // what belongs to the first answer, with some street around it
    const points = model.get("focus");
    if (!points.length) return draw();
    const rows = points.map((p) => p[0]), columns = points.map((p) => p[1]);
    const margin = model.get("tile_px") * 2;
    const [top, bottom] = [Math.min(...rows) - margin, Math.max(...rows) + margin];
    const [left, right] = [Math.min(...columns) - margin, Math.max(...columns) + margin];
    const side = Math.max(bottom - top, right - left, margin * 5);
    show((left + right - side) / 2, (top + bottom - side) / 2, side, side);
  };

  const changes = { "change:image_version": onImage, "change:version": focusOn, "change:hovered": draw,
    "change:chosen": draw, "change:placing": onPlacing };
  for (const [name, act] of Object.entries(changes)) model.on(name, act);
  const watch = new ResizeObserver(() => view && draw());
  watch.observe(svg);
  onImage(); onPlacing(); focusOn();
  return () => {
    watch.disconnect();
    window.removeEventListener("pointerup", drop);
    for (const [name, act] of Object.entries(changes)) model.off(name, act);
    if (url) URL.revokeObjectURL(url);
  };
}

export default { render };
