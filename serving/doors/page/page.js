// The door's page: what may be asked is what /v1/models says of each generator, a schema each; nothing here knows one by name.
const at = (id) => document.getElementById(id);
const HIDDEN = new Set(["model", "n", "size", "quality", "response_format", "output_format", "output_compression", "stream", "partial_images", "user", "background", "moderation", "seed"]); // OpenAI's words that have a control of their own, or change no image
const SETTINGS = /^(quality|deadline_ms|min_quality|dataset|num_steps|sampler|strength|height|width|(.*_)?guidance_(scale|interval)|negative_.*)$/;
const NEEDS = { mask_image: "image", strength: "image" }; // what the contract takes only beside another
const WORDS = { quality: "Tier", deadline_ms: "Deadline, ms", min_quality: "At least as good as", num_steps: "Steps", class_id: "Class" };
const SAFE_SEED = Number.MAX_SAFE_INTEGER;
const SMALL = 160; // pixels: what is smaller is shown with its pixels as squares
const MOST_BYTES = 500_000, MOST_SIDE = 1024; // of a picture that is sent as it is; a larger one is made smaller here
const KEPT = 12; // runs that stay on the page
const MANY = 12; // generators beyond which one may search

const models = new Map(); // by id, as the door lists them
const values = new Map(); // what a person has said, by the field's name
let key = "", running = null, said = "";

function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (attribute.startsWith("on")) node.addEventListener(attribute.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(attribute, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const title = (name) => WORDS[name] ?? name.replaceAll("_", " ").replace(/^./, (letter) => letter.toUpperCase());
const listed = (words) => [words.slice(0, -1).join(", "), words.at(-1)].filter(Boolean).join(" and ");
const milliseconds = (seconds) => {
  const value = 1e3 * seconds;
  return value >= 999.5 ? `${seconds.toFixed(seconds >= 9.995 ? 1 : 2)} s` : `${value.toFixed(value >= 99.5 ? 0 : 1)} ms`;
};

function tell(text) { // to who cannot see it
  said = text;
  at("said").textContent = text;
}

// --- the door ---------------------------------------------------------------------------------------------------
async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the door does not answer: it may be starting again, ask once more");
  }
  if (answer.ok) return answer;
  const found = await answer.json().catch(() => null);
  throw Object.assign(new Error(found?.error?.message ?? `the door answered ${answer.status}`), { status: answer.status });
}

async function* events(answer) { // of a stream: the JSON of each
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").find((line) => line.startsWith("data: "));
      if (data) yield JSON.parse(data.slice(6));
    }
  }
}

// --- what may be said -------------------------------------------------------------------------------------------
function kinds(schema, field) { // the ways of giving a field, null and mixtures left out
  const one = (each) => (each.anyOf ? each.anyOf.flatMap(one) : each.$ref ? one(schema.$defs[each.$ref.split("/").at(-1)]) : [each]);
  return one(field).filter((each) => each.type !== "null" && each.type !== "object");
}

function field(model, name) { // what a generator says of a field, or null where it does not take it
  const schema = model.accepts, found = schema.properties[name];
  if (!found) return null;
  const ways = kinds(schema, found);
  const picture = ways.find((each) => each.contentEncoding === "base64");
  const labels = ways.flatMap((each) => each.enum ?? (each.const === undefined ? [] : [each.const]));
  const plain = ways.find((each) => each.type !== "string") ?? ways[0];
  const usual = found.default ?? null;
  if (picture) return { way: "picture", about: found.description ?? "" };
  if (labels.length) return { way: "choice", labels, usual, number: plain.type === "integer" || plain.type === "number" ? plain : null };
  if (plain?.type === "integer" || plain?.type === "number") return { way: "number", bounds: plain, usual };
  if (plain?.type === "array") return { way: "list", about: found.description ?? "", usual, items: plain };
  return { way: "text", usual };
}

const chosen = () => [...document.querySelectorAll("#generators input:checked")].map((box) => models.get(box.value));
const most = (model, name) => Math.max(0, ...kinds(model.accepts, model.accepts.properties[name] ?? {}).map((each) => each.maximum ?? (each.const ? 1 : 0)));
const streams = (model) => kinds(model.accepts, model.accepts.properties.stream ?? {}).some((each) => each.type === "boolean" && each.const === undefined);

