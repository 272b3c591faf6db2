import type { Exchange } from "./exchange.js";
import type { FailureKind, ProviderRequest, Response as Decided } from "./policy.js";

/** The longest that a timer may take, in milliseconds. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** Codings that `fetch` undoes, without taking them out of the headers. */
const UNDONE = new Set(["br", "deflate", "gzip", "identity", "x-gzip"]);

/** Errors by which nothing was sent. */
const UNSENT = new Set(["EAI_AGAIN", "ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "ENOTFOUND", "UND_ERR_CONNECT_TIMEOUT"]);

/** Statuses of responses that have no body. */
const BODILESS = new Set([204, 205, 304]);

/** There is no answer, or no more of it. */
class Failed extends Error {
  constructor(
    readonly kind: FailureKind,
    reason: string,
  ) {
    super(reason);
  }
}

/** Streams that nobody reads to their end, nor cancels. */
const forgotten = new FinalizationRegistry<Call>((call) => call.close());

/** A client's request on its way: its exchange, and the latest answer of a provider. */
export class Call {
  readonly #exchange: Exchange;
  readonly #fetch: typeof globalThis.fetch;
  readonly #method: string;
  readonly #init: RequestInit | undefined;
  /** By which the client leaves. */
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = () => this.close();
  /** Ends the latest attempt. */
  #attempt = new AbortController();
  /** The latest answer's body, as far as it is to be read. */
  #reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | undefined;
  /** All of it, where that was wanted. */
  #whole = new Uint8Array();
  #received = 0;
  #idleMs = 0;
  #isClosed = false;

  constructor(
    exchange: Exchange,
    fetch: typeof globalThis.fetch,
    method: string,
    init: RequestInit | undefined,
    signal: AbortSignal | undefined,
  ) {
    this.#exchange = exchange;
    this.#fetch = fetch;
    this.#method = method;
    this.#init = init;
    this.#signal = signal;
  }

  /** What the client gets. */
  async response(): Promise<Response> {
    const exchange = this.#exchange;
    this.#signal?.throwIfAborted();
    this.#signal?.addEventListener("abort", this.#onAbort);
    try {
      exchange.begin();
      while (exchange.nextTag !== "done" && exchange.response?.body.tag !== "pieces") await this.#carryOut();
    } catch (error) {
      this.close();
      throw error;
    }
    const decided = exchange.response;
    if (!decided) throw new Error("the policy gives no response");
    const body = this.#body(decided);
    if (!(body instanceof ReadableStream)) this.#end();
    return new Response(body, { status: decided.status, headers: exchange.headersOf(decided) });
  }

  /** The client needs no more: what was used is counted, and the connection is ended. */
  close(): void {
    this.#isClosed = true;
    this.#end();
    this.#exchange.leave();
    this.#dropAnswer();
  }

  /** Nobody reads the latest answer any further. */
  #dropAnswer(): void {
    this.#reader?.cancel().catch(() => {});
    this.#reader = undefined;
    this.#attempt.abort();
  }

  /** Nobody needs to hear any more that the client leaves. */
  #end(): void {
    this.#signal?.removeEventListener("abort", this.#onAbort);
    forgotten.unregister(this);
  }

  #body({ status, body }: Decided): Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array> | null {
    if (BODILESS.has(status)) return null;
    if (body.tag === "whole") return body.val as Uint8Array<ArrayBuffer>;
    if (body.tag === "received" && !this.#reader) return this.#whole;
    const next = body.tag === "pieces" ? () => this.#nextPiece() : () => this.#piece(this.#idleMs);
    // It does not refer to itself, so that it can be forgotten.
    const stream = new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          try {
            const piece = await next();
            if (piece) return controller.enqueue(piece);
            this.#end();
            controller.close();
          } catch (error) {
            this.close();
            controller.error(error);
          }
        },
        cancel: () => this.close(),
      },
      { highWaterMark: 0 },
    );
    forgotten.register(stream, this, this);
    return stream;
  }

  /** The next piece of a response that is a stream; nothing at its end. */
  async #nextPiece(): Promise<Uint8Array | undefined> {
    const exchange = this.#exchange;
    while (exchange.pieces.length === 0 && exchange.nextTag !== "done") await this.#carryOut();
    return exchange.pieces.shift();
  }

  // -- what the policy wants done with bytes and time

  /** Where the client has left, the exchange is over, and nothing more is told to it. */
  #checkThatItIsWanted(): void {
    this.#signal?.throwIfAborted();
    if (this.#isClosed) throw new DOMException("the response is no longer wanted", "AbortError");
  }

  async #carryOut(): Promise<void> {
    const exchange = this.#exchange;
    const { next } = exchange;
    try {
      if (next.tag === "send") {
        const { status, headers } = await this.#send(next.val);
        this.#checkThatItIsWanted();
        exchange.answered(status, headers, next.val.whole ? this.#whole : new Uint8Array());
      } else if (next.tag === "read") {
        const piece = await this.#piece(Number(next.val));
        this.#checkThatItIsWanted();
        exchange.tell(piece ? { tag: "piece", val: piece } : { tag: "ended" });
      } else if (next.tag === "wait") {
        await this.#within(Number(next.val), new Promise<never>(() => {})).catch(() => {});
        this.#checkThatItIsWanted();
        exchange.tell({ tag: "woke" });
      }
    } catch (error) {
      this.#checkThatItIsWanted();
      if (!(error instanceof Failed)) throw error;
      exchange.failed(error.kind, this.#received, error.message);
    }
  }

  async #send(terms: ProviderRequest): Promise<{ status: number; headers: Headers }> {
    this.#dropAnswer();
    this.#attempt = new AbortController();
    this.#received = 0;
    this.#whole = new Uint8Array();
    this.#idleMs = Number(terms.idleMs);
    const { headers, body } = this.#exchange.order(terms);
    const by = performance.now() + Number(terms.totalMs);
    const init = {
      ...this.#init,
      method: this.#method,
      headers,
      body: this.#method === "GET" || this.#method === "HEAD" ? null : body,
      signal: this.#attempt.signal,
    };
    const answer = await this.#within(Number(terms.connectMs) + Number(terms.headMs), this.#fetch(terms.url, init));
    this.#reader = (answer.body as ReadableStream<Uint8Array<ArrayBuffer>> | null)?.getReader();
    if (terms.whole) await this.#gather(Number(terms.mostBytes), by);
    const received = new Headers(answer.headers);
    const codings = (received.get("content-encoding") ?? "identity").split(",");
    if (codings.every((coding) => UNDONE.has(coding.trim().toLowerCase()))) received.delete("content-encoding");
    return { status: answer.status, headers: received };
  }

  /** Read all of an answer's body. */
  async #gather(most: number, by: number): Promise<void> {
    const pieces = [];
    for (let piece; (piece = await this.#piece(Math.min(this.#idleMs, by - performance.now()))); ) {
      if (this.#received > most) throw new Failed("too-long", `the answer is longer than ${most} bytes`);
      pieces.push(piece);
    }
    this.#reader = undefined;
    this.#whole = new Uint8Array(await new Blob(pieces).arrayBuffer());
  }

  /** The next piece of an answer's body; nothing at its end. */
  async #piece(withinMs: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
    for (;;) {
      const read = this.#reader ? await this.#within(withinMs, this.#reader.read()) : { done: true as const };
      if (read.done) return undefined;
      this.#received += read.value.length;
      if (read.value.length > 0) return read.value;
    }
  }

  /** What comes of something, within a time and as long as the client is there. */
  async #within<T>(ms: number, something: Promise<T>): Promise<T> {
    const attempt = this.#attempt;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let stop = () => {};
    try {
      const ended = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Failed("slow", "the answer took too long")), Math.min(Math.max(ms, 0), LONGEST_TIMER));
        stop = () => reject(new Failed("lost", "the attempt was ended"));
        attempt.signal.addEventListener("abort", stop);
      });
      return await Promise.race([something, ended]);
    } catch (error) {
      // Whoever lost the race is heard by nobody.
      something.catch(() => {});
      if (error instanceof Failed) throw error;
      throw failure(error);
    } finally {
      clearTimeout(timer);
      attempt.signal.removeEventListener("abort", stop);
    }
  }
}

/** What an error of `fetch` says of a request. */
function failure(error: unknown): Failed {
  const cause = error instanceof Error ? error.cause : undefined;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  return new Failed(UNSENT.has(code) ? "unsent" : "lost", [error, cause].filter(Boolean).join(": "));
}
