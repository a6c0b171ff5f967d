"use strict";
// Text of files and of the server is only ever set as text, never as markup.
const $ = (id) => document.getElementById(id);
const ZONES = {
  "ruled out": "ruled out", "ruled in": "ruled in", between: "let a person look",
};
const AT_ONCE = 4; // requests
const USE = $("research").firstChild.data.trim();
const WORDS = {
  wait: "waits …", ok: "Accepted", refused: "Refused",
  unreadable: "Unreadable", failed: "Not answered",
};
const state = {
  items: [], at: -1, bundle: "", bundles: [], running: 0, map: false,
  width: 255, level: 127.5,
};

function make(tag, text, ...children) {
  const node = document.createElement(tag);
  if (text) node.textContent = text;
  node.append(...children);
  return node;
}

function say(text) { $("live").textContent = text; }

async function problemOf(reply) {
  try {
    const { problem, fix } = (await reply.json()).error;
    return `${problem[0].toUpperCase()}${problem.slice(1)}. ${fix}`;
  } catch {
    return `The server answered ${reply.status}.`;
  }
}

async function post(path, file, query = {}) {
  const form = new FormData();
  form.append("file", file, file.name);
  const search = new URLSearchParams({ bundle: state.bundle, ...query });
  for (let attempt = 0; ; attempt += 1) {
    let reply;
    try {
      reply = await fetch(`${path}?${search}`, { method: "POST", body: form });
    } catch {
      throw new Error("The server does not answer. Is it still running?");
    }
    if (reply.ok) return reply;
    if (![429, 503].includes(reply.status) || attempt === 5) {
      throw new Error(await problemOf(reply));
    }
    const seconds = Number(reply.headers.get("retry-after")) || 1;
    await new Promise((done) => setTimeout(done, 1000 * seconds));
  }
}

// Choosing and sending

function add(files) {
  for (const file of files) {
    state.items.push({ file, answer: null, error: "", picture: null, maps: null });
  }
  if (state.at < 0 && state.items.length) state.at = 0;
  show();
  send();
}

function send() {
  const waiting = state.items.filter((item) => !item.sent);
  for (const item of waiting.slice(0, AT_ONCE - state.running)) {
    item.sent = true;
    state.running += 1;
    ask(item).finally(() => { state.running -= 1; send(); });
  }
}

async function ask(item) {
  const bundle = state.bundle;
  try {
    const reply = await (await post("/predict", item.file)).json();
    if (bundle !== state.bundle) return; // it was asked of another since
    [item.answer] = reply.images;
  } catch (error) {
    if (bundle !== state.bundle) return;
    item.error = error.message;
  }
  if (state.items[state.at] === item) {
    show();
    say(spoken(item));
  } else {
    list();
  }
}

function askAgain() {
  for (const item of state.items) {
    Object.assign(item, { answer: null, error: "", maps: null, sent: false });
  }
  show();
  send();
}

const statusOf = (item) =>
  item.error ? "failed" : item.answer ? item.answer.status : "wait";

function spoken(item) {
  const { answer } = item;
  if (!answer) return item.error || "";
  const zone = answer.zone ? `, ${ZONES[answer.zone]}` : "";
  const text = answer.class
    ? `${answer.class} ${answer.probabilities[answer.class].toFixed(3)}${zone}`
    : answer.reason;
  return `${WORDS[answer.status]}. ${text}`;
}

// What is seen

function list() {
  const rows = state.items.map((item, number) => {
    const status = statusOf(item);
    const text = item.answer?.class
      ? `${item.answer.class} ${item.answer.probabilities[item.answer.class].toFixed(3)}`
      : WORDS[status];
    const button = make("button", "", make("span", item.file.name), make("small", text));
    button.className = status;
    if (number === state.at) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => go(number));
    return make("li", "", button);
  });
  const focused = [...$("list").querySelectorAll("button")].indexOf(document.activeElement);
  $("list").replaceChildren(...rows);
  if (focused >= 0) rows[focused]?.firstChild.focus();
}

