"use strict";

const $ = (id) => document.getElementById(id);
// Requests at a time; the server batches what comes together.
const TOGETHER = 4;
const MOST_TRIES = 8;
// Field of a request, and part of the page, for each kind of examples.
const PLACES = { image: "images", audio: "clips", text: "texts" };
let models = [];
let limits = {};
let token = sessionStorage.getItem("keras-tl-token") || "";
const waiting = [];
let running = 0;

const current = () => models.find((one) => one.name === $("model").value) || models[0];
const percent = (value) => `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;
const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));
// Results are on their cards; of a screen reader's user each is said as well.
const say = (text, seen = false) => {
  $("status").textContent = text;
  $("status").classList.toggle("unseen", !seen);
};

// Ask the server; where it is full, try again when it says.
async function ask(path, form) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  for (let tries = 1; ; tries += 1) {
    let response;
    try {
      response = await fetch(path, form ? { method: "POST", body: form, headers } : { headers });
    } catch {
      throw new Error("The server cannot be reached.");
    }
    if (response.status === 429 && tries < MOST_TRIES) {
      await pause(Number(response.headers.get("Retry-After")) || 1);
      continue;
    }
    let content = {};
    try { content = await response.json(); } catch { /* An error without a sentence. */ }
    if (response.status === 401) {
      lock();
      if (token) content.error = "This is not the server's token.";
    }
    if (!response.ok) throw new Error(content.error || `Error ${response.status}.`);
    return content;
  }
}

function lock() {
  $("unlock").hidden = false;
  for (const id of Object.values(PLACES)) $(id).hidden = true;
  $("token").focus();
}

async function start() {
  try {
    ({ models, limits } = await ask("v1/models"));
  } catch (error) {
    if ($("unlock").hidden || token) say(error.message, true);
    return;
  }
  $("unlock").hidden = true;
  say("");
  const names = models.map((one) => new Option(one.name, one.name));
  $("model").replaceChildren(...names);
  $("choice").hidden = models.length < 2;
  show();
}

function show() {
  const model = current();
  const names = model.class_names;
  const many = names.length > 12;
  const shown = many ? names.slice(0, 12) : names;
  const more = many ? ` and ${names.length - 12} more` : "";
  const does = { softmax: "Tells apart", sigmoid: "Finds", linear: "Predicts" };
  document.title = $("title").textContent = model.name;
  $("about").textContent = `${does[model.activation]}: ${shown.join(", ")}${more}.`;
  for (const [kind, id] of Object.entries(PLACES)) $(id).hidden = model.kind !== kind;
}

function addFiles(files) {
  if ($("images").hidden && $("clips").hidden) return;
  for (const file of files) add(file, file.name || "pasted image");
}

function add(input, name) {
  const model = current();
  const card = $("card").content.firstElementChild.cloneNode(true);
  card.classList.add("waiting");
  card.find = (selector) => card.querySelector(selector);
  card.find(".name").textContent = name;
  if (model.kind === "image") {
    const url = URL.createObjectURL(input);
    const image = card.find(".seen");
    image.alt = name;
    // What the browser cannot show, the server may be able to read.
    image.onerror = () => { card.find(".view").hidden = true; card.classList.remove("pictured"); };
    image.onload = () => URL.revokeObjectURL(url);
    image.src = url;
    card.find(".view").hidden = false;
    card.find(".view").classList.add(model.resize);
    card.classList.add("pictured");
  }
  $("results").prepend(card);
  waiting.push({ model, input, name, card });
  work();
}

function work() {
  while (running < TOGETHER && waiting.length) {
    running += 1;
    predict(waiting.shift()).finally(() => { running -= 1; work(); });
  }
  const left = running + waiting.length;
  $("left").textContent = left > 1 ? `${left} left …` : "";
}

function formOf({ model, input }) {
  const form = new FormData();
  form.append("model", model.name);
  form.append(PLACES[model.kind], input);
  return form;
}

async function predict(one) {
  const { model, card, name } = one;
  const form = formOf(one);
  form.append("top", "5");
  form.append("heat_map", String(model.kind === "image"));
  form.append("nearest", model.has_examples ? "4" : "0");
  let result;
  try {
    if (model.kind !== "text" && one.input.size > limits.bytes - 2000) {
      throw new Error(`A file has at most ${Math.floor(limits.bytes / 1e6)} MB.`);
    }
    [{ results: [result] }] = (await ask("v1/predict", form)).answers;
    if (result.error) throw new Error(result.error);
  } catch (error) {
    card.classList.remove("waiting");
    card.find(".answer").textContent = "Not predicted";
    note(card, error.message);
    say(`${name}: not predicted. ${error.message}`);
    return;
  }
  card.classList.remove("waiting");
  const words = answerOf(model, result);
  card.find(".answer").textContent = words;
  const notes = notesOf(result);
  if (notes) note(card, notes);
  bars(card, model, result);
  heat(card, result.heat_map);
  near(card, result.nearest);
  correction(one, result);
  say([`${name}: ${words}${likelihood(model, result)}.`, notes].filter(Boolean).join(" "));
}

function answerOf(model, { answer, is_sure: isSure, values }) {
  if (model.activation === "linear") {
    return values.map(({ name, value }) => `${name} ${number(value)}`).join(", ");
  }
  // It is null where the run has no rule for abstaining.
  if (isSure === false) return "Not sure";
  if (Array.isArray(answer)) return answer.join(", ") || "None of them";
  return answer;
}

const number = (value) => String(Number(value.toPrecision(4)));

function likelihood(model, { is_sure: isSure, values }) {
  if (model.activation !== "softmax" || !values.length) return "";
  const { name, probability } = values[0];
  const likely = percent(probability);
  return isSure === false ? `; ${name} at ${likely}` : `, ${likely}`;
}

function notesOf({ is_sure: isSure, unlike }) {
  const notes = [];
  if (isSure === false) notes.push("No answer is likely enough.");
  if (unlike > 1) notes.push("Unlike the training examples: do not rely on it.");
  return notes.join(" ");
}

function note(card, text) {
  card.find(".note").textContent = text;
  card.find(".note").hidden = false;
}

function bars(card, model, { values }) {
  if (model.activation === "linear") return;
  for (const { name, probability } of values) {
    const row = document.createElement("li");
    const bar = document.createElement("div");
    bar.className = "bar";
    bar.style.width = `${100 * probability}%`;
    const label = document.createElement("span");
    label.textContent = name;
    const value = document.createElement("span");
    value.className = "value";
    value.textContent = percent(probability);
    row.append(bar, label, value);
    card.find(".bars").append(row);
  }
}

// Draw a heat map with a pixel for each place; the browser enlarges it smoothly.
function heat(card, map) {
  if (!map) return;
  const canvas = card.find(".heat");
  canvas.width = map[0].length;
  canvas.height = map.length;
  const pixels = new ImageData(canvas.width, canvas.height);
  map.flat().forEach((value, place) => {
    // Dark where it did not look, clear where it did.
    pixels.data.set([12, 14, 20, 225 * (1 - value)], 4 * place);
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  const look = card.find(".look");
  look.hidden = false;
  look.firstElementChild.onchange = (event) => { canvas.hidden = !event.target.checked; };
}

function near(card, examples) {
  if (!examples || !examples.length) return;
  card.find(".near").hidden = false;
  for (const { name, label, jpeg } of examples) {
    const row = document.createElement("li");
    if (jpeg) {
      const image = document.createElement("img");
      image.src = `data:image/jpeg;base64,${jpeg}`;
      image.alt = name;
      row.append(image, label);
      row.title = name;
    } else {
      card.find(".examples").classList.add("words");
      row.append(`${label}: ${name}`);
    }
    card.find(".examples").append(row);
  }
}

// Offer the labels that the example can have, and send the one that is right.
function correction(one, result) {
  const { model, card, name } = one;
  const box = card.find(".wrong");
  box.hidden = false;
  const labels = card.find(".labels");
  const likely = result.values.length ? result.values[0].name : "";
  if (model.activation === "softmax") {
    const choice = document.createElement("select");
    choice.setAttribute("aria-label", `Right label of ${name}`);
    choice.append(...model.class_names.map((c) => new Option(c, c, false, c === likely)));
    labels.append(choice);
  } else {
    for (const label of model.class_names) {
      const field = document.createElement("label");
      const input = document.createElement("input");
      const several = model.activation === "sigmoid";
      input.type = several ? "checkbox" : "number";
      input.value = label;
      if (several) {
        input.checked = (result.answer || []).includes(label);
        field.append(input, ` ${label}`);
      } else {
        input.step = "any";
        input.required = true;
        input.value = number(result.values.find((v) => v.name === label).value);
        field.append(`${label} `, input);
      }
      labels.append(field);
    }
  }
  box.querySelector("form").onsubmit = async (event) => {
    event.preventDefault();
    const form = formOf(one);
    const chosen = [...labels.querySelectorAll("select, input")]
      .filter((field) => field.type !== "checkbox" || field.checked)
      .map((field) => field.value);
    chosen.forEach((value) => form.append("label", value));
    const button = box.querySelector("button");
    button.disabled = true;
    try {
      const { kept } = await ask("v1/correct", form);
      const total = kept === 1 ? "1 correction" : `${kept} corrections`;
      card.find(".kept").textContent = `Kept as ${chosen.join(", ")}. ${total} so far.`;
    } catch (error) {
      card.find(".kept").textContent = `Not kept. ${error.message}`;
    }
    button.disabled = false;
  };
}

for (const id of ["files", "camera", "sounds"]) {
  $(id).addEventListener("change", (event) => {
    addFiles(event.target.files);
    // So that the same file can be chosen again.
    event.target.value = "";
  });
}
function over(isOver) {
  for (const id of ["images", "clips"]) $(id).classList.toggle("over", isOver);
}
// The whole page takes what is dropped: else a browser leaves it and opens the file.
addEventListener("dragover", (event) => {
  event.preventDefault();
  over(true);
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) over(false);
});
addEventListener("drop", (event) => {
  event.preventDefault();
  over(false);
  addFiles(event.dataTransfer.files);
});
addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) addFiles(event.clipboardData.files);
});
$("texts").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  add(text, text.length > 300 ? `${text.slice(0, 300)} …` : text);
  $("text").select();
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    $("texts").requestSubmit();
  }
});
$("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value;
  sessionStorage.setItem("keras-tl-token", token);
  start();
});
$("model").addEventListener("change", show);
// A camera is at hand where fingers point.
$("photo").hidden = $("camera").hidden = !navigator.maxTouchPoints;
start();
