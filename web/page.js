// The page: user input and display. worker.js does the computation.

import { listen, Mask, union } from "./brush.js";
import { Levels } from "./levels.js";
import { enlargedSize, mixed } from "./pixels.js";

const LARGEST = 40e6; // pixels of a result; larger ones exceed the memory or canvas of browsers
const byId = (id) => document.getElementById(id);
const [task, file, example] = ["task", "file", "example"].map(byId);
const [stage, before, after, divider] = ["stage", "before", "after", "divider"].map(byId);

/** Reloads the page once, isolated, so that the network can use threads. */
async function isolate() {
  if (self.crossOriginIsolated || !navigator.serviceWorker) return;
  if (sessionStorage.getItem("isolated")) return; // tried, but this browser does not support it
  try {
    await navigator.serviceWorker.register("isolate.js");
    await navigator.serviceWorker.ready;
    sessionStorage.setItem("isolated", "tried");
  } catch {
    return; // uses one thread
  }
  location.reload();
  await new Promise(() => {}); // stops this page until it is reloaded
}
await isolate();

const worker = new Worker(`worker.js${location.search}`, { type: "module" });
const levels = new Levels(() => restore());
let models = {};
let photograph = null; // {name, image: ImageData}
let request = 0;
let mask = null; // where the level applies; everywhere if null
let restored = null; // the newest result: {width, height, data}
let waiting = null; // the rectangle that the result does not include yet
let asked = null; // the newest request: {key, used}, its task and levels, and whether it has a mask
let everywhere = null; // the newest result without a mask: {key, before, data}

function say(text, { mistake = false } = {}) {
  byId("status").textContent = text;
  byId("status").classList.toggle("mistake", mistake);
}

// Begins a request. Answers to earlier ones are ignored, and the download is disabled.
function begin() {
  byId("download").disabled = true;
  document.body.dataset.state = "busy";
  return (request += 1);
}

function refuse(text) {
  document.body.dataset.state = "failed";
  say(text, { mistake: true });
}

function showDivider() {
  const place = byId("brush").checked ? 0 : divider.value; // painting shows all of the result
  after.style.clipPath = `inset(0 0 0 ${place}%)`;
  byId("line").style.left = `${place}%`;
}

function show(canvas, { width, height, data }) {
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
}

function whole({ width, height }) {
  return { left: 0, top: 0, right: width, bottom: height };
}

/** Restores everything, or only what a change of the mask in a rectangle affects. */
function restore(box = null) {
  if (!photograph) return;
  const id = begin();
  const model = models[task.value];
  const { values, mistake } = levels.read();
  if (mistake) {
    refuse(mistake);
    return;
  }
  const { width, height, data } = photograph.image;
  const size = model.enlarges ? enlargedSize(width, height, values[0]) : [width, height];
  if (size[0] * size[1] > LARGEST) {
    refuse(
      `The result would have ${size[0]} x ${size[1]} pixels, more than this page can hold; ` +
        "use the hypernet-jax command.",
    );
    return;
  }
  const [across, down] = size;
  const used = model.mapFile && mask?.width === across && mask?.height === down;
  const partly = box && used && restored?.width === across && restored?.height === down;
  waiting = union(waiting, partly ? box : whole({ width: across, height: down }));
  say("Restoring ...");
  asked = { key: JSON.stringify([task.value, values]), used };
  worker.postMessage({
    id,
    kind: "restore",
    image: { width, height, data },
    levels: values,
    model,
    mask: used ? mask.values : null,
    box: partly ? waiting : null,
    before: partly ? restored.data : null,
  });
}

worker.onmessage = ({ data: answer }) => {
  if (answer.id !== request) return;
  if (answer.kind === "progress") {
    if (answer.total > 1) say(`Restoring ... ${answer.done} of ${answer.total} tiles`);
    return;
  }
  if (answer.kind === "estimated") {
    levels.set(answer.levels);
    restore();
    return;
  }
  if (answer.kind === "failed") {
    refuse(`The photograph could not be restored: ${answer.reason}`);
    return;
  }
  waiting = null;
  restored = { ...answer.output, data: answer.output.data.slice() };
  if (!asked.used) everywhere = { key: asked.key, before: answer.input.data, data: restored.data };
  show(before, answer.input);
  show(after, answer.output);
  stage.hidden = false;
  showRegion();
  showDivider();
  byId("download").disabled = false;
  document.body.dataset.state = "done";
  const { width, height } = answer.output;
  const taken = answer.seconds.toFixed(1);
  say(`Restored ${width} x ${height} pixels in ${taken} s, on this machine (${answer.by}).`);
};
worker.onerror = () => say("This browser cannot run the page's worker; try a newer one.", { mistake: true });

