// The page as its users meet it, in Chromium, opened as a file.
import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launch } from "../browser.mjs";

const PAGE = new URL("../dist/index.html", import.meta.url).href;
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

/** A test on a fresh page; an error in its console, or a connection it opens, fails it. */
function onPage(name, run, options = {}) {
  test(name, async () => {
    const page = await browser.newPage(options);
    const complaints = [];
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(error.stack));
    page.on("request", (request) => request.url() !== PAGE && !request.url().startsWith("data:") && complaints.push(request.url()));
    await page.goto(PAGE);
    await run(page);
    await page.close();
    assert.deepEqual(complaints, []);
  });
}

const meter = (page, thread) => page.locator("#tree").getByRole("meter", { name: `Budget of ${thread}` });
const valueOf = (page, thread) => meter(page, thread).getAttribute("aria-valuetext");
const messages = (page) => page.locator("#messages .message");

async function act(page, thread, tokens, button) {
  await page.getByRole("radio", { name: thread, exact: true }).check();
  await page.locator("#tokens").fill(String(tokens));
  await page.getByRole("button", { name: button, exact: true }).click();
}

async function replay(page, name, content) {
  await page.locator("#file").setInputFiles({ name, mimeType: "text/plain", buffer: Buffer.from(content) });
}

/** The figures below the timeline, once the recording is played to its end. */
async function playedToEnd(page, records) {
  await page.locator("#player").waitFor();
  await page.locator("#scrub").fill(String(records));
  const count = records.toLocaleString("en");
  await page.getByText(`${count} of ${count} records`, { exact: true }).waitFor();
  return Object.fromEntries(
    await page.locator("#stats > div").evaluateAll((pairs) => pairs.map((pair) => [...pair.children].map((part) => part.textContent))),
  );
}

onPage("a thread is warned once at each mark, and refused at the end", async (page) => {
  await act(page, "writer", 40_000, "Consume");
  assert.equal(await messages(page).count(), 0);
  assert.equal(await valueOf(page, "writer"), "67 % used, 40,000 of 60,000 tokens");
  await act(page, "writer", 5_000, "Consume");
  assert.match(await messages(page).first().textContent(), /writer.*warning.*Note: 75%/);
  await act(page, "writer", 9_000, "Consume");
  assert.match(await messages(page).first().textContent(), /critical.*WARNING: 90%/);
  await act(page, "writer", 4_000, "Consume");
  assert.match(await messages(page).first().textContent(), /final.*CRITICAL: 97%/);
  await act(page, "writer", 4_000, "Check");
  assert.match(await messages(page).first().textContent(), /refused.*58000 of 60000.*4000 more do not fit/);
  assert.equal(await messages(page).count(), 4);
  assert.equal(await page.locator("#tree .badge", { hasText: "final" }).count(), 1);
  await act(page, "writer", 500, "Check");
  assert.match(await messages(page).first().textContent(), /fits/);
});

onPage("a hold is the hatched part of the gauge until its request ends", async (page) => {
  const hatched = () => page.locator("#tree .thread", { has: page.getByRole("radio", { name: "reader", exact: true }) }).locator(".held");
  await act(page, "reader", 20_000, "Hold");
  await act(page, "reader", 10_000, "Hold");
  assert.equal(await valueOf(page, "reader"), "0 % used, 0 of 40,000 tokens, 30,000 held");
  assert.equal(await valueOf(page, "planner"), "0 % used, 0 of 200,000 tokens, 30,000 held");
  assert.equal(await hatched().evaluate((part) => part.style.width), "75%");
  await act(page, "reader", 13_000, "Hold");
  assert.match(await messages(page).first().textContent(), /refused.*0 of 40000 tokens are used and 30000 are held, 10400 more do not fit/);
  await act(page, "reader", 12_000, "Hold");
  assert.match(await messages(page).first().textContent(), /cut down.*400 tokens fit instead of 2,400/);
  assert.equal(await valueOf(page, "reader"), "0 % used, 0 of 40,000 tokens, 40,000 held");

  await page.getByRole("button", { name: "Half: settle request 1 of reader" }).click();
  assert.equal(await valueOf(page, "reader"), "25 % used, 10,000 of 40,000 tokens, 20,000 held");
  await page.getByRole("button", { name: "Release: give back request 3 of reader" }).click();
  assert.equal(await valueOf(page, "reader"), "25 % used, 10,000 of 40,000 tokens, 10,000 held");
  await page.getByRole("button", { name: "No answer: settle what may be billed of request 2 of reader" }).click();
  assert.equal(await valueOf(page, "reader"), "45 % used, 18,000 of 40,000 tokens");
  assert.equal(await page.locator("#held li").count(), 0);
});

