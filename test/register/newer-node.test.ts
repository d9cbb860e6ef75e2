// Do programs of newer Node, which follows HTTP_PROXY itself where it is told to, get on with what `mesh up` tells them?

import test from 'ava';
import { newerNodes } from '../support/nodes.js';
import {
  BODY,
  EXPECTED,
  PASSED,
  PASSED_ON,
  REQUESTS,
  WITH_DOT,
  WITH_DOT_SEEN,
  program,
  world,
} from './support.js';

if (newerNodes.size === 0) test.skip('there is no other Node here', () => {});

for (const [version, node] of newerNodes) {
  for (const asks of ['1', '0']) {
    test(`http, https and fetch of Node ${version} with NODE_USE_ENV_PROXY=${asks} reach the names of the mesh`, async (t) => {
      const mesh = await world(t, { trustedNetworks: ['127.0.0.1'] });
      const proxy = `http://${mesh.sidecar.address()}`;
      const env = {
        ...mesh.env,
        NODE_USE_ENV_PROXY: asks,
        HTTP_PROXY: proxy,
        http_proxy: proxy,
        NO_PROXY: '127.0.0.1,localhost',
        no_proxy: '127.0.0.1,localhost',
        // Node 22 says that its own support is experimental.
        NODE_NO_WARNINGS: '1',
      };
      const modules = `import http from 'node:http'; import https from 'node:https';`;
      const calls = `${modules} ${BODY} ${REQUESTS} await main();`;
      t.deepEqual(await program(t, { env }, calls, { node }), EXPECTED);
      const passed = `${modules} ${BODY} ${PASSED_ON} await passed();`;
      t.deepEqual(await program(t, { env }, passed, { node }), PASSED);
      t.deepEqual(await program(t, { env }, `${modules} ${BODY} ${WITH_DOT}`, { node }), WITH_DOT_SEEN);
      const outside = `${modules} ${BODY}
        const url = 'http://' + process.env.OUTSIDE;
        const answers = [await get(http, url + '/http'), await (await fetch(url + '/fetch')).text()];
        console.log(JSON.stringify(answers.map((each) => JSON.parse(each).url)));`;
      t.deepEqual(await program(t, { env }, outside, { node }), ['/http', '/fetch']);
    });
  }
}
