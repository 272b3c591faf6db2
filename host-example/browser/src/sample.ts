/** A recording that this page makes itself: agents whose requests grow as their conversations do. */

const THREADS = 48;
const REQUESTS = 1_200;

/** The sample as a file in the format of `thread-budget replay`; the same each time. */
export function sampleFile(): File {
  const random = generator(7);
  const threads = Array.from({ length: THREADS }, (_, at) => ({
    name: `agent-${String(at + 1).padStart(2, "0")}`,
    // A few do most of the work, as in real traffic.
    weight: 1 / (1 + at) ** 0.42,
    context: 400 + Math.floor(random() * 900),
  }));
  const total = threads.reduce((sum, { weight }) => sum + weight, 0);
  const lines = Array.from({ length: REQUESTS }, () => {
    let left = random() * total;
    const thread = threads.find(({ weight }) => (left -= weight) < 0) ?? threads[0]!;
    const completion = 40 + Math.floor(random() * 420);
    const prompt = thread.context;
    // The history grows until the agent summarises it.
    thread.context = thread.context > 5_200 ? 700 : thread.context + Math.floor(completion * 0.55);
    return JSON.stringify({ thread_id: thread.name, prompt_tokens: prompt, completion_tokens: completion });
  });
  return new File([lines.join("\n")], "sample.jsonl", { type: "application/jsonl" });
}

/** Numbers in [0, 1), by xorshift: the sample should look the same wherever it is made. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
