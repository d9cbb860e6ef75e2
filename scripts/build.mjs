// npm run build [-- native | ts | wasm ...]: makes what is missing or stale; without a name the core and the package.
//
// `npm run build` leaves `target/release/mesh-sidecar`, `dist/native/` and `dist/`. WebAssembly has its own
// command because it needs a second Rust target.

import { ensureNative, ensureTypeScript, ensureWasm } from './lib/artefacts.mjs';
import { Failure, main, say } from './lib/run.mjs';
import { profile } from './lib/toolchain.mjs';

const makers = { native: () => ensureNative(profile), ts: ensureTypeScript, wasm: ensureWasm };

await main(async () => {
  const names = process.argv.length > 2 ? process.argv.slice(2) : ['native', 'ts'];
  for (const name of names) {
    const make = makers[name];
    if (!make) throw new Failure(`nothing is called ${name}: choose from ${Object.keys(makers).join(', ')}`);
    await make();
  }
  say(`built: ${names.join(', ')}`);
});