onPage("a hold of a thread that is gone goes on above it", async (page) => {
  await act(page, "reader", 20_000, "Hold");
  await page.getByRole("button", { name: "Reset thread" }).click();
  assert.equal(await valueOf(page, "reader"), "0 % used, 0 of 40,000 tokens");
  assert.equal(await valueOf(page, "researcher"), "0 % used, 0 of 80,000 tokens, 20,000 held");
  await page.getByText("#1 reader, 20,000, now of researcher").waitFor();
  await page.getByRole("radio", { name: "researcher", exact: true }).check();
  await page.getByRole("button", { name: "Clean up" }).click();
  await page.getByRole("button", { name: "Used all: settle request 1 of reader" }).click();
  assert.equal(await valueOf(page, "planner"), "10 % used, 20,000 of 200,000 tokens");

  await act(page, "planner", 20_000, "Hold");
  await page.getByRole("button", { name: "Reset thread" }).click();
  assert.equal(await valueOf(page, "planner"), "0 % used, 0 of 200,000 tokens");
  assert.equal(await page.locator("#held li").count(), 0, "with nothing above it, it ends");
});

onPage("a sub-agent counts against all above it", async (page) => {
  await page.getByRole("radio", { name: "reader", exact: true }).check();
  await page.getByLabel("Name").fill("skimmer");
  await page.locator("#open-limit").fill("90000");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await act(page, "skimmer", 38_000, "Consume");
  assert.equal(await valueOf(page, "reader"), "95 % used, 38,000 of 40,000 tokens");
  assert.equal(await valueOf(page, "researcher"), "48 % used, 38,000 of 80,000 tokens");
  assert.equal(await valueOf(page, "planner"), "19 % used, 38,000 of 200,000 tokens");
  await act(page, "skimmer", 10_000, "Hold");
  assert.match(await messages(page).first().textContent(), /reader.*refused/, "the ancestor without room is named");

  await page.getByLabel("Name").fill("skimmer");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  assert.match(await messages(page).first().textContent(), /choose another/);

  await page.getByRole("radio", { name: "reader", exact: true }).check();
  await page.getByRole("button", { name: "Reset thread" }).click();
  assert.equal(await valueOf(page, "reader"), "0 % used, 0 of 40,000 tokens");
  await page.getByRole("button", { name: "Clean up" }).click();
  assert.equal(await meter(page, "skimmer").count(), 0);
  assert.equal(await valueOf(page, "planner"), "19 % used, 38,000 of 200,000 tokens");
  await page.getByRole("button", { name: "Start over" }).click();
  assert.equal(await valueOf(page, "planner"), "0 % used, 0 of 200,000 tokens");
});

onPage("the sample plays, pauses, and can be moved through both ways", async (page) => {
  await page.getByRole("button", { name: "Use the sample" }).click();
  await page.getByRole("button", { name: "Play" }).click();
  await page.waitForFunction(() => Number(document.querySelector("#scrub").value) > 20);
  await page.getByRole("button", { name: "Pause" }).click();
  const paused = await page.locator("#scrub").inputValue();
  assert.ok(Number(paused) < 1_200);
  const end = await playedToEnd(page, 1_200);
  await page.locator("#scrub").fill("300");
  await page.getByText("300 of 1,200 records").waitFor();
  assert.deepEqual(await playedToEnd(page, 1_200), end, "the same numbers the second time");
  await page.getByLabel("Speed").selectOption("6000");
  await page.locator("#scrub").fill("0");
  await page.getByRole("button", { name: "Play" }).click();
  await page.getByText("1,200 of 1,200 records").waitFor();
  await page.getByRole("button", { name: "Play" }).waitFor();
});

