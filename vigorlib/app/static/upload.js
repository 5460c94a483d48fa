// A picture in pieces: a web socket drops a large message without a word, small ones it takes.
const PIECE = 512 * 1024;

function render({ model, el }) {
  el.classList.add("vu");
  const label = document.createElement("label");
  label.className = "vu-drop";
  label.tabIndex = 0;
  const input = document.createElement("input");
  input.type = "file";
  input.accept = "image/jpeg,image/png,image/webp,image/tiff";
  const text = document.createElement("span");
  const bar = document.createElement("div");
  bar.className = "vu-bar";
  label.append(input, text, bar);
  el.append(label);
  let sending = null;

  const say = (words) => { text.textContent = words; };
  const idle = () => { say("Drop a picture here, or choose a file"); bar.style.width = "0"; };

  const start = (file) => {
    if (!file) return;
    if (file.size > model.get("most_bytes")) { // not one byte is sent in vain
      sending = null;
      model.send({ type: "too_large", name: file.name, size: file.size });
      return;
    }
    sending = { file, id: Math.random().toString(36).slice(2), sent: 0 };
    say(`Sending ${file.name} …`);
    model.send({ type: "begin", id: sending.id, name: file.name, size: file.size });
  };
  const next = async () => {
    const now = sending;
    const piece = await now.file.slice(now.sent, now.sent + PIECE).arrayBuffer();
    if (now !== sending) return; // another file was chosen meanwhile
    model.send({ type: "piece", id: now.id, at: now.sent }, undefined, [piece]);
    now.sent += piece.byteLength;
  };
  const onMessage = (message) => {
    if (!sending || message.id !== sending.id) return;
    if (message.type === "more") {
      bar.style.width = `${(100 * sending.sent) / sending.file.size}%`;
      next();
    } else if (message.type === "done") { sending = null; idle(); }
  };

  input.addEventListener("change", () => { start(input.files[0]); input.value = ""; });
  label.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); event.stopPropagation(); input.click(); }
  });
  for (const name of ["dragenter", "dragover", "dragleave", "drop"])
    label.addEventListener(name, (event) => {
      event.preventDefault();
      event.stopPropagation();
      label.classList.toggle("over", name === "dragenter" || name === "dragover");
      if (name === "drop") start(event.dataTransfer.files[0]);
    });
  const onReset = () => { sending = null; idle(); };
  model.on("msg:custom", onMessage);
  model.on("change:version", onReset);
  idle();
  return () => { model.off("msg:custom", onMessage); model.off("change:version", onReset); };
}

export default { render };
