/** The recording as a picture: tokens over time, what was played in colour, warnings above. */
import { COLUMNS, type Replay } from "./replay.js";

/** Rows of marks, from the top; they have to fit above the bars. */
const MARKS = ["refused", "final", "critical", "warning"] as const;
const MARK_ROW = 9;
const MARKS_HEIGHT = MARKS.length * MARK_ROW + 8;

export class Timeline {
  readonly #canvas: HTMLCanvasElement;

  constructor(canvas: HTMLCanvasElement, onResize: () => void) {
    this.#canvas = canvas;
    new ResizeObserver(onResize).observe(canvas);
  }

  draw(replay: Replay): void {
    const canvas = this.#canvas;
    const scale = devicePixelRatio;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
    if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
    const context = canvas.getContext("2d")!;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);

    const style = getComputedStyle(canvas);
    const { prompt, completion } = replay.columns;
    const { position, marks } = replay.progress;
    const played = (position / replay.records.length) * COLUMNS;
    const most = prompt.reduce((most, tokens, at) => Math.max(most, tokens + completion[at]!), 1);
    const step = width / COLUMNS;
    const gap = step > 3 ? 1 : 0;
    const bars = height - MARKS_HEIGHT;

    const colour = (name: string) => style.getPropertyValue(name);
    const used = resolve(canvas, colour("--used"));
    const accent = resolve(canvas, colour("--accent"));
    const track = resolve(canvas, colour("--line"));
    for (let at = 0; at < COLUMNS; at++) {
      const isPlayed = at < played;
      const promptHeight = (prompt[at]! / most) * bars;
      const completionHeight = (completion[at]! / most) * bars;
      context.fillStyle = isPlayed ? used : track;
      context.fillRect(at * step, height - promptHeight, step - gap, promptHeight);
      context.fillStyle = isPlayed ? accent : track;
      context.fillRect(at * step, height - promptHeight - completionHeight, step - gap, completionHeight);
    }
    MARKS.forEach((kind, row) => {
      context.fillStyle = resolve(canvas, colour(kind === "refused" ? "--ink" : `--${kind}`));
      marks[kind].forEach((count, at) => {
        if (count === 0) return;
        context.beginPath();
        context.arc((at + 0.5) * step, 8 + row * MARK_ROW, Math.min(4, 1.8 + count * 0.4), 0, 2 * Math.PI);
        context.fill();
      });
    });
    context.fillStyle = resolve(canvas, colour("--ink"));
    context.fillRect(Math.min(width - 2, played * step), 0, 2, height);
  }
}

/** A colour of the page as one that a canvas understands, `light-dark()` resolved. */
function resolve(canvas: HTMLCanvasElement, colour: string): string {
  canvas.style.color = colour;
  return getComputedStyle(canvas).color;
}
