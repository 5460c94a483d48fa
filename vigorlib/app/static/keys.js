// Keyboard of the whole app: keys go to Python, but not while somebody types.
const HANDLED = ["ArrowLeft", "ArrowRight", "n", "p", "r", "l", "Enter", "g", "?", "Escape"];

function takesKeys(element) {
  const tag = element.tagName;
  return tag === "INPUT" || tag === "TEXTAREA" || tag === "SELECT" || element.isContentEditable
    || element.getAttribute?.("role") === "slider";
}

function listen(model, root) {
  root.tabIndex = 0;
  root.dataset.lmSuppressShortcuts = "true"; // JupyterLab's own keys stay out
  const onKey = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !HANDLED.includes(event.key)) return;
    if (event.key !== "Escape" && takesKeys(event.target)) return;
    if (event.key === "Enter" && event.target.closest("button, a, [role=option]")) return;
    event.preventDefault();
    event.stopPropagation();
    model.send({ type: "key", key: event.key });
  };
  root.addEventListener("keydown", onKey);
  if (document.activeElement === document.body && !document.querySelector(".jp-Notebook"))
    root.focus({ preventScroll: true }); // a page of its own: keys work at once
  root.dataset.ready = "true";
  return () => root.removeEventListener("keydown", onKey);
}

function render({ model, el }) {
  let stop = () => {};
  let waiting = true;
  const attach = () => {
    if (!waiting) return;
    const root = el.closest(".vigor-app");
    if (root) stop = listen(model, root);
    else requestAnimationFrame(attach); // children are rendered before they have a parent
  };
  attach();
  return () => { waiting = false; stop(); };
}

export default { render };
