// npm's `prepare`: does the package need to be whole now?
//
// npm runs this after every `npm install` and `npm ci` in a clone, before `npm pack`, and when somebody installs straight
// from git. Only the last two need a build: in a clone `npm start`, `npm test` and `npm run build` make what they need
// themselves. A git dependency that cannot be built says so and does not fail, because an error here would undo the whole
// installation; a package without its core is never packed. What is published is made by `npm run pack`, for a package
// made here would hold one platform alone.

import { ensureNative, ensureTypeScript } from './lib/artefacts.mjs';
import { Failure, main, say } from './lib/run.mjs';
import { profile } from './lib/toolchain.mjs';

// npm sets this variable in the clone it makes of a git dependency.
const isGitDependency = process.env._PACOTE_NO_PREPARE_ !== undefined;
const command = process.env.npm_command;

await main(async () => {
  if (command === 'publish') throw new Failure('publish the packages that `npm run pack` makes');
  if (command === 'pack') return buildPackage();
  if (!isGitDependency) return undefined;
  try {
    return await buildPackage();
  } catch (error) {
    return say(`@mesh/proxy is installed without its native core: ${error.message}`);
  }
});

async function buildPackage() {
  await ensureTypeScript();
  await ensureNative(profile);
}
