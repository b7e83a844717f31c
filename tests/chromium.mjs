// Opens a report, or the live page of a search, in a headless Chromium and uses it as a person would.
//
//   node tests/chromium.mjs report.html [FOLDER for screenshots]     (or http://127.0.0.1:8080)
//
// Needs Node 22 (or 20 with --experimental-websocket) and Chromium (Debian: apt-get install chromium). Fails on any error of
// the console, on a slider that moves no picture, on a play button that does not play, and on a live page that does not follow
// its search.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const [target, folder] = process.argv.slice(2);
const browser = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) => existsSync(path));
if (!browser) {
  console.log("skipped: no Chromium here; on Debian: apt-get install chromium");
  process.exit(0);
}
const url = target.startsWith("http") ? target : `file://${resolve(target)}`;
const profile = mkdtempSync(join(tmpdir(), "strait-chromium-"));
const child = spawn(browser, ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", `--user-data-dir=${profile}`, "about:blank"], { stdio: ["ignore", "ignore", "pipe"] });
const endpoint = await new Promise((found) => {
  let said = "";
  child.stderr.on("data", (bytes) => {
    said += bytes;
    const match = said.match(/DevTools listening on ws:\/\/([^/]+)\//);
    if (match) found(match[1]);
  });
});
const pages = await (await fetch(`http://${endpoint}/json`)).json();
const socket = new WebSocket(pages.find((page) => page.type === "page").webSocketDebuggerUrl);
await new Promise((open) => socket.addEventListener("open", open));
let next = 0;
const waiting = new Map();
const errors = [];
socket.addEventListener("message", ({ data }) => {
  const message = JSON.parse(data);
  if (message.id) waiting.get(message.id)(message);
  if (message.method === "Runtime.exceptionThrown") errors.push(message.params.exceptionDetails.exception?.description);
  if (message.method === "Runtime.consoleAPICalled" && message.params.type === "error") errors.push(JSON.stringify(message.params.args));
  if (message.method === "Log.entryAdded" && message.params.entry.level === "error" && !message.params.entry.url?.endsWith("favicon.ico")) errors.push(message.params.entry.text);
});
const ask = (method, params = {}) => new Promise((answer) => {
  next += 1;
  waiting.set(next, answer);
  socket.send(JSON.stringify({ id: next, method, params }));
});
const evaluate = async (expression) => (await ask("Runtime.evaluate", { expression, returnByValue: true })).result.result.value;
const pause = (millis) => new Promise((done) => setTimeout(done, millis));
const failures = [];
const check = (what, holds) => {
  console.log(`${holds ? "ok   " : "WRONG"} ${what}`);
  if (!holds) failures.push(what);
};
const shoot = async (name, width, height, dark) => {
  await ask("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }] });
  await ask("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 });
  const wide = await evaluate("document.documentElement.scrollWidth <= window.innerWidth");
  check(`${name}: nothing is wider than ${width} pixels`, wide);
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  const { result } = await ask("Page.captureScreenshot", { captureBeyondViewport: true });
  writeFileSync(join(folder, `${name}.png`), Buffer.from(result.data, "base64"));
};

for (const domain of ["Runtime", "Log", "Page"]) await ask(`${domain}.enable`);
await ask("Page.navigate", { url });
await pause(1500);
const picture = "document.getElementById('choices')?.innerHTML ?? ''";
const epochs = await evaluate("+document.getElementById('epoch')?.max || 0");
check("the page says what came of the run", (await evaluate("document.querySelector('.lead')?.textContent.length || 0")) > 20);
if (target.startsWith("http")) {
  for (let i = 0; i < 60 && (await evaluate("+document.getElementById('epoch')?.max || 0")) <= epochs; i++) await pause(500);
  const now = await evaluate("+document.getElementById('epoch')?.max || 0");
  check(`the page followed its search by itself, from epoch ${epochs} to ${now}`, now > epochs);
} else {
  check("there are charts and a slider", (await evaluate("document.querySelectorAll('figure svg').length")) > 3 && epochs > 1);
  const last = await evaluate(picture);
  await evaluate("document.getElementById('epoch').value = 1; document.getElementById('epoch').dispatchEvent(new Event('input'))");
  check("the slider moves the picture", (await evaluate(picture)) !== last);
  await evaluate("document.getElementById('epoch').focus()");
  await ask("Input.dispatchKeyEvent", { type: "rawKeyDown", key: "ArrowRight", code: "ArrowRight", windowsVirtualKeyCode: 39 });
  await pause(200);
  check("the arrow keys move the slider", (await evaluate("+document.getElementById('epoch').value")) === 2);
  await evaluate("document.getElementById('play').click()");
  await pause(1000);
  check("play plays", (await evaluate("+document.getElementById('epoch').value")) > 2 || epochs === 2);
}
await shoot("light", 1100, 900, false);
await shoot("dark", 1100, 900, true);
await shoot("phone", 390, 800, false);
check(`no error in the console ${errors.join("; ")}`, errors.length === 0);
child.kill();
await new Promise((gone) => child.on("exit", gone));
rmSync(profile, { recursive: true, force: true });
process.exit(failures.length === 0 ? 0 : 1);
