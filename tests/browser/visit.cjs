"use strict";
// `node visit.cjs PAGE.html FOLDER`: opens a report in Chromium without a network, in light and dark, on a desktop and on
// a phone; asks axe-core what is wrong with it; sorts, filters, goes to a point by keys. Prints what was found as JSON.
const fs = require("fs");
const os = require("os");
const path = require("path");
const { chromium } = require("playwright-core");

const [page, folder] = process.argv.slice(2);
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const SIZES = { desktop: [1280, 900], phone: [350, 740] };
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

async function open(context, found) {
  const tab = await context.newPage();
  tab.on("pageerror", (error) => found.errors.push(error.message));
  tab.on("console", (message) => { if (["error", "warning"].includes(message.type())) found.errors.push(message.text()); });
  tab.on("request", (request) => { if (!/^(file|data):/.test(request.url())) found.requests.push(request.url()); });
  await tab.goto(`file://${page}`);
  return tab;
}

async function judge(tab) { // axe's own code is evaluated from outside, where the page's policy does not reach
  await tab.evaluate(axe);
  const found = await tab.evaluate((rules) => window.axe.run(document, { runOnly: rules }), RULES);
  return found.violations.map((each) => `${each.id}: ${each.nodes.map((node) => node.target.join(" ")).slice(0, 3).join(", ")}`);
}

async function use(tab, found) {
  const column = (index) => tab.$$eval(`#rows tbody tr > :nth-child(${index})`, (cells) => cells.map((cell) => cell.firstChild?.textContent ?? ""));
  const head = await tab.$$eval("#rows thead th", (cells) => cells.map((cell) => cell.textContent));
  const place = (name) => head.indexOf(name) + 1;
  found.head = head;
  const sort = async (name) => {
    await tab.click(`#rows thead th:nth-child(${place(name)}) button`);
    return { order: await tab.$eval(`#rows thead th:nth-child(${place(name)})`, (cell) => cell.ariaSort ?? cell.getAttribute("aria-sort")), names: await column(place("system")), values: await column(place(name)) };
  };
  const named = await column(place("system")), prices = await column(place("price of 1,000"));
  found.prices = Object.fromEntries(named.map((name, index) => [name, prices[index]]));
  found.sorted = [await sort("calls"), await sort("calls")];
  const press = (index) => tab.click(`#families button:nth-of-type(${index})`);
  found.before = (await column(place("system"))).length;
  await press(1);
  found.hidden = { pressed: await tab.getAttribute("#families button:nth-of-type(1)", "aria-pressed"), rows: await column(place("system")), points: await tab.$$eval('#plot [role="option"]', (all) => all.map((each) => each.getAttribute("aria-label"))) };
  await press(1);
  await tab.fill("#search", "gan");
  found.searched = await column(place("system"));
  await tab.fill("#search", "");
  await tab.selectOption("#choose-measure", { index: 1 });
  found.measured = await tab.$eval('#plot [role="listbox"]', (list) => list.parentElement.getAttribute("aria-label"));
  await tab.selectOption("#choose-measure", { index: 0 });
  for (let index = 0; index < 200; index += 1) { // by Tab alone, from the top of the page
    if (index === 0) await tab.evaluate(() => { document.activeElement?.blur(); window.scrollTo(0, 0); });
    await tab.keyboard.press("Tab");
    if (await tab.evaluate(() => document.activeElement.getAttribute("role") === "option")) break;
  }
  const reached = () => tab.evaluate(() => ({ role: document.activeElement.getAttribute("role"), label: document.activeElement.getAttribute("aria-label"), selected: document.activeElement.getAttribute("aria-selected"), tip: document.getElementById("tip").innerText, detail: document.getElementById("detail").innerText }));
  await tab.keyboard.press("Home");
  found.first = await reached();
  await tab.keyboard.press("ArrowRight");
  found.second = await reached();
  await tab.keyboard.press("End");
  found.last = await reached();
  await tab.click("#theme");
  await tab.click("#theme");
  found.theme = await tab.evaluate(() => [document.documentElement.dataset.theme, getComputedStyle(document.body).backgroundColor]);
}

async function touch(tab) { // a tap beside a point, as a finger would
  const target = await tab.$eval('#plot [role="option"]:last-child', (node) => { node.scrollIntoView({ block: "center" }); const box = node.getBoundingClientRect(); return { x: box.x + box.width / 2 + 6, y: box.y + box.height / 2 + 6, label: node.getAttribute("aria-label") }; });
  await tab.touchscreen.tap(target.x, target.y);
  return { wanted: target.label, tip: await tab.$eval("#tip", (box) => (box.hidden ? "" : box.innerText)), detail: await tab.$eval("#detail h3", (each) => each.innerText) };
}

(async () => {
  const all = {};
  for (const [size, [width, height]] of Object.entries(SIZES)) {
    for (const colorScheme of ["light", "dark"]) {
      const found = { errors: [], requests: [] };
      const profile = fs.mkdtempSync(path.join(os.tmpdir(), "genzoo-chromium-"));
      const context = await chromium.launchPersistentContext(profile, {
        executablePath: process.env.CHROMIUM, args: FLAGS, viewport: { width, height }, colorScheme, offline: true, hasTouch: size === "phone",
      });
      try {
        const tab = await open(context, found);
        found.violations = await judge(tab);
        found.width = await tab.evaluate(() => document.documentElement.scrollWidth);
        await tab.evaluate(() => { for (const each of document.querySelectorAll("details")) each.open = true; });
        found.unfolded = await judge(tab);
        found.unfoldedWidth = await tab.evaluate(() => document.documentElement.scrollWidth);
        if (folder) await tab.screenshot({ path: path.join(folder, `${size}-${colorScheme}.png`) });
        if (size === "desktop") await use(tab, found); else found.tapped = await touch(tab);
        found.after = await judge(tab);
      } finally {
        await context.close();
        fs.rmSync(profile, { recursive: true, force: true });
      }
      all[`${size}-${colorScheme}`] = found;
    }
  }
  const context = await chromium.launch({ executablePath: process.env.CHROMIUM, args: FLAGS });
  const plain = await (await context.newContext({ javaScriptEnabled: false, viewport: { width: 350, height: 740 }, offline: true })).newPage();
  await plain.goto(`file://${page}`);
  all.plain = {
    picture: await plain.locator(".static svg").first().isVisible(),
    table: await plain.locator(".static table").first().isVisible(),
    controls: await plain.locator("#controls").isVisible(),
  };
  if (folder) await plain.screenshot({ path: path.join(folder, "plain.png") });
  await context.close();
  process.stdout.write(JSON.stringify(all));
})();
