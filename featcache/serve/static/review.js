"use strict";
// One image at a time. All state is on the server: this page shows a card, and sends
// what the reader does with it together with the card's version.

const $ = (id) => document.getElementById(id);
const STEP = 1.15;
let card = null;
let busy = false;
let ready = false; // the image on the screen is that of the card
let look = { contrast: 1, brightness: 1 };

function say(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

async function ask(path, body) {
  if (busy) return;
  busy = true;
  try {
    const options = body ? {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    } : {};
    const response = await fetch(path, options);
    const answer = await response.json();
    const error = answer.error;
    say(error ? `${error.problem}. ${error.fix}` : "");
    if (!error) show(answer);
    if (answer.card) show(answer.card);
    return !error;
  } catch (error) {
    say("The server cannot be reached. Answers so far are saved; the last key has not been, so press it again once the server runs.");
    return false;
  } finally {
    busy = false;
  }
}

async function act(event, answer = "") {
  if (!card) return;
  const note = event === "undo" ? "" : $("note").value.trim();
  const body = { event, answer, note, version: card.version, image_id: card.image_id };
  if (await ask("act", body) && event !== "undo") $("note").value = "";
}

function fill(node, text) {
  node.textContent = text;
}

function classButton(name, number) {
  const button = document.createElement("button");
  button.type = "button";
  if (number <= 9) {
    const key = document.createElement("kbd");
    fill(key, number);
    button.append(key);
  }
  const text = document.createElement("span");
  fill(text, name);
  button.append(text);
  button.addEventListener("click", () => choose(number));
  return button;
}

function choose(number) {
  const name = card && card.classes[number - 1];
  if (name === undefined || card.state === "finished" || !ready) return;
  act(card.state === "blinded" ? "answer" : "final", name);
}

function keep() {
  if (card && card.reveal && card.reveal.before) act("final", card.reveal.before);
}

function skip() {
  if (card && !$("skip").hidden && card.state !== "finished") act("skip");
}

function undo() {
  if (card && card.can_undo) act("undo");
}

function showReveal(reveal) {
  $("reveal").hidden = !reveal;
  if (!reveal) return;
  fill($("mine"), reveal.before || "none (taken back)");
  fill($("label"), reveal.label);
  $("label").className = reveal.before && reveal.before !== reveal.label ? "differs" : "";
  fill($("reason"), reveal.reason);
  fill($("path"), reveal.path);
  fill($("model-title"), `Prediction of ${reveal.run_id}`);
  $("model").hidden = !reveal.run_id;
  $("no-model").hidden = Boolean(reveal.run_id);
  $("probabilities").replaceChildren(...reveal.probabilities.map(([name, value]) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    fill(head, name);
    const cell = document.createElement("td");
    const meter = document.createElement("progress");
    meter.value = value;
    meter.setAttribute("aria-hidden", "true");
    const number = document.createElement("span");
    fill(number, value.toFixed(3));
    cell.append(meter, number);
    row.append(head, cell);
    return row;
  }));
}

function showImage(id) {
  const image = $("image");
  if (image.dataset.id === id) return;
  image.dataset.id = id;
  image.hidden = false;
  loaded(false); // else the picture before it could be answered for it
  $("no-image").hidden = true;
  image.src = `image/${id}`;
  image.alt = `Image ${card.done + 1} of ${card.total}`;
  reset();
}

function loaded(is) {
  ready = is;
  $("frame").classList.toggle("loading", !is);
  for (const button of document.querySelectorAll("#classes button")) button.disabled = !is;
}

async function imageFailed() {
  const id = $("image").dataset.id;
  $("image").hidden = true;
  let text = "The image cannot be shown. Skip it.";
  try {
    const { error } = await (await fetch(`image/${id}`)).json();
    text = `${error.problem}. ${error.fix}`;
  } catch { /* the text above */ }
  fill($("no-image"), text);
  $("no-image").hidden = false;
}

