/** Usage records out of files, in the formats of `thread-budget replay`, with its words when one is wrong. */
import type { Tokens } from "thread-budget";

/** What one LLM call used. */
export interface UsageRecord {
  threadId: string;
  promptTokens: Tokens;
  completionTokens: Tokens;
}

/** A record that cannot be used: the message says where, which field, and what was expected. */
export class RecordError extends Error {}

const MAX_LINE_BYTES = 1 << 24;
const MAX_THREAD_ID_BYTES = 1_024;
const LARGEST = 2n ** 64n - 1n;
const COUNT_EXPECTED = "expected a whole number of tokens, 0 to 18446744073709551615";
const SHOWN = 40;
/** How long to read on before the page gets its turn. */
const SLICE_MS = 8;

interface Fields {
  threadId: string | undefined;
  promptTokens: Tokens;
  completionTokens: Tokens;
}

/** Parse a line; nothing for one that holds no record, as a header. */
type LineParser = (line: string) => Fields | undefined;

type Json = { [name: string]: unknown };

/**
 * Every record of a file, in order. `thread` is the thread of records that name none; `onProgress` is told the
 * share that was read.
 * @throws {RecordError} At the first record that cannot be used.
 */
export async function readRecords(file: File, thread: string, onProgress: (share: number) => void): Promise<UsageRecord[]> {
  const records: UsageRecord[] = [];
  const encoder = new TextEncoder();
  let parse: LineParser | undefined;
  let number = 0;
  let sliceEnd = performance.now() + SLICE_MS;
  for await (const { text, end } of lines(file)) {
    number += 1;
    try {
      if (text instanceof Error) throw text;
      if (text.trim() === "") continue;
      parse ??= recognise(text, thread !== "");
      const fields = parse(text.trim());
      if (!fields) continue;
      const threadId = fields.threadId ?? thread;
      if (threadId === "" && fields.threadId === undefined) {
        throw new RecordError('no thread_id, expected a string; or name one under "Thread of records without one"');
      }
      const bytes = encoder.encode(threadId).length;
      if (bytes < 1 || bytes > MAX_THREAD_ID_BYTES || !threadId.isWellFormed()) {
        throw new RecordError(`thread_id has ${bytes} bytes, expected 1 to ${MAX_THREAD_ID_BYTES} bytes of UTF-8`);
      }
      records.push({ ...fields, threadId });
    } catch (error) {
      if (error instanceof RecordError) throw new RecordError(`${file.name}:${number}: ${error.message}`);
      throw error;
    }
    if (performance.now() >= sliceEnd) {
      onProgress(file.size && end / file.size);
      await new Promise((resolve) => setTimeout(resolve));
      sliceEnd = performance.now() + SLICE_MS;
    }
  }
  if (records.length === 0) throw new RecordError(`${file.name}: no records, expected one usage record a line`);
  return records;
}

/** The lines of a file, each with where it ends; one that is no text is an error in place of it. */
async function* lines(file: File): AsyncGenerator<{ text: string | RecordError; end: number }> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const line = (bytes: Uint8Array): string | RecordError => {
    if (bytes.length >= MAX_LINE_BYTES) return new RecordError(`the line is longer than ${MAX_LINE_BYTES} bytes, expected one record`);
    try {
      return decoder.decode(bytes);
    } catch {
      return new RecordError("the line is not UTF-8, expected one record");
    }
  };
  let rest = new Uint8Array(0);
  let end = 0;
  const reader = file.stream().getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const chunk = new Uint8Array(rest.length + value.length);
    chunk.set(rest);
    chunk.set(value, rest.length);
    let start = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, start)) {
      end += at + 1 - start;
      yield { text: line(chunk.subarray(start, at)), end };
      start = at + 1;
    }
    rest = chunk.slice(start);
    if (rest.length >= MAX_LINE_BYTES) {
      yield { text: line(rest), end };
      return;
    }
  }
  if (rest.length > 0) yield { text: line(rest), end: file.size };
}

function recognise(first: string, threadIsGiven: boolean): LineParser {
  if (!first.trimStart().startsWith("{")) return csvParser(threadIsGiven);
  let usage = false;
  try {
    usage = (JSON.parse(first) as Json)["usage"] !== undefined;
  } catch {
    // Parsing it as a record says what is wrong with it.
  }
  return (line) => (usage ? openaiFields : ownFields)(parseJson(line), line);
}

function parseJson(line: string): Json {
  if (!line.startsWith("{")) throw new RecordError("the line does not start with {, expected one JSON object");
  try {
    return JSON.parse(line) as Json;
  } catch (error) {
    const reason = (error as Error).message.replace(/ \(line \d+ column \d+\)$/, "");
    throw new RecordError(`not JSON (${reason}), expected one JSON object`);
  }
}