async function open(blob, name) {
  const id = begin();
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { premultiplyAlpha: "none" });
  } catch {
    if (id === request) refuse(`${name} is not an image that this browser can read; choose another.`);
    return;
  }
  if (id !== request) return; // another one was chosen while this one was decoded
  if (bitmap.width * bitmap.height > LARGEST) {
    refuse(`${name} has more pixels than this page can hold; use the hypernet-jax command.`);
    return;
  }
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  photograph = { name, image: context.getImageData(0, 0, bitmap.width, bitmap.height) };
  mask = restored = waiting = everywhere = null;
  estimate();
}

/** Estimates the level of the photograph, if the task can, and restores it. */
function estimate() {
  const model = models[task.value];
  if (!model.estimator) {
    restore();
    return;
  }
  if (!photograph) return;
  const id = begin();
  say("Estimating the degradation ...");
  worker.postMessage({ id, kind: "estimate", image: photograph.image, model });
}

async function openExample() {
  const model = models[task.value];
  levels.reset();
  const id = begin();
  let blob = null;
  try {
    const answer = await fetch(model.example);
    if (answer.ok) blob = await answer.blob();
  } catch {
    // Reported below.
  }
  if (id !== request) return;
  if (blob) await open(blob, model.example);
  else refuse("The example cannot be loaded; choose a photograph.");
}

function save(canvas, ending) {
  canvas.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${photograph.name.replace(/\.[^.]*$/, "")}${ending}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }, "image/png");
}

/** Shows the mask, and the controls of the brush if the task supports level maps. */
function showRegion() {
  byId("region").hidden = !photograph || !models[task.value].mapFile;
  const painting = byId("brush").checked && !byId("region").hidden;
  const { width, height } = after;
  if (painting && !(mask?.width === width && mask?.height === height)) {
    mask = new Mask(width, height);
  }
  const canvas = byId("mask");
  if (painting && !(canvas.width === width && canvas.height === height && !canvas.hidden)) {
    Object.assign(canvas, { width, height });
    mask.draw(canvas.getContext("2d"), whole(mask));
  }
  canvas.hidden = !painting;
  document.body.classList.toggle("painting", painting);
  canvas.classList.toggle("unseen", !byId("overlay").checked);
  byId("undo").disabled = !mask?.undone.length;
  showDivider();
}

/** Shows an approximate result of a stroke before the network has computed it. */
function preview(box) {
  const { width, height } = mask;
  if (everywhere?.key !== asked?.key || everywhere.data.length !== 4 * width * height) return;
  const part = mixed(everywhere.before, everywhere.data, mask.values, width, box);
  const picture = new ImageData(part.data, part.width, part.height);
  after.getContext("2d").putImageData(picture, box.left, box.top);
}

function painted(box, finished) {
  if (box) {
    mask.draw(byId("mask").getContext("2d"), box);
    preview(box);
  }
  if (!finished) return;
  byId("undo").disabled = !mask.undone.length;
  if (box) restore(box);
}

function saveMask() {
  const canvas = document.createElement("canvas");
  const picture = (mask ?? new Mask(after.width, after.height)).picture();
  Object.assign(canvas, { width: picture.width, height: picture.height });
  canvas.getContext("2d").putImageData(picture, 0, 0);
  save(canvas, "-mask");
}

listen(byId("mask"), byId("cursor"), {
  mask: () => mask,
  brush: () => ({
    radius: Number(byId("size").value) / 2,
    softness: Number(byId("softness").value),
    erase: byId("erase").checked,
  }),
  changed: painted,
  undo: () => painted(mask.undo(), true),
  resize: (factor) => (byId("size").value = Math.round(byId("size").value * factor)),
  toggle: () => (byId("erase").checked = !byId("erase").checked),
});
byId("brush").addEventListener("change", () => {
  showRegion();
  if (byId("brush").checked) byId("mask").focus();
});
byId("overlay").addEventListener("change", showRegion);
byId("undo").addEventListener("click", () => painted(mask.undo(), true));
for (const [button, value] of [["clear", 0], ["fill", 255]]) {
  byId(button).addEventListener("click", () => {
    byId("brush").checked = true;
    showRegion();
    byId("erase").checked = value === 255; // the only useful mode afterwards
    painted(mask.fill(value), true);
  });
}
byId("save-mask").addEventListener("click", saveMask);

task.addEventListener("change", () => {
  levels.show(models[task.value]);
  showRegion();
  estimate();
});
byId("estimate").addEventListener("click", estimate);
file.addEventListener("change", () => file.files[0] && open(file.files[0], file.files[0].name));
example.addEventListener("click", openExample);
byId("download").addEventListener("click", () => save(after, "-restored"));
divider.addEventListener("input", showDivider);
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const dropped = event.dataTransfer.files[0];
  if (dropped) open(dropped, dropped.name);
});

const answer = await fetch("models.json");
models = await answer.json();
for (const [name, model] of Object.entries(models)) task.add(new Option(model.title, name));
levels.show(models[task.value]);
document.body.dataset.state = "ready";
