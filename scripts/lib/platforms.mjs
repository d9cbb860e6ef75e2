// For which platforms is there a package with what is compiled, and what does npm call them?
//
// Targets of Rust, listed in package.json (`napi.targets`), mean packages with `os`, `cpu` and `libc`, by which npm
// installs the one that fits.

const CPUS = { x86_64: 'x64', aarch64: 'arm64' };
const LIBCS = { gnu: 'glibc', musl: 'musl' };

/** `x86_64-unknown-linux-gnu` is `{ name: 'linux-x64-gnu', os: 'linux', cpu: 'x64', libc: 'glibc' }`. */
export function platformOf(target) {
  const [architecture, , system, abi] = target.split('-');
  const cpu = CPUS[architecture];
  if (system === 'darwin') return { name: `darwin-${cpu}`, os: 'darwin', cpu };
  return { name: `${system}-${cpu}-${abi}`, os: system, cpu, libc: LIBCS[abi] };
}
