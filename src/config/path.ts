/** How is a place in a configuration named? `listeners[0].routes[2].match.path`, `clusters["a b"]`. */

/** The keys and positions that lead to a value. */
export type Path = readonly (string | number)[];

const PLAIN_KEY = /^[A-Za-z_$][\w$-]*$/;

/** The text of a path; the whole is the empty text. */
export function renderPath(path: Path): string {
  return path
    .map((step, index) => {
      if (typeof step === 'number') return `[${step}]`;
      if (!PLAIN_KEY.test(step)) return `[${JSON.stringify(step)}]`;
      return index === 0 ? step : `.${step}`;
    })
    .join('');
}

/** The path of a text that the core wrote: plain keys and positions. */
export function parsePath(text: string): Path {
  return Array.from(text.matchAll(/[^.[\]]+/g), ([step]) => (/^\d+$/.test(step) ? Number(step) : step));
}

/** The value at a path, or undefined. */
export function valueAt(root: unknown, path: Path): unknown {
  let value = root;
  for (const step of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined;
    value = (value as Record<string | number, unknown>)[step];
  }
  return value;
}

/** The longest front part of a path that leads to something. */
export function existingPart(root: unknown, path: Path): Path {
  let length = path.length;
  while (length > 0 && valueAt(root, path.slice(0, length)) === undefined) length -= 1;
  return path.slice(0, length);
}
