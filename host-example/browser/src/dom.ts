/** What every part of the page builds its elements with. */

/** The element of that id, which index.html has. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element as T;
}

/** A new element with attributes and children. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Pairs of a term and a figure, some of a kind that has a colour. */
export function figures(pairs: readonly (readonly [term: string, figure: string, kind?: string])[]): HTMLElement[] {
  return pairs.map(([term, figure, kind]) =>
    make("div", kind ? { "data-kind": kind } : {}, make("dt", {}, term), make("dd", {}, figure)),
  );
}

const numbers = new Intl.NumberFormat("en");

export function formatTokens(tokens: number | bigint): string {
  return numbers.format(tokens);
}

/** A message of the feed: from whom, of which kind, and the text. */
export function message(kind: string, threadId: string, text: string): HTMLLIElement {
  return make("li", { class: "message", "data-kind": kind }, make("b", {}, threadId), make("em", {}, kind), make("span", {}, text));
}
