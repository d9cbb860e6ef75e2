// Which files does the formatter own?

/** TypeScript and JavaScript, wherever it is; what is built or installed is skipped through `.gitignore`. */
export const scriptFiles = ['**/*.{ts,mts,cts,js,mjs,cjs}'];

/** Cargo workspaces: the product, and what shares nothing with it: the load generator and the fuzz targets. */
export const cargoManifests = ['Cargo.toml', 'bench/load/Cargo.toml', 'fuzz/Cargo.toml'];
