// The live page as its users meet it, in Chromium. What is to happen to the threads is said on standard
// output, a line of JSON each, and answered on standard input when it has happened.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { launch } from "../../../host-example/browser/browser.mjs";

const [OPEN, GUARDED] = process.argv.slice(2);
/** Where to put pictures of the page in use, if they are wanted. */
const PICTURES = process.env.THREAD_BUDGET_PICTURES;
const require = createRequire(new URL("../../../host-example/browser/package.json", import.meta.url));
const axe = await readFile(require.resolve("axe-core/axe.min.js"), "utf8");
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function order(what) {
  process.stdout.write(`${JSON.stringify(what)}\n`);
  await answers.next();
}
const open = (thread, limit, parent) => order({ do: "open", thread, limit, parent });
const consume = (thread, tokens) => order({ do: "consume", thread, tokens });

const browser = await launch();

/** Use the page; an error in its console, or a request to elsewhere, fails. */
async function onPage(name, url, use, { expected = /^$/, ...options } = {}) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, ...options });
  page.setDefaultTimeout(10_000);
  const complaints = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()) && !expected.test(message.text())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.stack));
  page.on("request", (request) => !request.url().startsWith(url) && !request.url().startsWith("data:") && complaints.push(request.url()));
  page.on("dialog", (dialog) => complaints.push(`a dialog: ${dialog.message()}`));
  await page.goto(url);
  await use(page);
  await page.close();
  assert.deepEqual(complaints, []);
  process.stderr.write(`ok - ${name}\n`);
}

const live = (page) => page.locator("#status", { hasText: /^live$/ }).waitFor();
const row = (page, id) => page.locator(".row", { has: page.locator(`.name[title="${id.replace(/["\\]/g, "\\$&")}"]`) });
/** List what is below a thread. */
const unfold = async (page, ...ids) => {
  for (const id of ids) await row(page, id).locator(".twisty").click();
};
const says = (page, id, text) => page.locator(".row").getByText(`${id}: ${text}`, { exact: true }).waitFor();

if (PICTURES) {
  for (const [name, colorScheme, width] of [["light", "light", 1_280], ["dark", "dark", 1_280], ["phone", "light", 390]]) {
    await onPage(`a picture, ${name}`, OPEN, async (page) => {
      await live(page);
      for (const [thread, limit, parent] of [
        ["planner", 400_000], ["coder", 120_000, "planner"], ["tester", 50_000, "coder"], ["reviewer", 80_000, "planner"],
        ["triage", 60_000], ["summary", 30_000], ["support-4711", 40_000],
        ["6f1e8c52-0d5e-4b1c-9f58-3a7d0c2e11aa", 40_000], ["6f1e8c52-0d5e-4b1c-9f58-3a7d0c2e11bb", 40_000],
      ]) {
        await open(thread, limit, parent);
      }
      for (const [thread, tokens] of [
        ["planner", 30_000], ["coder", 79_150], ["tester", 18_250], ["reviewer", 12_400], ["triage", 36_800], ["summary", 27_600],
        ["support-4711", 39_120], ["6f1e8c52-0d5e-4b1c-9f58-3a7d0c2e11aa", 31_000], ["6f1e8c52-0d5e-4b1c-9f58-3a7d0c2e11bb", 20_000],
      ]) {
        await consume(thread, tokens);
      }
      await order({ do: "hold", thread: "tester", tokens: 9_000 });
      await order({ do: "hold", thread: "triage", tokens: 12_000 });
      await order({ do: "refuse", thread: "support-4711", tokens: 2_000 });
      await unfold(page, "planner", "coder");
      await row(page, "coder").click();
      await page.waitForTimeout(1_500);
      await page.screenshot({ path: `${PICTURES}/${name}.png`, fullPage: width < 1_000 });
      await order({ do: "clear" });
    }, { colorScheme, viewport: { width, height: 900 } });
  }
  process.exit(0);
}