onPage("every format of the command line is read, exactly", async (page) => {
  await page.locator("#limit").fill("1000");
  const threads = { threads: "2", "prompt tokens": "900", "completion tokens": "200", warning: "1", critical: "1", final: "0", refused: "0" };
  const files = {
    "own.jsonl": '\ufeff\n{"thread_id":"a","prompt_tokens":800,"completion_tokens":100}\n\n{"thread_id":"b","prompt_tokens":100,"completion_tokens":100}\n',
    "openai.jsonl":
      '{"metadata":{"thread_id":"a"},"usage":{"prompt_tokens":800,"completion_tokens":100}}\r\n{"conversation":{"id":"b"},"usage":{"input_tokens":100,"output_tokens":100}}',
    "own.csv": 'time,thread_id,prompt_tokens,completion_tokens\n1,"a",800,100\n"2,5",b,100,100\n',
  };
  for (const [name, content] of Object.entries(files)) {
    await replay(page, name, content);
    await page.getByText(`${name}: 2 records.`).waitFor();
    assert.deepEqual(await playedToEnd(page, 2), threads, name);
  }
  await page.locator("#enforce").check();
  await replay(page, "own.csv", files["own.csv"] + "3,a,100,1\n");
  assert.equal((await playedToEnd(page, 3)).refused, "1");
  await page.getByText(/900 of 1000 tokens are used, 101 more do not fit/).waitFor();

  await page.getByLabel("Thread of records without one").fill("azure");
  await replay(page, "azure.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,480,10\n");
  assert.equal((await playedToEnd(page, 1))["prompt tokens"], "480");
  await replay(page, "largest.jsonl", '{"thread_id":"a","prompt_tokens":18446744073709551615,"completion_tokens":0}');
  await playedToEnd(page, 1);
  await page.getByText("18446744073709551615 more do not fit").waitFor();
});

onPage("a file that is wrong is refused by line and field, and the next one is read", async (page) => {
  const ok = '{"thread_id":"a","prompt_tokens":1,"completion_tokens":1}\n';
  const cases = {
    '{"thread_id":"a","prompt_tokens":-5,"completion_tokens":1}': "bad:2: prompt_tokens is -5, expected a whole number of tokens",
    '{"thread_id":"a","prompt_tokens":1.5,"completion_tokens":1}': "bad:2: prompt_tokens is 1.5, expected a whole",
    '{"thread_id":"a","prompt_tokens":18446744073709551616,"completion_tokens":1}': "bad:2: prompt_tokens is 18446744073709552000, expected",
    '{"thread_id":"a","prompt_tokens":1}': "bad:2: no completion_tokens, expected a whole",
    '{"thread_id":7,"prompt_tokens":1,"completion_tokens":1}': "bad:2: thread_id is 7, expected a string",
    '{"thread_id":"","prompt_tokens":1,"completion_tokens":1}': "bad:2: thread_id has 0 bytes, expected 1 to 1024",
    '{"prompt_tokens":1,"completion_tokens":1}': "bad:2: no thread_id, expected a string; or name one",
    '{"thread_id":"a",': "bad:2: not JSON (",
    "[1]": "bad:2: the line does not start with {",
  };
  for (const [line, problem] of Object.entries(cases)) {
    await replay(page, "bad", ok + line);
    await page.locator("#problem", { hasText: problem }).waitFor();
    assert.equal(await page.locator("#player").isVisible(), false);
  }
  const alone = {
    "": "bad: no records",
    "thread,tokens\n": "bad:1: no column prompt_tokens or ContextTokens",
    "TIMESTAMP,ContextTokens,GeneratedTokens\n": "bad:1: no column thread_id",
    "thread_id,prompt_tokens,completion_tokens\na,1,2\na,1\n": "bad:3: fields: 2, expected 3",
    "thread_id,prompt_tokens,completion_tokens\na,x,2\n": 'bad:2: prompt_tokens is "x", expected a whole',
    '{"thread_id":"a","usage":{"prompt_tokens":1}}': "bad:1: no usage.completion_tokens",
    '{"thread_id":"a","usage":3}': "bad:1: usage is 3, expected an object",
  };
  for (const [content, problem] of Object.entries(alone)) {
    await replay(page, "bad", content);
    await page.locator("#problem", { hasText: problem }).waitFor();
  }
  await page.locator("#file").setInputFiles({ name: "bad", mimeType: "", buffer: Buffer.from([...Buffer.from(ok), 0x7b, 0xff, 0x7d]) });
  await page.locator("#problem", { hasText: "bad:2: the line is not UTF-8" }).waitFor();

  await replay(page, "good", ok);
  assert.equal((await playedToEnd(page, 1)).threads, "1");
  assert.equal(await page.locator("#problem").isVisible(), false);
});

