/**
 * `npm start`: `mesh up` on the shop in `examples/shop/mesh.yaml`, with visitors.
 *
 * What is added to `mesh up`: a free port where one of the file's is taken, visitors at the front door as soon as it is
 * open, what to type, and the table in a pipe too.
 */

import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadCheckedMesh } from '../cli/check.js';
import { tellError } from '../cli/output.js';
import { processWorld } from '../cli/process-world.js';
import { endUnread } from '../cli/unread.js';
import { ANY_PORT, Up } from '../cli/up.js';
import { SOCKET } from '../mesh/admin/client.js';
import { takenPorts } from '../mesh/up/ports.js';
import { sidecarFile } from '../mesh/up/sidecar-file.js';
import { without } from './door.js';
import { Visitors } from './visitors.js';

const FILE = fileURLToPath(new URL('../../examples/shop/mesh.yaml', import.meta.url));
const FRONT = 'web';

/** A path as a person in this folder would type it. */
const typed = (file: string): string => path.relative('', file);

const world = processWorld();
let visitors: Visitors | undefined;

async function open(): Promise<number> {
  const core = await world.loadCore();
  const mesh = await loadCheckedMesh(FILE, core);
  const inUse = new Set((await takenPorts(mesh.compiled)).map(({ port }) => port));
  for (const port of inUse) {
    world.stdout.write(`127.0.0.1:${port} is in use by another program: taking a free port instead\n`);
  }
  const up = new Up({
    world,
    core,
    file: FILE,
    mesh,
    format: 'text',
    tableInPipes: true,
    adjust: (compiled) => without(inUse, compiled),
    opened: ({ copies }, say, answers) => {
      const places = copies.find(({ plan }) => plan.service.name === FRONT)?.places;
      if (!places) return;
      const page = `http://${places.inbound}/`;
      const socket = typed(path.join(path.dirname(FILE), SOCKET));
      say(`The shop is open:  curl ${page}`);
      say(`Its front's own:   curl http://${places.admin}/metrics`);
      // Where another one has the socket, it would be asked.
      if (answers) {
        say(`How services do:   npx mesh stat --socket ${socket}`);
        say(`Who calls whom:    npx mesh edges --socket ${socket}`);
      }
      say(`Ctrl-C drains and ends it. ${typed(FILE)}, the last ten seconds:`);
      visitors = new Visitors(page);
    },
    draining: () => visitors?.stop(),
  });
  return await up.run(await world.loadControlPlane(), sidecarFile(world.env), ANY_PORT);
}

try {
  process.exitCode = await open();
} catch (error) {
  process.exitCode = tellError(world, error, 'text');
} finally {
  visitors?.close();
  endUnread();
}