await onPage("what happens shows up", OPEN, async (page) => {
  await live(page);
  await open("planner", 200_000);
  await open("researcher", 80_000, "planner");
  await open("reader", 40_000, "researcher");
  await open("writer", 60_000, "planner");
  await consume("reader", 20_000);
  await says(page, "planner", "10 % used, 20,000 of 200,000 tokens, with 3 below");
  assert.equal(await page.locator(".row").count(), 1, "a fleet is one row at first");
  await unfold(page, "planner", "researcher");
  await says(page, "reader", "50 % used, 20,000 of 40,000 tokens");
  assert.equal(await row(page, "reader").getAttribute("aria-level"), "3");

  await order({ do: "hold", thread: "researcher", tokens: 14_000 });
  await says(page, "researcher", "25 % used, 20,000 of 80,000 tokens, 14,000 held, with 1 below");
  assert.equal(await row(page, "researcher").locator(".held").evaluate((part) => part.style.width), "17.5%");

  await consume("writer", 55_000);
  await page.locator("#feed .message[data-kind=critical]", { hasText: /writer.*WARNING: 92%/ }).waitFor();
  await page.locator("#feed .message[data-kind=warning]", { hasText: /writer.*Note: 92%/ }).waitFor();
  await says(page, "writer", "92 % used, 55,000 of 60,000 tokens, critical");
  await order({ do: "refuse", thread: "writer", tokens: 20_000 });
  await page.locator("#feed .message[data-kind=refused]", { hasText: "20000 more do not fit" }).waitFor();
  await page.locator("#stats", { hasText: "refused1" }).waitFor();
  await row(page, "writer").click();
  await page.locator("#figures", { hasText: "runway0 requests" }).waitFor();
});

await onPage("who comes later sees what has happened before", OPEN, async (page) => {
  await live(page);
  const kinds = () => page.locator("#feed .message").evaluateAll((all) => all.map((one) => one.dataset.kind));
  await page.locator("#feed .message").nth(2).waitFor();
  assert.deepEqual(await kinds(), ["refused", "critical", "warning"]);
  await page.locator("#stats", { hasText: "refused1" }).waitFor();
  await order({ do: "unidentified", client: "curl/8" });
  await page.reload();
  await live(page);
  await page.locator("#clients", { hasText: "curl/81 request" }).waitFor();
  assert.deepEqual(await kinds(), ["refused", "critical", "warning"]);
});

await onPage("ids that differ at their ends do so at any width, and a severity is a word", OPEN, async (page) => {
  await live(page);
  const ids = ["aa", "bb"].map((end) => `6f1e8c52-0d5e-4b1c-9f58-3a7d0c2e11${end}`);
  for (const id of ids) await consume(id, 960);
  for (const id of ids) {
    const end = row(page, id).locator(".name .end");
    assert.equal(await end.evaluate((part) => part.scrollWidth <= part.clientWidth && part.getBoundingClientRect().right <= innerWidth), true);
    assert.equal(await end.textContent(), id.slice(-10));
    assert.equal(await row(page, id).locator(".badge").isVisible(), true);
    assert.equal(await row(page, id).locator(".badge").textContent(), "final");
  }
}, { viewport: { width: 390, height: 844 } });

await onPage("an id is text, whatever it says", OPEN, async (page) => {
  await live(page);
  const ids = [`<img src=x onerror=alert(1)>`, `"><script>alert(1)</script>`, "javascript:alert(1)"];
  for (const id of ids) {
    await consume(id, 960);
    await row(page, id).click();
    await page.locator("#selected-title", { hasText: id }).waitFor();
    await page.locator("#feed b, #feed button", { hasText: id }).first().waitFor();
  }
  assert.equal(await page.locator("main img, main script").count(), 0);
});

await onPage("a limit is changed, and a thread cleaned up, once that is confirmed", OPEN, async (page) => {
  await live(page);
  await unfold(page, "planner");
  await row(page, "writer").click();
  await page.locator("#limit").fill("100,000");
  await page.getByRole("button", { name: "Set limit" }).click();
  await page.getByText("From 60,000 to 100,000 tokens.").waitFor();
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.locator("#limit").press("Enter");
  await page.locator("#confirm-yes").click();
  await says(page, "writer", "55 % used, 55,000 of 100,000 tokens");
  await page.locator("#limit").fill("18446744073709551615");
  await page.locator("#limit").press("Enter");
  await page.locator("#confirm-yes").click();
  await page.locator("#selected", { hasText: "18,446,744,073,709,496,615" }).waitFor();
  for (const wrong of ["-1", "1e5", "18446744073709551616", "many"]) {
    await page.locator("#limit").fill(wrong);
    await page.locator("#limit").press("Enter");
    await page.getByRole("alert").getByText("whole number of tokens").waitFor();
  }
  await page.locator("#limit").fill("50000");
  await page.locator("#limit").press("Enter");
  await page.getByText("its requests will be refused").waitFor();
  await page.locator("#confirm-yes").click();
  await says(page, "writer", "110 % used, 55,000 of 50,000 tokens, exhausted");

  await row(page, "researcher").click();
  await page.getByRole("button", { name: "Clean up" }).click();
  await page.locator("#confirm-yes").click();
  await page.getByText("This thread is gone.").waitFor();
  await row(page, "researcher").waitFor({ state: "detached" });
  await says(page, "planner", "38 % used, 75,000 of 200,000 tokens, 14,000 held, with 1 below");
});