function fields() { // those that some of the chosen take, with who takes them and what the first says of them
  const found = new Map();
  for (const model of chosen()) {
    for (const name of Object.keys(model.accepts.properties)) {
      if (HIDDEN.has(name) && !(name === "quality" && model.tiers.length > 1)) continue;
      const seen = field(model, name);
      if (NEEDS[name] && !values.has(NEEDS[name])) continue;
      if (name === "prompt" && seen.way === "choice") continue; // its labels are a field of their own
      if (seen.way === "choice" && seen.labels.length < 2) continue;
      const known = found.get(name) ?? { ...seen, takers: [] };
      known.takers.push(model.id);
      if (seen.way === "choice" && known.labels) known.labels = [...new Set([...known.labels, ...seen.labels])];
      found.set(name, known);
    }
  }
  return found;
}

function hint(known) {
  const words = [];
  const { minimum, exclusiveMinimum, maximum } = known.bounds ?? {};
  if (maximum !== undefined) words.push(`${exclusiveMinimum !== undefined ? `above ${exclusiveMinimum}` : (minimum ?? 0)} to ${maximum}`);
  if (known.usual !== null && known.usual !== undefined && known.way === "number") words.push(`${known.usual} if left empty`);
  if (known.way === "list") words.push(expected(known));
  if (known.takers.length < chosen().length) words.push(`${listed(known.takers)} only`);
  return words.join("; ");
}

function expected({ about, items: { minItems, maxItems } }) {
  return minItems && minItems === maxItems ? `${minItems} numbers, like [${Array.from({ length: Math.min(minItems, 4) }, (_, index) => index).join(", ")}]` : `JSON: ${about}`;
}

const INPUTS = {
  choice(name, known) {
    const first = known.usual !== null ? `${known.usual} (its own)` : SETTINGS.test(name) ? "any" : "in turn, by the seed";
    return make("select", { onchange: (event) => keep(name, event.target.value) },
      make("option", { value: "" }, first),
      known.labels.filter((label) => label !== "").map((label) => make("option", { value: label, selected: values.get(name) === String(label) }, String(label))));
  },
  number(name, known) {
    const { minimum, exclusiveMinimum, maximum, multipleOf, type } = known.bounds;
    return make("input", {
      type: "number", min: minimum ?? exclusiveMinimum, max: maximum, step: type === "integer" ? (multipleOf ?? 1) : "any", inputmode: type === "integer" ? "numeric" : "decimal",
      placeholder: known.usual ?? "", value: values.get(name) ?? "", oninput: (event) => keep(name, event.target.value),
    });
  },
  text(name) {
    const node = make("textarea", { rows: 2, spellcheck: "true", maxlength: 4000, oninput: (event) => keep(name, event.target.value) });
    node.value = values.get(name) ?? "";
    return node;
  },
  list(name) {
    const node = make("textarea", { rows: 2, spellcheck: "false", class: "code", oninput: (event) => keep(name, event.target.value) });
    node.value = values.get(name) ?? "";
    return node;
  },
  picture(name) {
    return make("input", { type: "file", accept: "image/png,image/jpeg,image/webp", onchange: (event) => read(name, event.target.files[0]) });
  },
};

function keep(name, value) {
  if (value === "" || value === null) values.delete(name);
  else values.set(name, value);
}

