/** The replay part of the page: a file in, a timeline that plays, and what came of it. */
import { byId, figures, formatTokens, make, message } from "./dom.js";
import { Gauge } from "./gauge.js";
import { RecordError, readRecords } from "./recording.js";
import { Replay, SHARES } from "./replay.js";
import { sampleFile } from "./sample.js";
import { Timeline } from "./timeline.js";

/** Of each frame, for the component; the rest is for the page. */
const SEEK_MS = 8;
/** What a recording should take to play, at the speed that is chosen for it. */
const PLEASANT_SECONDS = 14;

const lessMotion = matchMedia("(prefers-reduced-motion: reduce)");

export class Player {
  readonly #timeline: Timeline;
  readonly #file = byId<HTMLInputElement>("file");
  readonly #limit = byId<HTMLInputElement>("limit");
  readonly #thread = byId<HTMLInputElement>("thread");
  readonly #enforce = byId<HTMLInputElement>("enforce");
  readonly #speed = byId<HTMLSelectElement>("speed");
  readonly #scrub = byId<HTMLInputElement>("scrub");
  readonly #play = byId<HTMLButtonElement>("play");
  readonly #gauges: { item: HTMLLIElement; name: HTMLElement; numbers: HTMLElement; gauge: Gauge }[] = [];
  #replay: Replay | undefined;
  #source: File | undefined;
  #playing = false;
  /** Where to, in records; a fraction while playing. */
  #target = 0;
  #lastFrame = 0;
  #frame = 0;
  /** Counts loads, so that one that was overtaken shows nothing. */
  #loads = 0;