onPage("a dropped file is read", async (page) => {
  await page.evaluate(() => {
    const transfer = new DataTransfer();
    transfer.items.add(new File(['{"thread_id":"a","prompt_tokens":1,"completion_tokens":1}'], "dropped.jsonl"));
    document.querySelector("#drop").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
  });
  await page.getByText("dropped.jsonl: 1 record.").waitFor();
});

onPage("a large file does not freeze the tab", async (page) => {
  const RECORDS = 150_000;
  const lines = Array.from({ length: RECORDS }, (_, at) => `{"thread_id":"conv-${at % 20_000}","prompt_tokens":${at % 9_000},"completion_tokens":300}`);
  await page.evaluate(() => {
    globalThis.longest = 0;
    let last = performance.now();
    const beat = () => {
      const now = performance.now();
      globalThis.longest = Math.max(globalThis.longest, now - last);
      last = now;
      setTimeout(beat, 0);
    };
    beat();
  });
  const file = fileURLToPath(new URL("../build/large.jsonl", import.meta.url));
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, lines.join("\n"));
  await page.locator("#file").setInputFiles(file);
  await page.locator("#player").waitFor({ timeout: 60_000 });
  const start = Date.now();
  assert.equal((await playedToEnd(page, RECORDS)).threads, "20,000");
  const longest = await page.evaluate(() => globalThis.longest);
  console.log(`${RECORDS} records replayed in ${Date.now() - start} ms, the tab was busy for at most ${Math.round(longest)} ms`);
  assert.ok(longest < 1_000, `busy for ${longest} ms`);
});

onPage("everything can be done by keyboard, and the focus is seen", async (page) => {
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent);
  const outline = () => page.evaluate(() => {
    const element = document.activeElement;
    const shown = element.closest(".thread") ?? (element.id === "file" ? element.nextElementSibling : element);
    return getComputedStyle(shown).outlineStyle;
  });
  const tabTo = async (id) => {
    for (let presses = 0; presses < 40 && (await focused()) !== id; presses++) {
      await page.keyboard.press("Tab");
      assert.equal(await outline(), "solid", `the focus on ${await focused()} is seen`);
    }
    assert.equal(await focused(), id);
  };
  await tabTo("dark");
  await page.keyboard.press("Space");
  assert.equal(await page.getByRole("switch").getAttribute("aria-checked"), "true");
  await tabTo("thread-researcher");
  await page.keyboard.press("ArrowDown");
  assert.equal(await focused(), "thread-reader");
  await tabTo("tokens");
  await page.keyboard.press("End");
  await tabTo("hold");
  await page.keyboard.press("Enter");
  assert.equal(await valueOf(page, "reader"), "0 % used, 0 of 40,000 tokens, 40,000 held");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "Used all");
  await page.keyboard.press("Enter");
  assert.equal(await valueOf(page, "reader"), "100 % used, 40,000 of 40,000 tokens");
  assert.equal(await focused(), "hold", "the focus stays close to what went");
  await tabTo("open-name");
  await page.keyboard.type("helper");
  await page.keyboard.press("Enter");
  assert.equal(await focused(), "thread-helper");
  await tabTo("sample");
  await page.keyboard.press("Enter");
  await page.locator("#player").waitFor();
  await page.waitForFunction(() => document.activeElement.id === "play");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => Number(document.querySelector("#scrub").value) > 0);
});

onPage(
  "nothing moves for those who ask for that",
  async (page) => {
    await page.getByRole("button", { name: "Use the sample" }).click();
    await page.getByText("play goes straight to the end").waitFor();
    await page.getByRole("button", { name: "Play" }).click();
    await page.getByText("1,200 of 1,200 records").waitFor();
    await act(page, "reader", 20_000, "Consume");
    assert.equal(await page.locator("#tree .used").first().evaluate((part) => getComputedStyle(part).transitionProperty), "none");
  },
  { reducedMotion: "reduce" },
);

for (const [what, options] of Object.entries({
  light: { colorScheme: "light" },
  dark: { colorScheme: "dark" },
  "on a phone": { colorScheme: "light", viewport: { width: 390, height: 844 } },
})) {
  onPage(
    `no accessibility problem is found, ${what}`,
    async (page) => {
      await act(page, "writer", 38_000, "Consume");
      await act(page, "writer", 20_000, "Consume");
      await act(page, "researcher", 20_000, "Hold");
      await page.getByRole("button", { name: "Use the sample" }).click();
      await playedToEnd(page, 1_200);
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => globalThis.axe.run());
      assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`)]), []);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, "nothing sticks out sideways");
    },
    options,
  );
}
