"use strict";
// `node door.cjs URL FOLDER [KEY]`: uses a door's page in Chromium as a person would, by mouse and by keys alone, in light
// and dark, on a desktop and on a phone; asks axe-core what is wrong with it. Prints what was found as JSON.
const fs = require("fs");
const os = require("os");
const path = require("path");
const { chromium } = require("playwright-core");

const [url, folder, key] = process.argv.slice(2);
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const SIZES = { desktop: [1280, 900], phone: [350, 740] };
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

async function judge(tab) { // axe's own code is evaluated from outside, where the page's policy does not reach
  await tab.evaluate(axe);
  const found = await tab.evaluate((rules) => window.axe.run(document, { runOnly: rules }), RULES);
  return found.violations.map((each) => `${each.id}: ${each.nodes.map((node) => node.target.join(" ")).slice(0, 3).join(", ")}`);
}

async function shoot(tab, name) {
  if (folder) await tab.screenshot({ path: path.join(folder, `${name}.png`), fullPage: true });
}

const settled = (tab) => tab.waitForFunction(() => document.querySelector("article") && !document.querySelector('[aria-busy="true"]') && document.querySelector("#stop").hidden);

const cards = (tab) => tab.$$eval(".run:first-child article", (all) => all.map((each) => ({
  name: each.getAttribute("aria-label"),
  time: each.querySelector(".time").innerText,
  facts: each.querySelector(".facts")?.innerText ?? "",
  error: each.querySelector(".error")?.innerText ?? "",
  images: [...each.querySelectorAll("img")].filter((image) => !image.hidden).map((image) => ({ alt: image.alt, src: image.src, width: image.naturalWidth })),
})));

async function enter(tab, found) { // a key that is unknown, then the right one
  await tab.waitForSelector("#locked:not([hidden])");
  found.locked = await judge(tab);
  await shoot(tab, "locked");
  await tab.fill("#key", "a-key-that-is-unknown");
  await tab.keyboard.press("Enter");
  await tab.waitForFunction(() => document.querySelector("#key-error").textContent);
  found.refused = await tab.innerText("#key-error");
  await tab.fill("#key", key);
  await tab.keyboard.press("Enter");
}

async function use(tab, found) { // the page's whole way, by a mouse
  const hooked = await tab.evaluateHandle(() => {
    const seen = [];
    new MutationObserver(() => { const text = document.querySelector("#said").textContent; if (text !== seen.at(-1)) seen.push(text); }).observe(document.querySelector("#said"), { childList: true });
    return seen;
  });
  const labels = () => tab.$$eval("#wishes .field > label, #settings .field > label", (all) => all.map((each) => each.textContent));
  found.fields = await labels();
  found.notes = await tab.$$eval(".field .note", (all) => all.map((each) => each.textContent));
  await tab.fill("#seed", "7");
  await tab.fill("#count", "2");
  await tab.selectOption("#field-class_id", { index: 1 }).catch(() => tab.fill("#field-class_id", "1"));
  await tab.click("#make");
  await settled(tab);
  found.made = await cards(tab);
  found.title = await tab.innerText(".run:first-child h2");
  found.address = await tab.evaluate(() => location.hash);
  found.said = await hooked.jsonValue();
  await tab.fill("#seed", "8");
  await tab.fill("#count", "1");
  await tab.click("#make");
  await settled(tab);
  found.next = await cards(tab);
  found.runs = await tab.$$eval(".run", (all) => all.length);
  await tab.$$eval("details", (all) => all.forEach((each) => { each.open = true; }));
  found.steps = await tab.$("#field-num_steps") !== null;
  if (found.steps) { // what one generator refuses is its sentence, and the others' images are there
    await tab.evaluate(() => { document.querySelector("#ask").noValidate = true; });
    await tab.fill("#field-num_steps", "2000");
    await tab.click("#make");
    await settled(tab);
    found.failed = await cards(tab);
    await tab.fill("#field-num_steps", "");
  }
  found.picture = await tab.$("#field-image") !== null;
  if (found.picture) { // what was made is what the next begins with
    await tab.click('.run:nth-of-type(2) button[aria-label^="Begin with"]');
    found.given = await tab.$$eval(".given img", (all) => all.length);
    found.more = await labels();
    await tab.click("#make");
    await settled(tab);
    found.edited = await cards(tab);
    await tab.click(".given button");
  }
}