  constructor() {
    this.#timeline = new Timeline(byId<HTMLCanvasElement>("timeline"), () => this.redraw());
    byId("shares").append(...Array.from({ length: SHARES }, () => make("i")));

    this.#file.addEventListener("change", () => {
      const file = this.#file.files?.[0];
      if (file) void this.#load(file);
      // So that choosing the same file again, mended, is a change.
      this.#file.value = "";
    });
    byId("sample").addEventListener("click", () => void this.#load(sampleFile()));
    this.#listenForDrops(byId("replay"));

    byId("settings").addEventListener("submit", (event) => event.preventDefault());
    this.#limit.addEventListener("change", () => this.#restart());
    this.#enforce.addEventListener("change", () => this.#restart());
    this.#thread.addEventListener("change", () => this.#source && void this.#load(this.#source));
    this.#play.addEventListener("click", () => (this.#playing ? this.#pause() : this.#start()));
    this.#scrub.addEventListener("input", () => {
      this.#pause();
      this.#go(this.#scrub.valueAsNumber);
    });
  }

  /** Draw what is, in the colours and size of now. */
  redraw(): void {
    if (this.#replay) this.#timeline.draw(this.#replay);
  }

  #listenForDrops(area: HTMLElement): void {
    const drop = byId("drop");
    area.addEventListener("dragover", (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
    area.addEventListener("dragleave", () => drop.classList.remove("over"));
    area.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      const file = event.dataTransfer?.files[0];
      if (file) void this.#load(file);
    });
  }

  async #load(file: File): Promise<void> {
    const load = ++this.#loads;
    this.#pause();
    this.#source = file;
    const loading = byId("loading");
    const problem = byId("problem");
    problem.hidden = true;
    loading.hidden = false;
    loading.textContent = `Reading ${file.name}…`;
    try {
      const records = await readRecords(file, this.#thread.value, (share) => {
        if (load === this.#loads) loading.textContent = `Reading ${file.name}, ${Math.floor(share * 100)} %…`;
      });
      if (load !== this.#loads) return;
      const speeds = [...this.#speed.options].map(({ value }) => Number(value));
      this.#speed.value = String(speeds.find((speed) => records.length / speed <= PLEASANT_SECONDS) ?? speeds.at(-1));
      this.#set(new Replay(records, this.#settings()));
      byId("player").hidden = false;
      loading.textContent = `${file.name}: ${formatTokens(records.length)} ${records.length === 1 ? "record" : "records"}.${lessMotion.matches ? " Your system asks for less motion, so play goes straight to the end." : ""}`;
      this.#play.focus();
      this.#go(0);
    } catch (error) {
      if (load !== this.#loads) return;
      loading.hidden = true;
      problem.textContent = error instanceof RecordError ? error.message : `${file.name} cannot be read: ${(error as Error).message}`;
      problem.hidden = false;
      byId("player").hidden = true;
      this.#replay = undefined;
    }
  }

  #settings() {
    return { maxTokensPerThread: this.#limit.valueAsNumber, enforce: this.#enforce.checked };
  }

  /** The same records under other settings, up to where it was. */
  #restart(): void {
    if (!this.#replay || !this.#limit.checkValidity()) return;
    this.#set(new Replay(this.#replay.records, this.#settings()));
    this.#go(this.#target);
  }

  #set(replay: Replay): void {
    this.#replay = replay;
    this.#scrub.max = String(replay.records.length);
  }

  #start(): void {
    if (!this.#replay) return;
    const end = this.#replay.records.length;
    if (lessMotion.matches) {
      this.#go(end);
      return;
    }
    if (this.#target >= end) this.#target = 0;
    this.#playing = true;
    this.#play.textContent = "Pause";
    this.#lastFrame = performance.now();
    this.#go(this.#target);
  }

  #pause(): void {
    this.#playing = false;
    this.#play.textContent = "Play";
  }

  #go(target: number): void {
    this.#target = target;
    if (!this.#frame) this.#frame = requestAnimationFrame((now) => this.#tick(now));
  }

  #tick(now: number): void {
    this.#frame = 0;
    const replay = this.#replay;
    if (!replay) return;
    const end = replay.records.length;
    if (this.#playing) {
      this.#target = Math.min(end, this.#target + (Math.max(0, now - this.#lastFrame) / 1_000) * Number(this.#speed.value));
      this.#lastFrame = now;
    }
    const reached = replay.seek(Math.floor(this.#target), SEEK_MS);
    if (this.#playing && this.#target >= end && reached) this.#pause();
    this.#show(replay);
    if (this.#playing || !reached) this.#go(this.#target);
  }

  #show(replay: Replay): void {
    const { position, prompt, completion, warnings, refused, threads, shares, largest, messages } = replay.progress;
    this.#scrub.value = String(position);
    const where = `${formatTokens(position)} of ${formatTokens(replay.records.length)} records`;
    this.#scrub.setAttribute("aria-valuetext", where);
    byId("where").textContent = where;
    byId("stats").replaceChildren(
      ...figures([
        ["threads", formatTokens(threads.size)],
        ["prompt tokens", formatTokens(prompt)],
        ["completion tokens", formatTokens(completion)],
        ["warning", formatTokens(warnings.warning), "warning"],
        ["critical", formatTokens(warnings.critical), "critical"],
        ["final", formatTokens(warnings.final), "final"],
        ["refused", formatTokens(refused), "refused"],
      ]),
    );
    this.#showLargest(largest, replay.settings.maxTokensPerThread);
    const most = Math.max(...shares, 1);
    [...byId("shares").children].forEach((bar, at) => {
      // The root of it: most threads are small, and the few that are not are the ones to see.
      (bar as HTMLElement).style.height = `${Math.sqrt(shares[at]! / most) * 100}%`;
    });
    const warned = shares.slice(15).reduce((sum, count) => sum + count, 0);
    byId("shares-text").textContent = `${formatTokens(warned)} of ${formatTokens(threads.size)} threads have used 75 % or more, ${formatTokens(shares.at(-1)!)} all of it.`;
    byId("latest").replaceChildren(...messages.slice(0, 4).map(({ severity, threadId, text }) => message(severity, threadId, text)));
    this.#timeline.draw(replay);
  }

  #showLargest(largest: Replay["progress"]["largest"], limit: number): void {
    while (this.#gauges.length < largest.length) {
      const gauge = new Gauge(true);
      const name = make("span");
      const numbers = make("span", { class: "numbers" });
      const item = make("li", {}, make("div", { class: "thread-head" }, name, numbers), gauge.element);
      this.#gauges.push({ item, name, numbers, gauge });
      byId("largest").append(item);
    }
    this.#gauges.forEach(({ item, name, numbers, gauge }, at) => {
      const thread = largest[at];
      item.hidden = !thread;
      if (!thread) return;
      const { threadId, totalTokens, percentUsed, severity } = thread;
      name.textContent = threadId;
      numbers.replaceChildren(make("b", {}, `${formatTokens(Math.round(percentUsed))} %`), ` ${formatTokens(totalTokens)}`);
      gauge.show(threadId, percentUsed, totalTokens, 0, limit, totalTokens >= limit ? "exhausted" : (severity ?? ""));
    });
  }
}