function show() {
  const item = state.items[state.at];
  document.querySelector("main").classList.toggle("empty", !item);
  $("viewer").hidden = $("answer").hidden = !item;
  list();
  if (!item) return;
  $("viewer-title").textContent = `Image ${state.at + 1} of ${state.items.length}`;
  const status = statusOf(item);
  $("status").textContent = WORDS[status];
  $("status").className = status;
  $("reason").textContent = item.error || item.answer?.reason || "";
  $("reason").hidden = !$("reason").textContent;
  $("trained-on").hidden = !item.answer?.in_training;
  $("of-class").hidden = !item.answer?.class;
  if (item.answer?.class) showClass(item.answer);
  showSimilar(item.answer?.similar ?? []);
  for (const button of $("save").children) {
    button.disabled = !item.answer || (item.answer.status === "unreadable" && button.dataset.save !== "json");
  }
  $("save-text").textContent = "";
  showPicture(item);
  showMap(item);
}

function showClass(answer) {
  $("class").textContent = answer.class;
  $("zone").textContent = answer.zone ? `– ${ZONES[answer.zone]}` : "";
  const ranked = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]);
  const rows = ranked.map(([name, p]) => {
    const head = make("th", name);
    head.scope = "row";
    const bar = make("progress");
    bar.max = 1;
    bar.value = p;
    bar.setAttribute("aria-label", `Probability of ${name}`);
    const zone = answer.zones[name];
    const cell = make("td", zone ? ZONES[zone.zone] : "no thresholds");
    if (zone) {
      cell.append(make("small", `out below ${zone.rule_out.toFixed(3)}, in from ${zone.rule_in.toFixed(3)}`));
    }
    const row = make("tr", "", head, make("td", p.toFixed(3), bar), cell);
    row.classList.toggle("most", name === answer.class);
    return row;
  });
  $("probabilities").tBodies[0].replaceChildren(...rows);
}

function showSimilar(similar) {
  const pictures = similar.some((one) => one.picture);
  $("similar").classList.toggle("words", !pictures);
  const rows = similar.map((one, number) => {
    const text = `${one.label}`;
    const row = make("li");
    if (one.picture) {
      const image = make("img");
      image.src = one.picture;
      image.alt = `Training image ${number + 1}: ${one.label}`;
      row.append(image);
    }
    row.append(make("span", text), make("small", `distance ${one.distance.toFixed(3)}`),
      make("small", one.image_id.slice(0, 10)));
    return row;
  });
  if (!rows.length) rows.push(make("li", "None: this bundle keeps no training images to compare with, or the file could not be read."));
  else if (!pictures) rows.push(make("li", "Pictures need: featcache serve … --cache DIR"));
  $("similar").replaceChildren(...rows);
}

async function showPicture(item) {
  const known = item.answer && item.answer.status !== "unreadable";
  if (known && !item.picture && !item.noPicture) {
    item.picture = post("/picture", item.file)
      .then((reply) => reply.blob()).then((blob) => createImageBitmap(blob))
      .then((bitmap) => {
        const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.drawImage(bitmap, 0, 0);
        return context.getImageData(0, 0, bitmap.width, bitmap.height);
      })
      .catch(() => { item.noPicture = true; item.picture = null; return null; });
  }
  const pixels = await item.picture;
  if (state.items[state.at] !== item) return;
  state.pixels = pixels;
  $("stage").hidden = $("tools").hidden = !pixels;
  draw();
}