function show() { // the fields of what is chosen, anew
  const focused = document.activeElement?.id;
  const rows = { wishes: [], settings: [] };
  for (const [name, known] of fields()) {
    const input = INPUTS[known.way](name, known), note = hint(known), id = `field-${name}`;
    input.id = id;
    if (note) input.setAttribute("aria-describedby", `${id}-note`);
    const given = known.way === "picture" && values.get(name);
    rows[SETTINGS.test(name) ? "settings" : "wishes"].push(make("div", { class: `field ${known.way}` },
      make("label", { for: id }, title(name)),
      given ? make("div", { class: "row given" }, make("img", { src: given, alt: `What was given as ${title(name).toLowerCase()}` }), make("button", { type: "button", onclick: () => { values.delete(name); show(); at(id).focus(); } }, `Take ${title(name).toLowerCase()} away`)) : null,
      input,
      note ? make("p", { class: "note", id: `${id}-note` }, note) : null));
  }
  at("wishes").replaceChildren(...rows.wishes);
  at("settings").replaceChildren(...rows.settings);
  at("watching").hidden = !chosen().some((model) => most(model, "partial_images"));
  at("more").hidden = !rows.settings.length && at("watching").hidden;
  at("count").max = Math.max(1, ...chosen().map((model) => most(model, "n")));
  at("empty").hidden = at("made").childElementCount > 1;
  if (focused && !document.activeElement?.id) at(focused)?.focus();
}

async function read(name, file) { // a picture as a data URL, made smaller where it is far larger than any generator needs
  if (!file) return;
  at("wrong").textContent = "";
  try {
    values.set(name, file.size > MOST_BYTES ? await smaller(file) : await dataOf(file));
  } catch {
    at("wrong").textContent = `${file.name} is no picture that can be read: choose a PNG, a JPEG or a WebP`;
  }
  show();
}

const dataOf = (file) => new Promise((done, failed) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result);
  reader.onerror = failed;
  reader.readAsDataURL(file);
});

async function smaller(file) {
  const bitmap = await createImageBitmap(file), share = Math.min(1, MOST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = make("canvas", { width: Math.round(bitmap.width * share), height: Math.round(bitmap.height * share) });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.92);
}

function wish(model, seed, count) { // the request for a generator: what it takes of what was said. Raises a sentence
  const body = { model: model.id, seed };
  if (count > 1) body.n = Math.min(count, most(model, "n") || count);
  for (const [name, known] of fields()) {
    const value = values.get(name);
    if (value === undefined || !known.takers.includes(model.id)) continue;
    if (known.way === "list") {
      try { body[name] = JSON.parse(value); } catch { throw new Error(`${title(name)} is no JSON: expected ${expected(known)}`); }
    } else if (known.way === "number") body[name] = Number(value);
    else if (known.way === "choice" && known.labels.every((label) => typeof label === "number")) body[name] = Number(value);
    else body[name] = value;
  }
  if (streams(model)) {
    body.stream = true;
    const previews = most(model, "partial_images");
    if (previews && at("watch").checked) body.partial_images = previews;
  }
  return body;
}