await onPage("everything can be done by keyboard", OPEN, async (page) => {
  await live(page);
  await row(page, "planner").waitFor();
  await page.locator("#tree").focus();
  await page.keyboard.press("Home");
  const selected = () => page.locator('.row[aria-selected="true"] > :first-child').textContent();
  assert.match(await selected(), /^planner:/);
  assert.equal(await page.locator("#tree").getAttribute("aria-activedescendant"), await row(page, "planner").getAttribute("id"));
  await page.keyboard.press("ArrowRight");
  await row(page, "writer").waitFor();
  await page.keyboard.press("ArrowLeft");
  await row(page, "writer").waitFor({ state: "detached" });
  await page.keyboard.press("ArrowRight");
  await row(page, "writer").waitFor();
  await page.keyboard.press("ArrowRight");
  await page.waitForFunction(() => document.querySelector('[aria-selected="true"]')?.textContent.startsWith("writer:"));
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "limit");
  await page.keyboard.type("70000");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  await page.locator("#confirm-yes").press("Enter");
  await says(page, "writer", "79 % used, 55,000 of 70,000 tokens, warning");
});

await onPage("with thousands of threads a few rows are drawn, and any thread is found", OPEN, async (page) => {
  await live(page);
  const shown = (least) => page.waitForFunction((least) => parseInt(document.querySelector("#shown").textContent.replace(",", ""), 10) >= least, least);
  for (let number = 0; number < 3_000; number++) {
    await consume(`agent-${String(number).padStart(4, "0")}`, number % 700);
    // A page that is more than 1,024 changes behind gets the largest threads anew.
    if (number % 500 === 499) await shown(number + 1);
  }
  await page.locator("#shown", { hasText: /^3,00\d threads/ }).waitFor();
  assert.ok((await page.locator(".row").count()) < 40);
  await page.locator("#tree").focus();
  await page.keyboard.press("End");
  assert.ok((await page.locator(".row").count()) < 40);
  await page.locator("#filter").fill("agent-2999");
  await page.locator("#shown", { hasText: /^1 of 3,00\d threads here match/ }).waitFor();
  await row(page, "agent-2999").click();
  await page.locator("#selected-title", { hasText: "agent-2999" }).waitFor();
  await page.reload();
  await live(page);
  await page.locator("#shown", { hasText: "the largest, and what changed since" }).waitFor();
  await page.locator("#filter").fill("agent-0001");
  await page.locator("#filter").press("Enter");
  await says(page, "agent-0001", "0 % used, 1 of 1,000 tokens");
  await page.locator("#filter").fill("agent-");
  await page.locator("#order").selectOption("name");
  await page.locator("#filter").fill("nobody");
  await page.locator("#filter").press("Enter");
  await page.getByText("nobody: there is no thread of that id").waitFor();
}, { expected: /404/ });

await onPage("the token is asked for, and kept for the tab", GUARDED, async (page) => {
  await page.locator("#token").fill("wrong");
  await page.locator("#token").press("Enter");
  await page.getByText("That is not this router's admin token").waitFor();
  await page.locator("#token").fill("secret-of-operators");
  await page.getByRole("button", { name: "Go on" }).click();
  await live(page);
  await page.reload();
  await live(page);
  assert.equal(await page.evaluate(() => JSON.stringify(localStorage).includes("secret-of")), false);
}, { expected: /401/ });

for (const [what, options] of Object.entries({
  light: { colorScheme: "light" },
  dark: { colorScheme: "dark" },
  "on a phone": { colorScheme: "light", viewport: { width: 390, height: 844 } },
})) {
  await onPage(`no accessibility problem is found, ${what}`, OPEN, async (page) => {
    await live(page);
    await row(page, "planner").click();
    await order({ do: "refuse", thread: "writer", tokens: 80_000 });
    await page.locator("#feed .message").first().waitFor();
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run());
    assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`)]), []);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, "nothing sticks out sideways");
  }, { ...options, bypassCSP: true });
}

await browser.close();
process.exit(0);
