import type { Consumed, Held } from "../build/component/interfaces/thread-budget-registry-types.js";
import type { Desk } from "./desk.js";
import { InstanceLostError } from "./errors.js";
import { isRefusal } from "./instance.js";
import {
  PolicyLostError,
  type Action,
  type Event,
  type FailureKind,
  type Header,
  type Hold,
  type HoldName,
  type Kept,
  type LogEntry,
  type Next,
  type ProviderRequest,
  type RegistryError,
  type Response,
  type Settle,
  type Step,
} from "./policy.js";

/** What an exchange costs that was sent and whose answer nobody knows. */
export type LostCalls = "prompt" | "all" | "nothing";

/** A provider, as the settings have it. */
export interface Upstream {
  url: string;
  key_env?: string | undefined;
}

/** What exchanges of a client have in common. */
export interface Setting {
  readonly desk: Desk;
  readonly upstreams: readonly Upstream[];
  readonly lostCalls: LostCalls;
  /** What an environment variable says. */
  readonly variable: (name: string) => string | undefined;
  readonly log: (entry: LogEntry) => void;
}

/** A client's request. */
export interface Asked {
  readonly method: string;
  /** The path and the query, as clients of a router write it: it begins with `/v1`. */
  readonly target: string;
  readonly headers: Headers;
  readonly body: Uint8Array<ArrayBuffer>;
  /** Whether the body is longer than it may be. */
  readonly isTooLong: boolean;
  /** What stands for the body where two are compared. */
  readonly hash: string;
}

/** What the registry keeps for an attempt at a provider. */
interface Attempt extends HoldName {
  promptTokens: bigint;
  completionTokens: bigint;
  /** The completion tokens before the latest increase, which are used for sure. */
  completionBefore: bigint;
  isSent: boolean;
}

/** Headers that concern one connection, or the length of one message. */
const HOP_BY_HOP = [
  "connection",
  "content-length",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
];

/**
 * A request to an LLM provider and its answer. The policy says what is to be done. What concerns the registry is done here;
 * `next` says what has to be done with bytes and time, and `tell` what came of it.
 */
export class Exchange {
  /** `send`, `read` or `wait`, until it is `done`. */
  next: Next = { tag: "done" };
  /** What the client gets, once that is decided. */
  response: Response | undefined;
  /** What is to be given now of a response that is a stream. */
  pieces: Uint8Array[] = [];
  readonly #setting: Setting;
  readonly #step: Step;
  readonly #asked: Asked;
  #answerHeaders = new Headers();
  #attempt: Attempt | undefined;
  #recalled: Kept | undefined;
  #claimed: string | undefined;

  constructor(setting: Setting, step: Step, asked: Asked) {
    this.#setting = setting;
    this.#step = step;
    this.#asked = asked;
  }

  /** The client's request. */
  begin(): void {
    const { method, target, headers, body, isTooLong } = this.#asked;
    this.#setting.desk.chargeOverdue();
    this.tell({
      tag: "request",
      val: {
        id: crypto.randomUUID(),
        chance: crypto.getRandomValues(new BigUint64Array(1))[0]!,
        date: new Date().toISOString().slice(0, 10),
        method,
        target,
        headers: lines(headers),
        body: isTooLong ? { tag: "too-long" } : { tag: "whole", val: body },
      },
    });
  }

