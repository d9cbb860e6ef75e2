// What does a Containerfile ask for? The few instructions that an image of one static binary needs, and no others.
//
// They mean here what they mean to an engine, so that both make the same image of the same file. What is not known is
// refused: skipping it would make another image than the one that was written down.

import { Failure } from './run.mjs';

/**
 * Reads a Containerfile: `copies` are files with their place in the image, the rest is the configuration of the image
 * as OCI spells it.
 *
 * @throws {Failure} for an instruction or a form that is not known, with its line
 */
export function readContainerfile(text) {
  const image = { copies: [], config: {} };
  for (const [index, line] of text.split('\n').entries()) {
    const trimmed = line.trim();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    const [, instruction, rest] = /^(\S+)\s*(.*)$/.exec(trimmed);
    const read = instructions[instruction];
    if (!read?.(image, rest)) {
      throw new Failure(`Containerfile:${index + 1}: ${trimmed}: this is not made without an engine`);
    }
  }
  return image;
}

/** Each gives whether it knows the form. */
const instructions = {
  FROM: (_, base) => base === 'scratch',
  COPY({ copies }, words) {
    const [from, to, ...more] = words.split(/\s+/);
    if (!from || !to?.startsWith('/') || more.length > 0 || from.startsWith('--')) return false;
    copies.push({ from, to: to.slice(1) });
    return true;
  },
  USER({ config }, user) {
    config.User = user;
    return /^\d+:\d+$/.test(user);
  },
  EXPOSE({ config }, words) {
    const ports = words.split(/\s+/);
    config.ExposedPorts = Object.fromEntries(ports.map((port) => [`${port}/tcp`, {}]));
    return ports.every((port) => /^\d+$/.test(port));
  },
  ENTRYPOINT({ config }, list) {
    try {
      config.Entrypoint = JSON.parse(list);
    } catch {
      return false; // The form that needs a shell.
    }
    return true;
  },
};