function ownFields(record: Json, line: string): Fields {
  return {
    threadId: jsonThread(record["thread_id"], "thread_id"),
    promptTokens: jsonCount(record["prompt_tokens"], "prompt_tokens", line),
    completionTokens: jsonCount(record["completion_tokens"], "completion_tokens", line),
  };
}

function openaiFields(record: Json, line: string): Fields {
  const usage = record["usage"];
  if (!isObject(usage)) {
    const found = usage === undefined ? "no usage" : `usage is ${excerpt(usage)}`;
    throw new RecordError(`${found}, expected an object with prompt_tokens and completion_tokens`);
  }
  const [prompt, completion] = usage["input_tokens"] === undefined ? ["prompt_tokens", "completion_tokens"] as const : ["input_tokens", "output_tokens"] as const;
  return {
    threadId: openaiThread(record),
    promptTokens: jsonCount(usage[prompt], `usage.${prompt}`, line),
    completionTokens: jsonCount(usage[completion], `usage.${completion}`, line),
  };
}

function openaiThread({ thread_id, metadata, conversation }: Json): string | undefined {
  if (thread_id !== undefined) return jsonThread(thread_id, "thread_id");
  if (isObject(metadata) && metadata["thread_id"] !== undefined) return jsonThread(metadata["thread_id"], "metadata.thread_id");
  // The Responses API answers with an object, its requests may hold the id alone.
  if (isObject(conversation)) return jsonThread(conversation["id"], "conversation.id");
  return jsonThread(conversation, "conversation");
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function jsonThread(value: unknown, name: string): string | undefined {
  if (value === undefined || value === null || typeof value === "string") return value ?? undefined;
  throw new RecordError(`${name} is ${excerpt(value)}, expected a string`);
}

function jsonCount(value: unknown, name: string, line: string): Tokens {
  if (typeof value === "number" && value >= 0 && Number.isInteger(value)) {
    if (Number.isSafeInteger(value)) return value;
    const exact = exactInteger(name, line);
    if (exact !== undefined && exact <= LARGEST) return exact;
  }
  const found = value === undefined ? `no ${name}` : `${name} is ${excerpt(value)}`;
  throw new RecordError(`${found}, ${COUNT_EXPECTED}`);
}

/** A field's digits as they are written, for a number that JavaScript's cannot hold. */
function exactInteger(name: string, line: string): bigint | undefined {
  const field = name.split(".").at(-1);
  const digits = line.match(new RegExp(`"${field}"\\s*:\\s*(\\d+)\\s*[,}]`))?.[1];
  return digits === undefined ? undefined : BigInt(digits);
}

function excerpt(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
}

function csvParser(threadIsGiven: boolean): LineParser {
  let header: string[] | undefined;
  let thread = -1;
  let counts: { at: number; name: string }[] = [];
  return (line) => {
    const row = csvRow(line);
    if (!header) {
      header = row;
      const either = (own: string, azure: string) => {
        const name = row.includes(own) ? own : azure;
        if (row.includes(name)) return { at: row.indexOf(name), name };
        throw new RecordError(`no column ${own} or ${azure}, expected a header that names the columns; found ${row.join(",").slice(0, 2 * SHOWN)}`);
      };
      counts = [either("prompt_tokens", "ContextTokens"), either("completion_tokens", "GeneratedTokens")];
      thread = row.indexOf("thread_id");
      if (thread < 0 && !threadIsGiven) {
        throw new RecordError('no column thread_id, expected one; or name a thread under "Thread of records without one"');
      }
      return undefined;
    }
    if (row.length !== header.length) throw new RecordError(`fields: ${row.length}, expected ${header.length} as in the header`);
    const [promptTokens, completionTokens] = counts.map(({ at, name }) => csvCount(row[at]!, name)) as [Tokens, Tokens];
    return { threadId: thread < 0 ? undefined : row[thread], promptTokens, completionTokens };
  };
}

function csvCount(text: string, name: string): Tokens {
  const count = /^\+?\d{1,20}$/.test(text) ? BigInt(text.replace("+", "")) : undefined;
  if (count === undefined || count > LARGEST) throw new RecordError(`${name} is ${JSON.stringify(text)}, ${COUNT_EXPECTED}`);
  return count <= Number.MAX_SAFE_INTEGER ? Number(count) : count;
}

/** The fields of a row. A field in quotes may hold commas, but ends on its line: usage has no line breaks. */
function csvRow(line: string): string[] {
  if (!line.includes('"')) return line.split(",").map((field) => field.trim());
  const fields: string[] = [];
  const field = /\s*(?:"((?:[^"]|"")*)"\s*|([^,"]*))(,|$)/y;
  for (;;) {
    const match = field.exec(line);
    if (!match) throw new RecordError("a quoted field does not end on its line, expected CSV text");
    fields.push(match[1]?.replaceAll('""', '"') ?? match[2]!.trim());
    if (match[3] === "") return fields;
  }
}
