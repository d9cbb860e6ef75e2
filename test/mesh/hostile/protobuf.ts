// How does a test write messages that no honest encoder would? Field by field.

/** A field: its number, and text, bytes (a message is bytes too) or a number. */
export type Field = readonly [number: number, value: string | Uint8Array | number];

/** A message of these fields, in this order. */
export function message(...content: readonly Field[]): Buffer {
  return Buffer.concat(
    content.flatMap(([number, value]) => {
      if (typeof value === 'number') return [varint(number * 8), varint(value)];
      const bytes = Buffer.from(value as string);
      return [varint(number * 8 + 2), varint(bytes.length), bytes];
    }),
  );
}

/** What a message holds, by field; only what {@link message} writes is read. */
export function fields(bytes: Buffer): Map<number, (Buffer | number)[]> {
  const found = new Map<number, (Buffer | number)[]>();
  let at = 0;
  const next = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes.readUInt8(at++);
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const key = next();
    const number = Math.floor(key / 8);
    const value = next();
    const list = found.get(number) ?? [];
    found.set(number, list);
    if (key % 8 === 0) list.push(value);
    else list.push(bytes.subarray(at, (at += value)));
  }
  return found;
}

/** The texts of a repeated field. */
export const texts = (from: ReturnType<typeof fields>, number: number): string[] =>
  (from.get(number) ?? []).map(String);

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  return Buffer.from([...bytes, rest]);
}