function draw() {
  const { pixels, width, level } = state;
  $("window").textContent = `Window ${Math.round(width)}, level ${Math.round(level)} (of 8 bits)`;
  if (!pixels) return;
  const canvas = $("canvas");
  canvas.width = pixels.width;
  canvas.height = pixels.height;
  const table = new Uint8ClampedArray(256);
  for (let v = 0; v < 256; v += 1) table[v] = ((v - level) / width + 0.5) * 255;
  const out = new ImageData(pixels.width, pixels.height);
  for (let i = 0; i < out.data.length; i += 4) {
    out.data[i] = table[pixels.data[i]];
    out.data[i + 1] = table[pixels.data[i + 1]];
    out.data[i + 2] = table[pixels.data[i + 2]];
    out.data[i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(out, 0, 0);
}

async function showMap(item) {
  $("map").setAttribute("aria-pressed", String(state.map));
  $("overlay").hidden = true;
  $("map-text").textContent = "";
  if (!state.map || !item.answer || item.answer.status === "unreadable") return;
  $("map-text").textContent = "Making the heat map …";
  item.maps ??= post("/explain", item.file).then((reply) => reply.json())
    .catch((error) => ({ reason: error.message }));
  const map = await item.maps;
  if (state.items[state.at] !== item || !state.map) return;
  if (map.reason) {
    $("map-text").textContent = `No heat map: ${map.reason}.`;
    return;
  }
  $("overlay").src = map.overlay;
  $("overlay").alt = `Contours of the evidence for ${map.class}`;
  $("overlay").hidden = false;
  const n = (value) => value.toFixed(2);
  $("map-text").textContent = `Evidence for ${map.class}: orange for, blue against; ` +
    `lines at 25, 50 and 75 % of the strongest. Score ${n(map.score)} = ${n(map.base)} + ` +
    `${n(map.map_sum)} of the map; ${Math.round(100 * map.even_share)} % of it has no place.`;
}

// What a person does

function go(number) {
  if (number < 0 || number >= state.items.length) return;
  state.at = number;
  show();
  say(`${state.items[number].file.name}. ${spoken(state.items[number])}`);
  $("list").children[number].scrollIntoView({ block: "nearest" });
}

function setWindow(width, level) {
  state.width = Math.min(510, Math.max(2, width));
  state.level = Math.min(255, Math.max(0, level));
  cancelAnimationFrame(state.frame);
  state.frame = requestAnimationFrame(draw);
}

function toggleMap() {
  state.map = !state.map;
  if (state.items[state.at]) showMap(state.items[state.at]);
}

async function save(button) {
  const item = state.items[state.at];
  const { save: path, ending } = button.dataset;
  const name = item.file.name.replace(/\.[^.]*$/, "") || "image";
  try {
    const blob = path === "json"
      ? new Blob([JSON.stringify({ intended_use: USE, bundle: state.bundle, ...item.answer }, null, 2)], { type: "application/json" })
      : await (await post(path, item.file)).blob();
    const link = make("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${name}.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    const head = new Uint8Array(await item.file.slice(128, 132).arrayBuffer());
    const isDicom = String.fromCharCode(...head) === "DICM";
    $("save-text").textContent = `Saved ${link.download}.` + (!path.startsWith("/dicom") ? "" : isDicom
      ? " It belongs to the study of the image, with its patient."
      : " The image is not DICOM: the study is made up, and has no patient.");
  } catch (error) {
    $("save-text").textContent = error.message;
  }
}

const KEYS = {
  ArrowLeft: () => go(state.at - 1),
  ArrowRight: () => go(state.at + 1),
  h: toggleMap,
  w: () => setWindow(state.width - 10, state.level),
  W: () => setWindow(state.width + 10, state.level),
  l: () => setWindow(state.width, state.level - 5),
  L: () => setWindow(state.width, state.level + 5),
  0: () => setWindow(255, 127.5),
  o: () => $("files").click(),
  "?": () => $("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  const key = KEYS[event.key];
  if (!key || event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  if (event.target.closest("select, input:not([type=file])")) return;
  event.preventDefault();
  key();
});
$("map").addEventListener("click", toggleMap);
$("reset").addEventListener("click", KEYS[0]);
$("help-open").addEventListener("click", KEYS["?"]);
$("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = "";
});
for (const button of $("save").children) {
  button.addEventListener("click", () => save(button));
}
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", kind === "dragover");
    if (kind === "drop") add(event.dataTransfer.files);
  });
}
$("stage").addEventListener("pointerdown", (event) => {
  $("stage").setPointerCapture(event.pointerId);
  state.drag = { x: event.clientX, y: event.clientY, width: state.width, level: state.level };
});
$("stage").addEventListener("pointermove", (event) => {
  const { drag } = state;
  if (drag) setWindow(drag.width + event.clientX - drag.x, drag.level + (drag.y - event.clientY) / 2);
});
for (const kind of ["pointerup", "pointercancel"]) {
  $("stage").addEventListener(kind, () => { state.drag = null; });
}
$("bundle").addEventListener("change", (event) => {
  state.bundle = event.target.value;
  askAgain();
});

async function start() {
  document.querySelector("main").classList.add("empty");
  const reply = await fetch("/bundles");
  if (!reply.ok) {
    say(await problemOf(reply));
    return;
  }
  const served = await reply.json();
  state.bundles = served.bundles;
  $("kept").textContent = served.logs
    ? "Of each image its digest and its answer are logged, and nothing else."
    : "Nothing you choose here is stored.";
  state.bundle = state.bundles[0].name;
  $("bundle").replaceChildren(...state.bundles.map((one) => {
    const option = make("option", `${one.name}: ${one.classes.join(", ")}`);
    option.value = one.name;
    return option;
  }));
}
start();
