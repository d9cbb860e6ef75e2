// Which files does the formatter own?

/** TypeScript and JavaScript, wherever it is; what is built or installed is skipped through `.gitignore`. */
export const scriptFiles = ['**/*.{ts,mts,cts,js,mjs,cjs}'];

/** Cargo workspaces: the product, and the load generator that shares nothing with it. */
export const cargoManifests = ['Cargo.toml', 'bench/load/Cargo.toml'];
