// Which files do the formatters own, and the linters?

/** TypeScript and JavaScript, wherever it is; what is built or installed is skipped through `.gitignore`. */
export const scriptFiles = ['**/*.{ts,mts,cts,js,mjs,cjs}'];

/** The load generator's workspace, which has tests. */
export const loadManifest = 'bench/load/Cargo.toml';

/** Cargo workspaces: the product, and what shares nothing with it: the load generator and the fuzz targets. */
export const cargoManifests = ['Cargo.toml', loadManifest, 'fuzz/Cargo.toml'];