  /** A provider answers. */
  answered(status: number, headers: Headers, body: Uint8Array): void {
    this.#answerHeaders = forwarded(headers);
    this.tell({ tag: "answer", val: { status, headers: lines(this.#answerHeaders), body } });
  }

  /** There will be no answer, or no more of it. */
  failed(kind: FailureKind, receivedBytes: number, reason: string): void {
    this.tell({ tag: "failed", val: { kind, receivedBytes: BigInt(receivedBytes), reason } });
  }

  /** Something has happened: do what is to be done here, until something is to be done with bytes or time. */
  tell(event: Event): void {
    let came: Event | undefined = event;
    while (came) {
      let turn;
      try {
        turn = this.#step(came);
      } catch (error) {
        this.#over();
        throw error;
      }
      for (const action of turn.actions) this.#act(action);
      this.next = turn.next;
      came = this.#here(turn.next);
    }
    if (this.next.tag === "done") this.#over();
  }

  /** The client is gone: what was used is counted, and what the policy still wants done with bytes is not done. */
  leave(): void {
    let kind: FailureKind = "lost";
    try {
      while (this.next.tag !== "done") {
        this.tell({ tag: "left" });
        if (this.nextTag === "resume") this.failed(kind, 0, "the client has left");
        // Whatever is to be sent from now on is not.
        kind = "unsent";
      }
    } catch (error) {
      if (!(error instanceof PolicyLostError)) throw error;
      this.#setting.log({ level: "error", text: error.message });
    }
  }

  /** What is next, by its name. */
  get nextTag(): Next["tag"] {
    return this.next.tag;
  }

  /** The headers and the body of a request that is to be sent, and is on its way from now on. */
  order(terms: ProviderRequest): { headers: Headers; body: Uint8Array<ArrayBuffer> } {
    const upstream = this.#setting.upstreams[terms.upstream];
    if (!upstream || new URL(terms.url).origin !== new URL(upstream.url).origin) {
      throw new PolicyLostError(`it wants to send to ${terms.url}, which is no upstream`);
    }
    const headers = changed(forwarded(this.#asked.headers), ["host", ...terms.remove], terms.set);
    if (terms.key) {
      const { variable, header, prefix } = terms.key;
      if (variable !== upstream.key_env) throw new PolicyLostError(`it wants a key that is not the upstream's: ${variable}`);
      headers.set(header, prefix + this.#setting.variable(variable));
    }
    if (this.#attempt) this.#attempt.isSent = true;
    return { headers, body: (terms.body as Uint8Array<ArrayBuffer> | undefined) ?? this.#asked.body };
  }

  /** The headers of the response. */
  headersOf({ passed, remove, set }: Response): Headers {
    return changed(passed ? new Headers(this.#answerHeaders) : new Headers(), remove, set);
  }

  /** Do what is done at once. */
  #act(action: Action): void {
    const { desk, log } = this.#setting;
    switch (action.tag) {
      case "respond":
        this.response = action.val;
        return;
      case "bytes":
        this.pieces.push(action.val);
        return;
      case "release":
        this.#ends(action.val);
        return desk.release(action.val);
      case "keep":
        this.#attempt = undefined;
        return desk.keep(action.val);
      case "acknowledge":
        return desk.acknowledge(action.val.threadId, action.val.warnings);
      case "unidentified":
        return log({ level: "warn", text: `${action.val}: the request names no thread, so no budget applies to it` });
      case "log":
        return log(action.val);
    }
  }

  /** What comes of what is done here; nothing where it is not. */
  #here(next: Next): Event | undefined {
    const { desk } = this.#setting;
    switch (next.tag) {
      case "claim": {
        const conflict = desk.claim(next.val, this.#asked.hash);
        if (conflict) return { tag: "not-claimed", val: conflict };
        this.#claimed = next.val;
        return { tag: "claimed" };
      }
      case "recall":
        return { tag: "recalled", val: (this.#recalled = desk.recall(next.val)) };
      case "hold":
        return told(
          () => ({ tag: "held", val: this.#hold(next.val) }),
          (val) => ({ tag: "not-held", val }),
        );
      case "settle":
        return told(
          () => ({ tag: "settled", val: this.#settle(next.val) }),
          (val) => ({ tag: "not-settled", val }),
        );
      default:
        return undefined;
    }
  }

  #hold(asked: Hold): Held {
    const held = this.#setting.desk.hold(asked);
    const { threadId, requestId, promptTokens, completionTokens } = asked;
    const current = this.#attempt;
    const isSame = current?.threadId === threadId && current.requestId === requestId;
    const before = isSame ? current : { completionTokens: 0n, completionBefore: 0n, isSent: false };
    // Whoever asks for more has used what there was.
    const surelyUsed = completionTokens > before.completionTokens ? before.completionTokens : before.completionBefore;
    const now = held.completionTokens;
    this.#attempt = held.repeated
      ? undefined
      : {
          threadId,
          requestId,
          promptTokens,
          completionTokens: now,
          completionBefore: surelyUsed < now ? surelyUsed : now,
          isSent: before.isSent,
        };
    return held;
  }

  #settle(used: Settle): Consumed {
    this.#ends(used);
    return this.#setting.desk.settle(used);
  }

  /** The hold of that name ends. Should it be the one that was recalled, it stays no longer. */
  #ends({ threadId, requestId }: HoldName): void {
    this.#attempt = undefined;
    const kept = this.#recalled;
    if (kept?.hold.threadId === threadId && kept.hold.requestId === requestId) {
      this.#setting.desk.ended(kept);
      this.#recalled = undefined;
    }
  }

  /**
   * It is over. What is held although nothing was decided is settled as a lost call, or released if nothing was sent.
   */
  #over(): void {
    const { desk, lostCalls } = this.#setting;
    this.next = { tag: "done" };
    if (this.#claimed !== undefined) desk.giveBack(this.#claimed);
    this.#claimed = undefined;
    const attempt = this.#attempt;
    this.#attempt = undefined;
    if (!attempt) return;
    if (!attempt.isSent || lostCalls === "nothing") return desk.release(attempt);
    const completionTokens = lostCalls === "all" ? attempt.completionTokens : attempt.completionBefore;
    told(
      () => ({ tag: "settled", val: desk.settle({ ...attempt, completionTokens, remember: false }) }),
      (val) => ({ tag: "not-settled", val }),
    );
  }
}

/** What the registry says to a call. */
function told(call: () => Event, refused: (error: RegistryError) => Event): Event {
  try {
    return call();
  } catch (error) {
    if (isRefusal(error)) return refused(error);
    if (error instanceof InstanceLostError) return { tag: "unavailable", val: error.message };
    throw error;
  }
}

/** Headers as the policy reads them, a line each. */
function lines(headers: Headers): Uint8Array {
  return Uint8Array.from([...headers].map(([name, value]) => `${name}: ${value}\n`).join(""), (letter) => letter.charCodeAt(0));
}

/** Headers without those that concern one connection only. */
function forwarded(headers: Headers): Headers {
  const named = (headers.get("connection") ?? "").split(",").map((name) => name.trim().toLowerCase());
  const kept = [...headers].filter(([name]) => !HOP_BY_HOP.includes(name) && !named.includes(name));
  return new Headers(kept);
}

/** Headers without some, and with others in their place or as well. */
function changed(headers: Headers, remove: readonly string[], set: readonly Header[]): Headers {
  for (const name of remove) headers.delete(name);
  for (const { name, value } of set) headers.set(name, value);
  return headers;
}