function show(next) {
  const isNew = !card || card.image_id !== next.image_id || card.state !== next.state;
  card = next;
  fill($("dataset"), card.dataset);
  fill($("about"), `Queue ${card.queue}, reader ${card.reader}.`);
  fill($("progress"), `${card.done} of ${card.total} done.`);
  $("bar").value = card.total ? card.done / card.total : 1;
  document.title = `${card.done}/${card.total} Review ${card.dataset}`;
  const isOver = card.state === "finished";
  $("main").hidden = isOver;
  $("finished").hidden = !isOver;
  $("undo").disabled = $("undo-last").disabled = !card.can_undo;
  if (isOver) {
    if (isNew) $("finished-title").focus();
    return;
  }
  const before = card.reveal ? card.reveal.before : "";
  fill($("question"), card.state === "blinded" ? "What does it show?"
    : before ? "Keep your answer, or change it?" : "What does it show? (You have seen the model.)");
  $("classes").replaceChildren(...card.classes.map((name, n) => {
    const button = classButton(name, n + 1);
    if (before) button.setAttribute("aria-pressed", String(name === before));
    return button;
  }));
  $("keep").hidden = !before;
  $("skip").hidden = Boolean(before);
  $("notes").replaceChildren(...card.notes.map((text) => {
    const item = document.createElement("li");
    fill(item, text);
    return item;
  }));
  showReveal(card.reveal);
  showImage(card.image_id);
  loaded(ready);
  if (isNew) $("question").focus({ preventScroll: card.state === "blinded" });
}

function adjust(kind, factor) {
  look[kind] = Math.min(8, Math.max(1 / 8, look[kind] * factor));
  $("image").style.filter = `brightness(${look.brightness}) contrast(${look.contrast})`;
}

function reset() {
  look = { contrast: 1, brightness: 1 };
  $("image").style.filter = "";
  zoom(false);
}

function zoom(full) {
  const isFull = full ?? !$("frame").classList.contains("full");
  $("frame").classList.toggle("full", isFull);
  $("zoom").setAttribute("aria-pressed", String(isFull));
}

const KEYS = {
  s: skip, u: undo, r: reset, z: () => zoom(),
  n: () => $("note").focus(), "?": () => $("help").showModal(),
  w: () => adjust("contrast", STEP), W: () => adjust("contrast", 1 / STEP),
  l: () => adjust("brightness", STEP), L: () => adjust("brightness", 1 / STEP),
};

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open || !card) return;
  const target = event.target;
  if (target === $("note")) return;
  if (event.key === "Enter") {
    if (target.tagName === "BUTTON" || event.repeat) return;  // the button's own
    event.preventDefault();
    keep();
    return;
  }
  const action = /^[1-9]$/.test(event.key) ? () => choose(Number(event.key)) : KEYS[event.key];
  if (!action) return;
  const isLook = "wWlL".includes(event.key);
  if (event.repeat && !isLook) return;
  event.preventDefault();
  action();
}

function pressedInNote(event) {
  if (event.key === "Escape") $("question").focus();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    $("note-form").requestSubmit();
  }
}

function saveNote(event) {
  event.preventDefault();
  if ($("note").value.trim()) act("note");
  $("question").focus();
}

document.addEventListener("keydown", pressed);
$("note").addEventListener("keydown", pressedInNote);
$("note-form").addEventListener("submit", saveNote);
$("keep").addEventListener("click", keep);
$("skip").addEventListener("click", skip);
$("undo").addEventListener("click", undo);
$("undo-last").addEventListener("click", undo);
$("narrower").addEventListener("click", KEYS.w);
$("wider").addEventListener("click", KEYS.W);
$("brighter").addEventListener("click", KEYS.l);
$("darker").addEventListener("click", KEYS.L);
$("zoom").addEventListener("click", KEYS.z);
$("reset").addEventListener("click", reset);
$("help-open").addEventListener("click", KEYS["?"]);
$("help-close").addEventListener("click", () => $("help").close());
$("image").addEventListener("load", () => loaded(true));
$("image").addEventListener("error", imageFailed);
// Another window of the same reader may have gone on.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) ask("card");
});
ask("card");