// --- what was made ----------------------------------------------------------------------------------------------
function card(model, seeds, about) { // of a generator in a run
  const [width, height] = (model.size || "1x1").split("x").map(Number);
  const pictures = new Map(seeds.map((seed) => [seed, make("figure", { class: "waiting" }, make("img", { alt: "", width: width || 1, height: height || 1, hidden: true }))]));
  const time = make("p", { class: "time" }, "…"), facts = make("p", { class: "facts" }, "waiting"), more = make("dl");
  const node = make("article", { "aria-label": model.id, "aria-busy": "true" },
    make("h3", {}, model.id),
    make("div", { class: `pictures${seeds.length > 1 ? " several" : ""}` }, ...pictures.values()),
    make("div", { class: "told" }, time, facts));
  return {
    node,
    picture(found, preview) {
      const figure = pictures.get(found.seed) ?? [...pictures.values()].find((each) => each.classList.contains("waiting"));
      const image = figure.querySelector("img");
      const [across, down] = found.size.split("x").map(Number);
      figure.classList.toggle("waiting", preview !== null);
      figure.classList.toggle("pixels", Math.max(across, down) <= SMALL);
      Object.assign(image, { src: `data:image/${found.output_format};base64,${found.b64_json}`, width: across, height: down, hidden: false, alt: `${about} by ${model.id}, seed ${found.seed}${preview === null ? "" : `, preview ${preview + 1}`}` });
      if (preview !== null) facts.textContent = `preview ${preview + 1}`;
      else figure.append(make("div", { class: "tools" },
        make("a", { href: image.src, download: `${model.id}-${found.seed}.${found.output_format}`, "aria-label": `Save the image of seed ${found.seed} by ${model.id}` }, seeds.length > 1 ? `${found.seed}` : "Save"),
        at("field-image") && seeds.length === 1 ? make("button", { type: "button", "aria-label": `Begin with it, the image of seed ${found.seed} by ${model.id}`, onclick: () => { values.set("image", image.src); show(); at("field-image").focus(); } }, "Begin with it") : null));
    },
    done(made, roundTrip) {
      node.setAttribute("aria-busy", "false");
      time.textContent = milliseconds(made.seconds);
      facts.textContent = `${made.tier} · ${made.calls.toLocaleString("en-US", { maximumFractionDigits: 1 })} ${made.calls === 1 ? "call" : "calls"}${made.chosen ? ` · ${made.chosen}` : ""}`;
      const rows = [["Weights", made.digest.slice(0, 16)], ["Tier", made.tier], ["At the door", milliseconds(made.seconds)], ["Seen here", milliseconds(roundTrip)], ["Why", made.why]];
      more.replaceChildren(...rows.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
      node.append(make("details", {}, make("summary", {}, "Facts"), more));
      tell(`${model.id}: made in ${milliseconds(made.seconds)}`);
    },
    slower(share) {
      time.append(make("small", {}, ` ${share.toFixed(share < 9.95 ? 1 : 0)} ×`));
      time.title = "Times as long as the quickest of these";
    },
    failed(sentence, stopped) {
      node.setAttribute("aria-busy", "false");
      time.textContent = "";
      for (const figure of pictures.values()) if (figure.classList.contains("waiting")) figure.classList.add("none");
      facts.replaceWith(make("p", { class: stopped ? "facts" : "error" }, sentence));
      if (!stopped) tell(`${model.id}: ${sentence}`);
    },
  };
}

async function run(model, body, shown, signal) { // seconds at the door, or null
  const began = performance.now();
  let made = null;
  try {
    const answer = await ask("v1/images/generations", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal });
    if (body.stream) {
      for await (const event of events(answer)) {
        if (event.error) throw new Error(event.error.message);
        const preview = event.type.endsWith(".partial_image") ? event.partial_image_index : null;
        shown.picture(event, preview);
        if (preview === null) made = { ...event.generator, calls: event.generator.calls + (made?.calls ?? 0), seconds: Math.max(event.generator.seconds, made?.seconds ?? 0) };
      }
    } else {
      const found = await answer.json();
      for (const each of found.data) shown.picture({ ...each, size: found.size, output_format: found.output_format }, null);
      made = found.generator;
    }
    if (!made) throw new Error("the door ended before the images were there: ask once more");
    shown.done(made, (performance.now() - began) / 1e3);
    return made.seconds;
  } catch (error) {
    shown.failed(signal.aborted ? "stopped" : error.message, signal.aborted);
    if (error.status === 401) lock(error.message);
    return null;
  }
}

async function start(event) {
  event.preventDefault();
  at("wrong").textContent = "";
  const wanted = chosen(), seed = Number(at("seed").value), count = Number(at("count").value);
  if (!wanted.length) { at("wrong").textContent = "Choose a generator first."; return; }
  let bodies;
  try { bodies = wanted.map((model) => wish(model, seed, count)); } catch (error) { at("wrong").textContent = error.message; return; }
  running?.abort();
  const mine = (running = new AbortController());
  const words = [...fields()].filter(([name, known]) => values.has(name) && ["choice", "text", "number"].includes(known.way) && !SETTINGS.test(name)).map(([name, known]) => (known.way === "number" ? `${title(name)} ${values.get(name)}` : values.get(name)));
  const about = words.join(", ") || "An image";
  const cards = wanted.map((model, index) => card(model, Array.from({ length: bodies[index].n ?? 1 }, (_, next) => seed + next), about));
  at("made").prepend(make("section", { class: "run" },
    make("h2", {}, words.length ? about : `Seed ${seed}`, make("small", {}, `${words.length ? `seed ${seed}` : ""}${count > 1 ? ` to ${seed + count - 1}` : ""}`)),
    make("div", { class: "cards" }, cards.map((each) => each.node))));
  for (const old of [...at("made").querySelectorAll(".run")].slice(KEPT)) old.remove();
  at("empty").hidden = at("stop").disabled = true;
  at("stop").hidden = at("stop").disabled = false;
  remember(wanted, seed, count);
  if (matchMedia("(max-width: 56rem)").matches) at("made").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  const seconds = await Promise.all(wanted.map((model, index) => run(model, bodies[index], cards[index], mine.signal)));
  const quickest = Math.min(...seconds.filter((each) => each !== null));
  if (seconds.filter((each) => each !== null).length > 1) seconds.forEach((each, index) => { if (each !== null && each > quickest) cards[index].slower(each / quickest); });
  if (running === mine) { running = null; at("stop").hidden = true; }
}

