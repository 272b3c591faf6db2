// An agent with a budget: `npm run build && node examples/chat.mjs`. It needs no network; the model is a
// small server that this file starts, and answers as a chat completions API does.
import { createServer } from "node:http";
import { BudgetExhaustedError, Registry } from "thread-budget";

/** A client for a chat completions API that keeps each thread within its budget. */
class BudgetedChat {
  constructor(url, registry) {
    this.url = url;
    this.registry = registry;
  }

  /** One turn. Throws a BudgetExhaustedError, before anything is sent, when it might not fit. */
  async complete(threadId, messages, maxTokens) {
    // Held while the request is in flight, so that turns at the same time cannot pass one check together.
    const hold = this.registry.hold(threadId, crypto.randomUUID(), estimate(messages), maxTokens);
    try {
      hold.sent();
      const response = await fetch(this.url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ messages, max_tokens: maxTokens }),
      });
      if (!response.ok) {
        // A refusal is not billed.
        hold.release();
        throw new Error(`the model answers ${response.status}`);
      }
      const { choices, usage } = await response.json();
      hold.settle(usage.prompt_tokens, usage.completion_tokens);
      return choices[0].message;
    } finally {
      // Without an answer the provider may have billed the prompt: it is counted. Otherwise nothing is left to do.
      hold[Symbol.dispose]();
    }
  }
}

/** A guess on the safe side: what is really used is settled afterwards. */
function estimate(messages) {
  return Math.ceil(JSON.stringify(messages).length / 3);
}

async function main(url) {
  const registry = new Registry({ maxTokensPerThread: 4_000 });
  const chat = new BudgetedChat(url, registry);
  const task = { role: "user", content: "Write the report, a section at a time." };
  let lastAnswer = { role: "assistant", content: "" };
  for (let turn = 1; ; turn++) {
    const warnings = registry.pendingWarnings("agent-7");
    const notes = warnings.map(({ message }) => ({ role: "system", content: message }));
    for (const { content } of notes) console.log(`turn ${turn}: the agent reads: ${content}`);
    try {
      lastAnswer = await chat.complete("agent-7", [task, lastAnswer, ...notes], 120);
      registry.acknowledgeWarnings("agent-7", warnings);
      console.log(`turn ${turn}: ${registry.getUsage("agent-7").totalTokens} tokens used`);
    } catch (error) {
      if (!(error instanceof BudgetExhaustedError)) throw error;
      console.log(`turn ${turn}: stopped: ${error.message}`);
      return;
    }
  }
}

/** The model: it says a section, and what that took. */
const server = createServer(async (request, response) => {
  const body = JSON.parse(Buffer.concat(await request.toArray()).toString());
  const content = "A section of the report, in so many words. ".repeat(body.max_tokens / 20);
  response.setHeader("content-type", "application/json");
  response.end(
    JSON.stringify({
      choices: [{ message: { role: "assistant", content } }],
      usage: { prompt_tokens: Math.ceil(JSON.stringify(body.messages).length / 4), completion_tokens: Math.ceil(content.length / 4) },
    }),
  );
});
server.listen(0, "127.0.0.1", () =>
  main(`http://127.0.0.1:${server.address().port}/v1/chat/completions`).finally(() => server.close()),
);