async function watch(tab, found) { // a long request: its previews, and that it can be stopped
  await tab.evaluate(() => {
    window.seen = [];
    new MutationObserver(() => { for (const image of document.querySelectorAll(".waiting img:not([hidden])")) if (!window.seen.includes(image.alt)) window.seen.push(image.alt); }).observe(document.querySelector("#made"), { subtree: true, childList: true, attributes: true });
  });
  const steps = await tab.$("#field-num_steps");
  if (!steps) return;
  await tab.$$eval("#more", (all) => all.forEach((each) => { each.open = true; }));
  await tab.fill("#field-num_steps", "1000");
  for (let turn = 0; turn < 10 && !(await tab.evaluate(() => window.seen.length)); turn += 1) {
    await tab.click("#make");
    await settled(tab);
  }
  found.previews = await tab.evaluate(() => window.seen);
  await tab.fill("#count", "10");
  await tab.click("#make");
  await tab.click("#stop");
  await settled(tab);
  found.stopped = await cards(tab);
  await tab.fill("#count", "1");
  await tab.fill("#field-num_steps", "");
}

async function byKeys(tab, found) { // from the top of the page to an image, by Tab, Space, arrows and Enter
  await tab.evaluate(() => { const top = document.querySelector("h1"); top.tabIndex = -1; top.focus(); });
  found.order = [];
  for (let index = 0; index < 60; index += 1) {
    await tab.keyboard.press("Tab");
    const here = await tab.evaluate(() => { const { id, tagName } = document.activeElement; const box = document.activeElement.getBoundingClientRect(); return { id: id || tagName, seen: box.width > 0 && getComputedStyle(document.activeElement).outlineStyle !== "none" }; });
    found.order.push(here);
    if (here.id === "make") break;
  }
  const before = await tab.$$eval(".run", (all) => all.length);
  await tab.keyboard.press("Enter");
  await tab.waitForFunction((count) => document.querySelectorAll(".run").length > count, before);
  await settled(tab);
  found.byKeys = await cards(tab);
}

(async () => {
  const all = {};
  for (const [size, [width, height]] of Object.entries(SIZES)) {
    for (const colorScheme of ["light", "dark"]) {
      const found = { errors: [], requests: [] };
      const profile = fs.mkdtempSync(path.join(os.tmpdir(), "genzoo-chromium-"));
      const context = await chromium.launchPersistentContext(profile, { executablePath: process.env.CHROMIUM, args: FLAGS, viewport: { width, height }, colorScheme, hasTouch: size === "phone", reducedMotion: "reduce" });
      try {
        const tab = await context.newPage();
        tab.on("pageerror", (error) => found.errors.push(error.message));
        tab.on("console", (message) => { if (["error", "warning"].includes(message.type()) && !/status of 40[01]/.test(message.text())) found.errors.push(message.text()); });
        tab.on("request", (request) => { if (!request.url().startsWith(url) && !request.url().startsWith("data:")) found.requests.push(request.url()); });
        const answer = await tab.goto(url);
        found.policy = (await answer.allHeaders())["content-security-policy"];
        if (key) await enter(tab, found);
        await tab.waitForSelector("#ask:not([hidden])");
        found.violations = await judge(tab);
        if (size === "desktop" && colorScheme === "light") {
          await use(tab, found);
          await watch(tab, found);
          await byKeys(tab, found);
        } else {
          await tab.fill("#count", "2");
          await tab.click("#make");
          await settled(tab);
          await tab.fill("#count", "1");
          await tab.click("#make");
          await settled(tab);
        }
        await tab.$$eval("#more", (every) => every.forEach((each) => { each.open = true; }));
        found.after = await judge(tab);
        found.width = await tab.evaluate(() => document.documentElement.scrollWidth);
        found.small = await tab.$$eval("button, a[href], select, summary, input:not([type=checkbox])", (every) => every.filter((each) => each.offsetParent && !each.classList.contains("skip")).map((each) => ({ name: each.id || each.textContent, size: Math.min(each.offsetWidth, each.offsetHeight) })).filter((each) => each.size < 24));
        found.theme = await tab.evaluate(() => getComputedStyle(document.body).backgroundColor);
        found.kept = await tab.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie, document.documentElement.innerHTML.includes("has-a-long-key")]);
        await shoot(tab, `${size}-${colorScheme}`);
      } finally {
        await context.close();
        fs.rmSync(profile, { recursive: true, force: true });
      }
      all[`${size}-${colorScheme}`] = found;
    }
  }
  process.stdout.write(JSON.stringify(all));
})();