// --- the page ---------------------------------------------------------------------------------------------------
function remember(wanted, seed, count) { // in the address, after a # that no server sees: who is sent it asks the same
  const words = new URLSearchParams(wanted.map((model) => ["model", model.id]));
  words.set("seed", seed);
  if (count > 1) words.set("n", count);
  for (const [name, value] of values) if (!value.startsWith("data:")) words.set(name, value);
  history.replaceState(null, "", `#${words}`);
}

function recall() {
  const words = new URLSearchParams(location.hash.slice(1));
  const wanted = words.getAll("model").filter((name) => models.has(name));
  for (const [name, value] of words) {
    if (name === "seed") at("seed").value = value;
    else if (name === "n") at("count").value = value;
    else if (name !== "model") values.set(name, value);
  }
  return wanted.length ? wanted : [...models.keys()].filter((name) => models.get(name).digest || models.size === 1).slice(0, 3);
}

function choices(wanted) {
  at("generators").replaceChildren(...[...models.values()].map((model) => {
    const id = `model-${model.id}`;
    return make("div", { class: "model", "data-words": `${model.id} ${model.description} ${model.dataset}`.toLowerCase() },
      make("input", { type: "checkbox", id, value: model.id, checked: wanted.includes(model.id), onchange: show, "aria-describedby": `${id}-note` }),
      make("label", { for: id }, model.id),
      make("span", { class: "note", id: `${id}-note`, title: model.description }, [model.size.replace("x", " × "), model.dataset.replaceAll("_", " ")].filter(Boolean).join(" · ")));
  }));
  document.querySelector(".model :checked")?.scrollIntoView({ block: "nearest" });
  document.querySelector(".find").hidden = models.size <= MANY;
}

function lock(sentence = "") {
  at("locked").hidden = false;
  at("key-error").textContent = key ? sentence : "";
  at("key").focus();
}

async function open() {
  try {
    const found = await (await ask("v1/models")).json();
    models.clear();
    for (const model of found.data) models.set(model.id, model);
  } catch (error) {
    if (error.status === 401) lock(error.message);
    else { at("empty").hidden = false; at("empty").textContent = `${error.message}.`; setTimeout(open, 2000); }
    return;
  }
  at("locked").hidden = true;
  at("ask").hidden = false;
  at("empty").textContent = "Choose one or more generators, and make images.";
  choices(recall());
  show();
}

at("locked").addEventListener("submit", (event) => { event.preventDefault(); key = at("key").value.trim(); at("key").value = ""; open(); });
at("ask").addEventListener("submit", start);
at("stop").addEventListener("click", () => { running?.abort(); at("make").focus(); });
at("dice").addEventListener("click", () => { at("seed").value = crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000; tell(`seed ${at("seed").value}`); });
at("find").addEventListener("input", () => {
  const word = at("find").value.toLowerCase();
  for (const each of document.querySelectorAll(".model")) each.hidden = !each.dataset.words.includes(word) && !each.querySelector("input").checked;
});
at("ask").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("ask").requestSubmit(); });
at("theme").addEventListener("click", () => {
  const themes = ["system", "light", "dark"], next = themes[(themes.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % 3];
  document.documentElement.dataset.theme = next;
  at("theme").textContent = `Theme: ${next}`;
});
await open();
